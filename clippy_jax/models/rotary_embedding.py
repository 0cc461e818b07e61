"""DINOv3's rotary position embedding: in every block, queries and keys of a patch are turned by angles of its place.

Each side of the image runs from -1 to 1 over the centres of its patches, whatever its size; half of a head's angles
follow the row and half the column, at wavelengths from 1 to almost `BASE` in equal ratios (Siméoni et al., 2025).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BASE = 100.0


def wavelengths(head_width: int) -> Float[np.ndarray, "K//4"]:
    """In halves of the image's side; one for every four features of a head: sine and cosine, row and column."""
    return np.float32(BASE) ** np.arange(0, 1, 4 / head_width, dtype=np.float32)


def rotation(grid: tuple[int, int], head_width: int) -> Float[np.ndarray, "N K"]:
    """The angle of each feature of a head, for the patches of a grid row by row.

    Computed in float32, as DINOv3 itself does.
    """
    rows, columns = (2 * (np.arange(0.5, count, dtype=np.float32) / np.float32(count)) - 1 for count in grid)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2, 1)
    angles = np.float32(2 * np.pi) * places * (1 / wavelengths(head_width))
    return np.tile(angles.reshape(len(places), -1), 2)


def rotate(x: Float[Array, "B N heads K"], angles: Float[Array, "#B patches K"]) -> Float[Array, "B N heads K"]:
    """Turns the last tokens, which are patches, and leaves those before them (CLS token, registers) as they are."""
    others = x.shape[1] - angles.shape[1]
    angles = jnp.pad(angles, ((0, 0), (others, 0), (0, 0)))[:, :, None]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = x * jnp.cos(angles) + jnp.concatenate([-second, first], axis=-1) * jnp.sin(angles)
    return turned.astype(x.dtype)
