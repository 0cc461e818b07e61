"""A model with its parameters on devices and its tokenizer beside it."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import PIL.Image
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32, UInt8

from clippy_jax.config import ModelConfig
from clippy_jax.datasets import image_file
from clippy_jax.datasets.vocabulary import photo_prompt
from clippy_jax.inference import segments
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from clippy_jax.inference.prompts import class_embeddings
from clippy_jax.input_pipeline import evaluation_image
from clippy_jax.input_pipeline.tokenizer import Tokenizer
from clippy_jax.mesh import batch_sharding, make_mesh, replicated
from clippy_jax.models.clippy import CLIPpy

# Texts are padded to this many tokens or twice, four times ... as many: the first that holds the longest of a call. The
# padding changes no embedding, and few lengths are few compilations.
SHORTEST_TEXT = 8

Photo = str | os.PathLike | PIL.Image.Image | UInt8[np.ndarray, "H W 3"]


class Model:
    """Encodes images and texts into one space, where a dot product is a cosine similarity.

    Args:
      params: the parameters of `CLIPpy`, in host memory or on devices.
      config: their architecture.
      tokenizer: turns prompts into token ids.
      image_size: pixels along each side of the images it was trained on.
      mesh: the devices that share out each batch of images; all of them by default.
    """

    def __init__(
        self,
        params: dict[str, Any],
        config: ModelConfig,
        tokenizer: Tokenizer,
        image_size: int,
        mesh: Mesh | None = None,
    ):
        self.config = config
        self.tokenizer = tokenizer
        self.image_size = image_size
        self.mesh = make_mesh() if mesh is None else mesh
        self.params = jax.device_put(params, replicated(self.mesh))
        self.class_embedding_cache: ClassEmbeddingCache | None = None  # the evaluation program sets one

    def __repr__(self) -> str:
        image, text = self.config.image, self.config.text
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return (
            f"Model(image: ViT of {image.depth} blocks x {image.width}, patches of {image.patch_size}; "
            f"text: T5 of {text.depth} blocks x {text.width}; {self.config.pooling} pooling; {count:,} parameters; "
            f"{self.config.precision} on {self.mesh.size} device{'s'[: self.mesh.size > 1]})"
        )

    def encode_image(
        self, images: UInt8[Array, "B H W 3"] | UInt8[np.ndarray, "B H W 3"] | Sequence[Photo]
    ) -> tuple[Float[Array, "B h w D"], Float[Array, "B D"]]:
        """Patch embeddings on their grid and the pooled embedding, both L2-normalised.

        Args:
          images: an array, of any height and width that the patch size divides; or photos (paths, Pillow images, uint8
            arrays) of any sizes, which are resized by their short side and cropped to `image_size`, as in training.
            An array on the devices of the mesh stays where it is; anything else is spread over them.
        """
        if isinstance(images, jax.Array):
            return _encode_image(self.config, self.params, images)
        if not isinstance(images, np.ndarray):
            images = np.stack([evaluation_image.centre_crop(_open(photo), self.image_size) for photo in images])
        padding = ((0, -len(images) % self.mesh.size), (0, 0), (0, 0), (0, 0))
        padded = jax.device_put(np.pad(images, padding), batch_sharding(self.mesh))
        patches, pooled = _encode_image(self.config, self.params, padded)
        return patches[: len(images)], pooled[: len(images)]

    def attention(self, images: UInt8[Array, "B H W 3"]) -> Float[Array, "B heads h w"]:
        """What the CLS token pays to each patch in the last block, head by head; the rest it pays to itself."""
        return _attention(self.config, self.params, images)

    def encode_text(self, texts: Sequence[str]) -> Float[np.ndarray, "T D"]:
        """One L2-normalised embedding a text, as `SentenceTransformer.encode` on the tokenizer's folder.

        What goes beyond the folder's longest text (`max_seq_length`, 256 for Sentence-T5) is cut off.
        """
        limit = self.tokenizer.longest_text
        tokens = self.tokenizer.encode([text.strip() for text in texts], limit)
        longest = int((tokens != 0).sum(axis=1).max(initial=1))
        length = min(limit, max(SHORTEST_TEXT, 1 << (longest - 1).bit_length()))
        tokens = jax.device_put(tokens[:, :length], replicated(self.mesh))
        return np.asarray(_encode_text(self.config, self.params, tokens))

    def segment(self, photo: Photo, labels: Sequence[str]) -> Int32[np.ndarray, "H W"]:
        """The index into `labels` of the word that names each pixel best, at the photo's own size.

        Args:
          photo: a path, a Pillow image or a uint8 array; fed whole, with `image_size` pixels along its short side.
          labels: words to tell apart; each is asked for as "a photo of a(n) {word}".
        """
        classes = class_embeddings(self, [[photo_prompt(label)] for label in labels], progress=False)
        return segments.segment(self, _open(photo), classes, self.image_size)


def _open(photo: Photo) -> PIL.Image.Image:
    if isinstance(photo, PIL.Image.Image):
        return photo
    if isinstance(photo, np.ndarray):
        return PIL.Image.fromarray(photo)
    return image_file.open_image(pathlib.Path(photo))


# Functions of the module, not of the object: a run that evaluates every so often compiles them once.


@functools.partial(jax.jit, static_argnums=0)
def _encode_image(
    config: ModelConfig, params: dict[str, Any], images: UInt8[Array, "B H W 3"]
) -> tuple[Float[Array, "B h w D"], Float[Array, "B D"]]:
    return CLIPpy(config).apply({"params": params}, images, method="encode_image")


@functools.partial(jax.jit, static_argnums=0)
def _attention(
    config: ModelConfig, params: dict[str, Any], images: UInt8[Array, "B H W 3"]
) -> Float[Array, "B heads h w"]:
    weights = CLIPpy(config).apply({"params": params}, images, method="attention")
    grid = (images.shape[1] // config.image.patch_size, images.shape[2] // config.image.patch_size)
    return weights[:, :, 0, 1:].reshape(*weights.shape[:2], *grid)


@functools.partial(jax.jit, static_argnums=0)
def _encode_text(config: ModelConfig, params: dict[str, Any], tokens: Int[Array, "T L"]) -> Float[Array, "T D"]:
    return CLIPpy(config).apply({"params": params}, tokens, method="encode_text")
