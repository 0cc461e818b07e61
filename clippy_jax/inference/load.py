"""From a checkpoint of any kind to a `Model`."""

from clippy_jax.errors import InputError
from clippy_jax.inference.model import Model
from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from clippy_jax.weights.load import load_checkpoint

HUB_TOKENIZER = "sentence-transformers/sentence-t5-base"


def load_model(checkpoint: str, tokenizer: str | None = None) -> Model:
    """Loads a model onto all devices.

    Args:
      checkpoint: a CLIPpy file (`.pt`, `.safetensors`), a converted folder, or the workdir of a run.
      tokenizer: a folder with `spiece.model` or `tokenizer.json`; by default the one that the checkpoint carries, or
        the published Sentence-T5's from the Hugging Face hub for a file that carries none.

    Raises:
      InputError: one of them is missing or not what it should be.
    """
    loaded = load_checkpoint(checkpoint, with_moments=False)
    folder = tokenizer or loaded.tokenizer or _download_tokenizer(checkpoint)
    return Model(loaded.params, loaded.config, load_tokenizer(folder), loaded.image_size)


def _download_tokenizer(checkpoint: str) -> str:
    """The hub's copy; reached only where no local tokenizer is given."""
    import huggingface_hub  # here because a local tokenizer needs no hub

    try:
        return huggingface_hub.snapshot_download(HUB_TOKENIZER, allow_patterns=["spiece.model", "tokenizer.json"])
    except Exception as error:
        raise InputError(
            f"{checkpoint} carries no tokenizer and {HUB_TOKENIZER} cannot be fetched ({type(error).__name__}); "
            "add --tokenizer=FOLDER with spiece.model or tokenizer.json"
        ) from error
