"""Groups that patches form without words."""

import jax
import numpy as np
from jaxtyping import Float

from clippy_jax.analysis.segments import Segments, name_pixels
from clippy_jax.evaluators.patch_groups import centre_similarities

_centre_similarities = jax.jit(centre_similarities, static_argnames="centres")


def group_pixels(patches: Float[np.ndarray, "h w D"], count: int, height: int, width: int) -> Segments:
    """The pixels of an image in at most `count` groups, the largest first; a group without pixels is left out.

    Args:
      patches: L2-normalised.
      count: how many principal components of the patches may be the centre of a group.
      height: of the image, in pixels.
      width: of the image, in pixels.
    """
    segments = name_pixels(np.asarray(_centre_similarities(patches, centres=count)), 1.0, height, width)
    order = [group for group in np.argsort(-segments.shares, kind="stable") if segments.shares[group] > 0]
    position = np.zeros(len(segments.shares), np.uint8)
    position[order] = np.arange(len(order))
    return Segments(position[segments.labels], segments.shares[order], segments.confidences[order])
