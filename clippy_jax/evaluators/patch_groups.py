"""Bottom-up groups of patches, made without any words.

The paper's: each patch goes to the principal component that it is most similar to (section 3.5). DINO's: where each
head of the last block looks (Caron et al., 2021, figure 4).

The paper says which components are the centres and how a patch chooses; three things it leaves open are decided here.

- The patches are centred, as PCA is defined. The patches of an image share a large mean, which says nothing about what
  sets them apart; uncentred, it would be the first component and draw patches of every kind.
- The similarity is that of the centred patch, since the components are directions away from the mean.
- A component's sign, which PCA leaves to chance, is the one at which the patch that lies farthest out along it is on
  the positive side (the convention of scikit-learn's `svd_flip`). A group is what lies in one direction from the mean,
  and an object usually lies farther out than the many patches behind it.

The Jaccard similarity depends on all three (`docs/evaluation.md`).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from clippy_jax.inference.label_maps import HIGHEST

CENTRES = 8
MASS = 0.6  # of a head's attention
# Patches vary along a component if it is by more than rounding: of unit vectors, and beside the first component.
LEAST_VARIANCE = 1e-10
LEAST_SHARE = 1e-6


def centre_similarities(patches: Float[Array, "h w D"], centres: int = CENTRES) -> Float[Array, "h w n"]:
    """The cosine of every patch, taken from the mean patch, with each of the first principal components.

    A component along which the patches do not vary is a zero vector, whose cosines are 0: patches that are all alike
    are one group, patches of two kinds are two.

    Args:
      patches: of one image, L2-normalised.
      centres: how many components are wanted; n is less where there are fewer patches or features.
    """
    height, width, features = patches.shape
    rows = patches.reshape(-1, features)
    rows = rows - rows.mean(axis=0)
    count = min(centres, *rows.shape)
    # The eigenvectors of whichever of the two products is smaller; the last ones belong to the largest eigenvalues.
    if len(rows) <= features:
        squares, left = jnp.linalg.eigh(jnp.matmul(rows, rows.T, precision=HIGHEST))
        scores = left * jnp.sqrt(jnp.maximum(squares, 0))
    else:
        squares, right = jnp.linalg.eigh(jnp.matmul(rows.T, rows, precision=HIGHEST))
        scores = jnp.matmul(rows, right, precision=HIGHEST)
    squares, scores = squares[::-1][:count], scores[:, ::-1][:, :count]

    farthest = jnp.take_along_axis(scores, jnp.abs(scores).argmax(axis=0)[None], axis=0)
    lengths = jnp.linalg.norm(rows, axis=1, keepdims=True)
    cosines = jnp.where(farthest < 0, -scores, scores) / jnp.maximum(lengths, 1e-12)
    varies = squares > jnp.maximum(LEAST_VARIANCE * len(rows), LEAST_SHARE * squares[0])
    return jnp.where(varies, cosines, 0).reshape(height, width, count)


def attention_masks(attention: Float[Array, "heads h w"], mass: float = MASS) -> Bool[Array, "heads h w"]:
    """The patches that together hold a share of the CLS token's attention, the most attended first.

    A patch is kept while those before it hold less than `mass` of what the head pays to all patches, so the mask holds
    at least `mass`, and no patch can be spared.
    """
    flat = attention.reshape(attention.shape[0], -1)
    order = jnp.argsort(-flat, axis=1)
    descending = jnp.take_along_axis(flat, order, axis=1)
    held = jnp.cumsum(descending, axis=1)
    kept = held - descending < mass * held[:, -1:]
    return jnp.take_along_axis(kept, jnp.argsort(order, axis=1), axis=1).reshape(attention.shape)
