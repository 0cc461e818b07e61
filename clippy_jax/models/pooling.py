"""From the tokens of an image to one vector: what makes patches nameable (CLIPpy paper, section 3.2).

The image embedding is the maximum over tokens, feature by feature, so the contrastive loss reaches every patch that
wins a feature, and the patch embeddings learn to be compared with texts. The mean and the CLS token are there to be
compared with; side by side, they are what dino.txt (Jose et al., 2025) gives a text to match.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from clippy_jax.models.vit import ImageTokens


def pool(tokens: ImageTokens, pooling: str) -> Float[Array, "B D"]:
    """One vector an image: the maximum (with or without the CLS token), the mean, the CLS token itself, or
    "cls_and_avg": the CLS token and the mean one after the other, which is twice as wide."""
    patches = tokens.patches.reshape(tokens.patches.shape[0], -1, tokens.patches.shape[-1])
    match pooling:
        case "max":
            return _max_over_tokens(patches)
        case "max_with_cls":
            return _max_over_tokens(jnp.concatenate([tokens.cls[:, None], patches], axis=1))
        case "avg":
            return patches.mean(axis=1)
        case "cls":
            return tokens.cls
        case "cls_and_avg":
            return jnp.concatenate([tokens.cls, patches.mean(axis=1)], axis=-1)
    raise ValueError(f"unknown pooling {pooling!r}")


def still_needed(tokens: ImageTokens, pooling: str, image_projection: bool) -> Float[Array, "B T D"]:
    """What a frozen tower's tokens have to be kept of: as much as `pool` can do of its work before the projection.

    A projection is linear, so a mean may come before it, and a maximum may not: then all tokens are kept, CLS first.
    """
    if needs_all_tokens(pooling, image_projection):
        patches = tokens.patches.reshape(tokens.patches.shape[0], -1, tokens.patches.shape[-1])
        return jnp.concatenate([tokens.cls[:, None], patches], axis=1)
    return pool(tokens, pooling).reshape(len(tokens.cls), -1, tokens.cls.shape[-1])


def needs_all_tokens(pooling: str, image_projection: bool) -> bool:
    """Whether `still_needed` are all tokens; otherwise they are one, or two with "cls_and_avg"."""
    return image_projection and pooling in ("max", "max_with_cls")


def as_tokens(kept: Float[Array, "B T D"]) -> ImageTokens:
    """What `still_needed` has left, for `pool` to make the same of it as of the whole: a mean or maximum over one token
    is the token."""
    return ImageTokens(kept[:, None, 1:] if kept.shape[1] > 1 else kept[:, None], kept[:, 0], None)


def place_patches(patches: Float[Array, "*batch D"], pooling: str) -> Float[Array, "*batch E"]:
    """Patch tokens where the image embedding holds them: under "cls_and_avg" in its second half, with zeros before.

    So their dot product with a text embedding asks the half of it that has learned to match patches.
    """
    return jnp.concatenate([jnp.zeros_like(patches), patches], axis=-1) if pooling == "cls_and_avg" else patches


def _max_over_tokens(tokens: Float[Array, "B N D"]) -> Float[Array, "B D"]:
    """The largest value of each feature; its gradient goes to the one token that wins the feature.

    JAX's own gradient of a maximum looks for the token that *equals* it. Where the compiler fuses the final LayerNorm
    into that comparison, the token is computed a second time, may round otherwise, equals nothing, and its gradient is
    lost (or 0 / 0). An index is never lost.
    """
    winner = jnp.argmax(tokens, axis=1, keepdims=True)
    return jnp.take_along_axis(tokens, winner, axis=1)[:, 0]
