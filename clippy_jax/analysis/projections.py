"""High-dimensional features as colours and as maps of the plane."""

import importlib.util
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from clippy_jax.errors import InputError

PERPLEXITY, NEIGHBOURS = 30, 15  # of t-SNE and UMAP, less where there are fewer points
FEWEST = 5  # points of a map
UMAP = "umap-learn"


def principal_colours(
    grids: Sequence[Float[np.ndarray, "h w D"]],
) -> list[Float[np.ndarray, "h w 3"]]:
    """Patches as colours from 0 to 1: their first three principal components, over all images together.

    So like patches have like colours, also in different images. A component's sign is the one at which the patch that
    lies farthest out is on the bright side; the farthest hundredth on either side is cut off.
    """
    rows = np.concatenate([grid.reshape(-1, grid.shape[-1]) for grid in grids])
    mean = rows.mean(axis=0)
    _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))
    axes = vectors[:, ::-1][:, :3]
    scores = (rows - mean) @ axes
    axes = axes * np.where(scores[np.abs(scores).argmax(axis=0), range(scores.shape[1])] < 0, -1, 1)
    low, high = np.percentile((rows - mean) @ axes, [1, 99], axis=0)
    return [np.clip(((grid - mean) @ axes - low) / np.maximum(high - low, 1e-9), 0, 1) for grid in grids]


def without_gap(
    images: Float[np.ndarray, "N D"], texts: Float[np.ndarray, "T D"]
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "T D"]]:
    """Image and text vectors, each taken from the mean of its kind and brought to length 1.

    Contrastive models keep images and texts in two separate regions (Liang et al., "Mind the gap", 2022). On a map of
    both, texts would lie on an island of their own, whatever they name.
    """
    return tuple(_unit(vectors - vectors.mean(axis=0)) for vectors in (images, texts))


def check_installed() -> None:
    """Raises `InputError` where scikit-learn is not installed, for a look before long work."""
    if importlib.util.find_spec("sklearn") is None:
        raise InputError("t-SNE needs scikit-learn, which is not installed: pip install scikit-learn")


def tsne(vectors: Float[np.ndarray, "N D"], seed: int) -> Float[np.ndarray, "N 2"]:
    """t-SNE by cosine (van der Maaten and Hinton, 2008), by scikit-learn."""
    import sklearn.manifold

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    method = sklearn.manifold.TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return method.fit_transform(vectors)


def umap(vectors: Float[np.ndarray, "N D"], seed: int) -> Float[np.ndarray, "N 2"] | None:
    """UMAP by cosine (McInnes et al., 2018), by umap-learn; None where that is not installed."""
    if importlib.util.find_spec("umap") is None:
        return None
    import umap

    neighbours = min(NEIGHBOURS, len(vectors) - 1)
    return umap.UMAP(n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors)


def _unit(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
