"""`export stablehlo`: the model as programs that JAX alone runs, on CPUs, NVIDIA GPUs and TPUs, by `jax.export`."""

import dataclasses
import importlib.util
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clippy_jax.config import ModelConfig
from clippy_jax.export.readme import describe_embeddings
from clippy_jax.models.clippy import CLIPpy

PLATFORMS = ("cpu", "cuda", "tpu")

README = """\
# CLIPpy as StableHLO

Exported with JAX {version}. Runs on CPUs, NVIDIA GPUs and TPUs where JAX is installed, and needs nothing else:

```python
from load import load  # run it in this folder, or with this folder on PYTHONPATH

encode_image = load("{image}")
# uint8 [B, {height}, {width}, 3] to [B, {rows}, {columns}, {features}] and [B, {features}]
patches, pooled = encode_image(images)
encode_text = load("{text}")
# int32 [B, {length}] to [B, {features}]
text = encode_text(token_ids)
```

{embeddings}
Programs, each for any batch size B: {programs}.

- `image.npz` and `text.npz` hold the parameters of each tower, `load.py` is the loader.
- `flatbuffers/` is a copy of this package (https://github.com/google/flatbuffers, Apache License 2.0), which JAX reads
  programs with; it serves only where none is installed.
- JAX reads programs that were exported up to six months before it came out; for a newer one, export again
  (https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees).
"""


def write_stablehlo(
    folder: pathlib.Path,
    params: dict[str, Any],
    config: ModelConfig,
    image_sizes: Sequence[tuple[int, int]],
    text_lengths: Sequence[int],
) -> None:
    """Fills a folder with programs, parameters, a loader and a README.

    Args:
      folder: exists and is empty.
      params: the parameters of `CLIPpy`, in host memory.
      config: their architecture; of its precision are the programs.
      image_sizes: height and width of the images, a program each.
      text_lengths: tokens of the texts, a program each.
    """
    config = dataclasses.replace(config, rematerialise=False)  # nothing runs backwards
    flat = {path: np.asarray(value) for path, value in flatten_dict(params, sep="/").items()}
    scale = {"logit_scale": flat.pop("logit_scale")}  # the module wants it, though no embedding depends on it
    text = {path: value for path, value in flat.items() if path.startswith("text/")}
    image = {path: value for path, value in flat.items() if path not in text}
    np.savez(folder / "image.npz", **image)
    np.savez(folder / "text.npz", **text)

    def export(name: str, method: str, params: dict[str, np.ndarray], shape: tuple, dtype: Any) -> None:
        def program(params, batch):
            return CLIPpy(config).apply({"params": unflatten_dict({**params, **scale}, sep="/")}, batch, method=method)

        batch = jax.ShapeDtypeStruct(shape, dtype)
        shapes = jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), params)
        exported = jax.export.export(jax.jit(program), platforms=PLATFORMS)(shapes, batch)
        (folder / f"{name}.stablehlo").write_bytes(exported.serialize())

    (batch,) = jax.export.symbolic_shape("batch")
    images = {f"image_{height}x{width}": (batch, height, width, 3) for height, width in image_sizes}
    texts = {f"text_{length}": (batch, length) for length in text_lengths}
    for name, shape in images.items():
        export(name, "encode_image", image, shape, jnp.uint8)
    for name, shape in texts.items():
        export(name, "encode_text", text, shape, jnp.int32)

    shutil.copyfile(pathlib.Path(__file__).with_name("stablehlo_loader.py"), folder / "load.py")
    package = pathlib.Path(importlib.util.find_spec("flatbuffers").origin).parent
    shutil.copytree(package, folder / "flatbuffers", ignore=shutil.ignore_patterns("__pycache__"))
    (height, width), size = image_sizes[0], config.image.patch_size
    (folder / "README.md").write_text(
        README.format(
            version=jax.__version__,
            image=next(iter(images)),
            height=height,
            width=width,
            rows=height // size,
            columns=width // size,
            features=config.text.embedding_width,
            text=next(iter(texts)),
            length=text_lengths[0],
            embeddings=describe_embeddings(params),
            programs=", ".join(f"`{name}`" for name in (*images, *texts)),
        )
    )
