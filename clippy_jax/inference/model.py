"""A model with its parameters on devices and its tokenizer beside it."""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Int32, UInt8

from clippy_jax.config import ModelConfig
from clippy_jax.datasets.vocabulary import photo_prompt
from clippy_jax.inference import label_maps, prompts
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from clippy_jax.inference.image import Image, open_image
from clippy_jax.input_pipeline import evaluation_image
from clippy_jax.input_pipeline.tokenizer import Tokenizer
from clippy_jax.mesh import batch_sharding, make_mesh, replicated
from clippy_jax.models.clippy import CLIPpy

# Texts are padded to this many tokens or twice, four times ... as many: the first that holds the longest of a call. The
# padding changes no embedding, and few lengths are few compilations.
SHORTEST_TEXT = 8


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
        self, images: UInt8[Array, "B H W 3"] | UInt8[np.ndarray, "B H W 3"] | Image | Sequence[Image]
    ) -> tuple[Float[Array, "B h w D"], Float[Array, "B D"]]:
        """Patch embeddings on their grid and the pooled embedding, both L2-normalised.

        Args:
          images: an array of a batch, of any height and width that the patch size divides; or one image or several
            (paths, Pillow images, uint8 arrays) of any sizes, which are turned upright, resized by their short side
            and cropped to `image_size`, as in training. A batch that lies on the devices of the mesh stays where it
            is; anything else is spread over them.

        Raises:
          InputError: a file does not exist or cannot be read as an image.
          ValueError: an array is not of the shape and type above.
        """
        placed, count = self._place(images)
        patches, pooled = _encode_image(self.config, self.params, placed)
        return (patches, pooled) if len(placed) == count else (patches[:count], pooled[:count])

    def attention(
        self, images: UInt8[Array, "B H W 3"] | UInt8[np.ndarray, "B H W 3"] | Image | Sequence[Image]
    ) -> Float[Array, "B heads h w"]:
        """What the CLS token pays to each patch in the last block, head by head; the rest it pays to itself and
        to registers. With a MAP head, what this pays to each patch.

        Takes and refuses what `encode_image` does.
        """
        placed, count = self._place(images)
        weights = _attention(self.config, self.params, placed)
        return weights if len(placed) == count else weights[:count]

    def encode_text(self, texts: str | Sequence[str], for_patches: bool = False) -> Float[np.ndarray, "T D"]:
        """One L2-normalised embedding a text, as `SentenceTransformer.encode` on the tokenizer's folder.

        What goes beyond the folder's longest text (`max_seq_length`, 256 for Sentence-T5) is cut off. A single string
        is one text. Embeddings `for_patches` are to be compared with patch embeddings alone: with "cls_and_avg"
        pooling, the half that answers to the CLS token is zero and the other has length 1, as in dino.txt.

        Raises:
          ValueError: there is something else than strings.
        """
        if texts is None or isinstance(texts, (bytes, Set, Mapping)):
            raise ValueError(f"texts must be a string or a list of strings, not a {type(texts).__name__}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        others = [text for text in texts if not isinstance(text, str)]
        if others:
            raise ValueError(f"texts must be a string or a list of strings, not of {type(others[0]).__name__}")
        limit = self.tokenizer.longest_text
        tokens = self.tokenizer.encode([text.strip() for text in texts], limit)
        longest = int((tokens != 0).sum(axis=1).max(initial=1))
        length = min(limit, max(SHORTEST_TEXT, 1 << (longest - 1).bit_length()))
        tokens = jax.device_put(tokens[:, :length], replicated(self.mesh))
        embeddings = np.asarray(_encode_text(self.config, self.params, tokens))
        if for_patches and self.config.pooling == "cls_and_avg":
            embeddings = np.where(np.arange(embeddings.shape[1]) < embeddings.shape[1] // 2, 0, embeddings)
            embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings

    def class_embeddings(
        self, of_classes: Sequence[Sequence[str]], progress: bool = False, for_patches: bool = False
    ) -> Float[np.ndarray, "C D"]:
        """One unit vector per class: the mean over its prompts' embeddings, normalised again.

        Where the model has a cache, classes that are in it are not embedded again.

        Args:
          of_classes: the prompts of each class.
          progress: whether to show a bar.
          for_patches: as of `encode_text`.
        """
        cache = self.class_embedding_cache
        if cache is not None and for_patches and self.config.pooling == "cls_and_avg":
            cache = dataclasses.replace(cache, text_side=(*cache.text_side, "for patches"))
        encode = functools.partial(self.encode_text, for_patches=for_patches)
        classes = None if cache is None else cache.read(of_classes)
        if classes is None:
            classes = prompts.class_embeddings(encode, of_classes, progress)
            if cache is not None:
                cache.write(of_classes, classes)
        return classes

    def segment(self, image: Image, labels: Sequence[str]) -> Int32[np.ndarray, "H W"]:
        """The index into `labels` of the word that names each pixel best, at the image's own size.

        Args:
          image: a path, a Pillow image or a uint8 array; turned upright and fed whole, with `image_size` pixels along
            its short side.
          labels: words to tell apart; each is asked for as "a photo of a(n) {word}".

        Raises:
          InputError: the file does not exist or cannot be read as an image.
          ValueError: the image is not as above, or `labels` is no list of words.
        """
        listed = [] if labels is None or isinstance(labels, (str, Set, Mapping)) else list(labels)
        if not listed or not all(isinstance(label, str) and label.strip() for label in listed):
            raise ValueError(f'labels must be a list of words such as ["cat", "dog"], not {labels!r}')
        if twice := next((label for label in listed if listed.count(label) > 1), None):
            raise ValueError(f"{twice!r} is among the labels more than once; name each once")
        prompts_of_labels = [[photo_prompt(label)] for label in listed]
        return self.name_pixels(image, self.class_embeddings(prompts_of_labels, for_patches=True))

    def name_pixels(
        self,
        image: Image,
        classes: Float[np.ndarray, "P D"],
        number_of_classes: int | None = None,
        image_size: int | None = None,
    ) -> Int32[np.ndarray, "H W"]:
        """As `segment`, by the embeddings of classes.

        Args:
          image: as of `segment`.
          classes: their embeddings, made for patches.
          number_of_classes: those past it are folded into class 0; by default none are.
          image_size: pixels of the short side of the image as it is fed; `self.image_size` by default.
        """
        image = open_image(image)
        pixels = evaluation_image.whole_image(image, image_size or self.image_size, self.config.image.patch_size)
        patches, _ = self.encode_image(pixels[None])
        return label_maps.name_pixels(patches[0], classes, image.height, image.width, number_of_classes)

    def _place(self, images: Any) -> tuple[UInt8[Array, "B H W 3"], int]:
        """A batch on the devices of the mesh, padded to what they divide, and how many images it holds."""
        if isinstance(images, (str, os.PathLike, PIL.Image.Image)) or getattr(images, "ndim", 4) == 3:
            images = [images]
        if images is None or isinstance(images, (bytes, Set, Mapping)) or hasattr(images, "read"):
            raise ValueError(f"an image must be a path, a Pillow image or a uint8 array, not {type(images).__name__}")
        if not isinstance(images, (np.ndarray, jax.Array)):
            images = list(images)
            if not images:
                raise ValueError("there is no image to encode")
            images = np.stack([evaluation_image.centre_crop(open_image(image), self.image_size) for image in images])
        patch_size, shape = self.config.image.patch_size, images.shape
        if images.dtype != np.uint8 or images.ndim != 4 or shape[3] != 3 or not len(images):
            raise ValueError(f"a batch of images must be uint8 [B, H, W, 3], not {images.dtype} {list(shape)}")
        if any(length < 1 or length % patch_size for length in shape[1:3]):
            raise ValueError(f"patches of {patch_size} pixels do not divide images of {shape[1]}x{shape[2]} pixels")
        is_traced = isinstance(images, jax.core.Tracer)  # inside the caller's `jax.jit`, which does the placing
        if is_traced or isinstance(images, jax.Array) and images.sharding.device_set == set(self.mesh.devices.flat):
            return images, len(images)
        padding = ((0, -len(images) % self.mesh.size), (0, 0), (0, 0), (0, 0))
        pad = jnp.pad if isinstance(images, jax.Array) else np.pad
        return jax.device_put(pad(images, padding), batch_sharding(self.mesh)), len(images)


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
    return weights[:, :, 0, config.image.special_tokens :].reshape(*weights.shape[:2], *grid)


@functools.partial(jax.jit, static_argnums=0)
def _encode_text(config: ModelConfig, params: dict[str, Any], tokens: Int[Array, "T L"]) -> Float[Array, "T D"]:
    return CLIPpy(config).apply({"params": params}, tokens, method="encode_text")
