"""From a checkpoint of any kind to a `Model`."""

from clippy_jax.errors import InputError
from clippy_jax.inference.model import Model
from clippy_jax.input_pipeline.tokenizer import Tokenizer, load_tokenizer
from clippy_jax.mesh import make_mesh, move_whole
from clippy_jax.weights.load import load_checkpoint

HUB_TOKENIZER = "sentence-transformers/sentence-t5-base"


def load_model(checkpoint: str, tokenizer: str | None = None) -> Model:
    """Loads a model onto all devices.

    Args:
      checkpoint: a CLIPpy file (`.pt`, `.safetensors`), a converted folder, the workdir of a run, or a name on the
        Hugging Face hub (`hf-hub:ORG/NAME`).
      tokenizer: a folder with `spiece.model` or `tokenizer.json`, or a name on the Hugging Face hub; by default the
        one that the checkpoint carries, or the published Sentence-T5's from the hub for a file that carries none.

    Raises:
      InputError: one of them is missing or not what it should be.
    """
    loaded = load_checkpoint(checkpoint, with_moments=False)
    tokenizer, mesh = _tokenizer(tokenizer or loaded.tokenizer, checkpoint), make_mesh()
    return Model(move_whole(loaded.params, mesh), loaded.config, tokenizer, loaded.image_size, mesh)


def _tokenizer(folder: str | None, checkpoint: str) -> Tokenizer:
    try:
        return load_tokenizer(folder or HUB_TOKENIZER)
    except InputError as error:
        if folder:
            raise
        raise InputError(f"{checkpoint} carries no tokenizer, add --tokenizer=FOLDER; {error}") from error
