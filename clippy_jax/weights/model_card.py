"""The model card that a model carries on the Hugging Face hub: what it is, its use, its figures, its recipe."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clippy_jax.config import values_by_name
from clippy_jax.errors import InputError, reading
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.parameter_digest import parameter_digest

PAPER = "https://arxiv.org/abs/2210.09996"
# What a recipe is known by: everything that the numbers depend on, and no path of the machine that it ran on.
_RECIPE = ("config.input.", "config.loss.", "config.optimizer.", "config.schedule.", "config.seed")
_PATHS = ("train", "tokenizer", "index_folder", "image_features")
# What the hub calls the tasks of evaluations; all others segment.
_TASK_TYPES = {
    **dict.fromkeys(("imagenet", "imagenet_v2", "wds", "waterbirds"), "zero-shot-image-classification"),
    **dict.fromkeys(("knn", "linear_probe"), "image-classification"),
    "retrieval": "image-text-retrieval",
}


def read_figures(path: str | os.PathLike, checkpoint: Checkpoint) -> dict[str, Any]:
    """The results of `clippy_jax.evaluate --output`, which must be of these weights.

    Raises:
      InputError: the file cannot be read, holds no such results, or those of other weights.
    """
    with reading(path, "give what `clippy-jax evaluate --output` wrote"):
        results = json.loads(Path(path).read_text("utf-8"))
        digests = {name: result["checkpoint_digest"] for name, result in results.items()}
        _figure_table(results)  # which reads all that a card will
    digest = parameter_digest(checkpoint.params)
    others = [name for name, of in digests.items() if of != digest]
    if others:
        raise InputError(f"{path} holds figures of other weights ({', '.join(others)}); evaluate this checkpoint")
    return results


def model_card(
    repository: str, checkpoint: Checkpoint, licence: str, figures: Mapping[str, Any], recipe: Mapping[str, Any]
) -> str:
    """The text of a repository's README.md.

    Args:
      repository: its name on the hub.
      checkpoint: the model.
      licence: of the weights, as the hub calls it.
      figures: as `read_figures` gives them; may be empty.
      recipe: the configuration that the run which made the weights has saved; empty where none is known.
    """
    from huggingface_hub import EvalResult, ModelCardData  # here, since it takes a while

    results = [
        EvalResult(
            task_type=_TASK_TYPES.get(name.partition("/")[0], "image-segmentation"),
            task_name=name,
            dataset_type=name,
            dataset_name=name,
            dataset_split=result["split"],
            metric_type=figure,
            metric_name=figure,
            metric_value=result[figure],
        )
        for name, result in figures.items()
        for figure in result["intervals"]
    ]
    data = ModelCardData(
        language="en",
        license=licence,
        library_name="clippy_jax",
        pipeline_tag="zero-shot-image-classification",
        tags=["clippy", "clip", "jax", "flax", "zero-shot-image-classification", "image-segmentation"],
        model_name=repository,
        eval_results=results or None,
    )
    parts = [f"---\n{data.to_yaml()}\n---", _about(repository, checkpoint), _figure_table(figures), _recipe(recipe)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _about(repository: str, checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    image, text = config.image, config.text
    return f"""# {repository.split("/")[-1]}

A CLIPpy ([Ranasinghe et al., *Perceptual Grouping in Contrastive Vision-Language Models*, ICCV 2023]({PAPER})): every
patch of an image answers to a prompt, so that words name pixels without a mask having been seen in training.

- image tower: ViT of {image.depth} blocks of {image.width} features, patches of {image.patch_size} pixels
- text tower: T5 of {text.depth} blocks of {text.width} features
- embeddings of {text.embedding_width} features, {config.pooling} pooling
- trained on images of {checkpoint.image_size} pixels
- parameters: `{parameter_digest(checkpoint.params)}`

```python
import clippy_jax

model = clippy_jax.load("hf-hub:{repository}")
patches, pooled = model.encode_image(["photo.jpg"])
labels = model.segment("photo.jpg", ["cat", "dog", "grass"])
```

The files are those of a converted folder: `params.safetensors`, `config.json`, `tokenizer/`. For the public PyTorch
code: `clippy-jax convert to-torch --checkpoint=hf-hub:{repository} --output=clippy.pt`."""


def _figure_table(figures: Mapping[str, Any]) -> str:
    rows = []
    for name, result in figures.items():
        for figure, (low, high) in result["intervals"].items():
            value = f"{100 * result[figure]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            where = f"{result['images']:,} images of {result['split']}"
            rows.append(f"| {name} | {figure} | {value} | {where} | {result['protocol']}; {result['resolution']} |")
    if not rows:
        return ""
    header = "| evaluation | figure | percent, with its 95 % interval | data | protocol |\n|---|---|---|---|---|"
    return "## Figures\n\n" + "\n".join([header, *rows])


def _recipe(recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    values = values_by_name(recipe)
    names = [name for name in values if name.startswith(_RECIPE) and name.rpartition(".")[2] not in _PATHS]
    lines = "\n".join(f"{name} = {values[name]!r}" for name in names)
    return f"## Recipe\n\nTrained by `clippy_jax.main` with\n\n```\n{lines}\n```"
