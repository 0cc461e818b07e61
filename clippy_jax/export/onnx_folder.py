"""`export onnx`: both towers as ONNX files, checked by onnxruntime before they are handed over."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import onnx
import onnxruntime

from clippy_jax.config import ModelConfig
from clippy_jax.export.onnx_graph import OPSET
from clippy_jax.export.onnx_image_tower import image_tower
from clippy_jax.export.onnx_text_tower import text_tower
from clippy_jax.export.readme import describe_embeddings
from clippy_jax.models.clippy import CLIPpy

TOLERANCE = 1e-5  # of the embeddings, whose vectors have length 1

README = """\
# CLIPpy as ONNX (operator set {opset})

```python
import onnxruntime

image = onnxruntime.InferenceSession("image.onnx")
# uint8 [B, H, W, 3] to [B, H/{size}, W/{size}, {features}] and [B, {features}]
patches, pooled = image.run(None, {{"images": images}})
text = onnxruntime.InferenceSession("text.onnx")
# int64 [T, L] to [T, {features}]
(embeddings,) = text.run(None, {{"token_ids": token_ids}})
```

B, T and L are any numbers, H and W any multiples of {size}; it was trained on {image_size} x {image_size} pixels.

{embeddings}
"""


def write_onnx(folder: pathlib.Path, params: dict[str, Any], config: ModelConfig, image_size: int) -> None:
    """Fills a folder with `image.onnx`, `text.onnx` and a README.

    Args:
      folder: exists and is empty.
      params: the parameters of `CLIPpy`, in host memory.
      config: their architecture; computed in float32, whatever its precision.
      image_size: pixels along each side of the images it was trained on.
    """
    write_image_tower(folder / "image.onnx", params, config, image_size)
    onnx.save_model(text_tower(params["text"], config.text), folder / "text.onnx")
    tokens = np.random.default_rng(0).integers(2, config.text.vocabulary_size, (2, 20))
    tokens[0, 9:] = 0
    _check(folder / "text.onnx", {"token_ids": tokens}, lambda: _apply(config, params, tokens, "encode_text"))
    size = config.image.patch_size
    (folder / "README.md").write_text(
        README.format(
            opset=OPSET,
            size=size,
            features=config.text.embedding_width,
            image_size=image_size,
            embeddings=describe_embeddings(params),
        )
    )


def write_image_tower(path: pathlib.Path, params: dict[str, Any], config: ModelConfig, image_size: int) -> None:
    """Writes the image tower alone; arguments as of `write_onnx`."""
    onnx.save_model(image_tower(params, config), path)
    # One side longer than trained, so that the resized position embedding is checked as well.
    shape = (1, image_size, image_size + config.image.patch_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    _check(path, {"images": images}, lambda: _apply(config, params, images, "encode_image"))


def _apply(config: ModelConfig, params: dict[str, Any], batch: np.ndarray, method: str) -> Any:
    in_float32 = CLIPpy(dataclasses.replace(config, precision="float32", rematerialise=False))
    return jax.jit(lambda params, batch: in_float32.apply({"params": params}, batch, method=method))(params, batch)


def _check(path: pathlib.Path, inputs: dict[str, np.ndarray], expect: Callable[[], Any]) -> None:
    """Runs an ONNX file and prints how far it is from the model.

    Raises:
      RuntimeError: too far.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results, expected = session.run(None, inputs), jax.tree.leaves(expect())
    off = max(float(np.abs(ours - np.asarray(theirs)).max()) for ours, theirs in zip(results, expected, strict=True))
    if not off <= TOLERANCE:
        raise RuntimeError(f"{path.name} gives other embeddings than the model: they differ by {off:.2g}")
    print(f"{path.name}: onnxruntime and JAX differ by {off:.1g} at most")
