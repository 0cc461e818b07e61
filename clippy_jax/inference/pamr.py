"""Scores that follow an image's edges: pixel-adaptive mask refinement (Araslanov and Roth, 2020, section 3.3).

Each pixel takes over the scores of those around it, the more the more alike their colours are, many times over.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

DILATIONS = (8, 16)
CONTRAST = 0.1  # differences of colour count in this share of the neighbourhood's standard deviation
STEPS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))
NEIGHBOURS = tuple((step, dilation) for dilation in DILATIONS for step in STEPS if step != (0, 0))


def affinities(image: Float[Array, "H W 3"], size: Int[Array, "2"]) -> Float[Array, "neighbours H W"]:
    """How much each pixel takes over from each of its `NEIGHBOURS`; they add up to 1.

    Args:
      image: with a standard deviation of about 1 in each channel.
      size: height and width in pixels; what lies outside carries no meaning. Borders are repeated.
    """
    # One neighbour after the other, here and below: all at once would be as many copies of the image.
    around = [(step, dilation) for dilation in DILATIONS for step in STEPS]

    def total(of: Callable[[Float[Array, "H W 3"]], Float[Array, "H W 3"]]) -> Float[Array, "H W 3"]:
        def add(sum_: Float[Array, "H W 3"], place) -> tuple[Float[Array, "H W 3"], None]:
            return sum_ + of(_moved(image, size, *place)), None

        return jax.lax.scan(add, jnp.zeros_like(image), _columns(around))[0]

    mean = total(lambda moved: moved) / len(around)
    deviation = jnp.sqrt(total(lambda moved: (moved - mean) ** 2) / (len(around) - 1))

    def alike(place) -> Float[Array, "H W"]:
        return (-jnp.abs(image - _moved(image, size, *place)) / (1e-8 + CONTRAST * deviation)).mean(axis=-1)

    return jax.nn.softmax(jax.lax.map(alike, _columns(NEIGHBOURS)), axis=0)


def refine(
    scores: Float[Array, "H W P"], weights: Float[Array, "neighbours H W"], size: Int[Array, "2"], iterations: int
) -> Float[Array, "H W P"]:
    """Scores after so many iterations.

    Args:
      scores: of every pixel with every name.
      weights: the image's `affinities`.
      size: of the image.
      iterations: how often scores are taken over.
    """

    def take_over(_: int, scores: Float[Array, "H W P"]) -> Float[Array, "H W P"]:
        def add(total: Float[Array, "H W P"], neighbour) -> tuple[Float[Array, "H W P"], None]:
            weight, place = neighbour
            return total + weight[..., None] * _moved(scores, size, *place), None

        return jax.lax.scan(add, jnp.zeros_like(scores), (weights, _columns(NEIGHBOURS)))[0]

    return jax.lax.fori_loop(0, iterations, take_over, scores)


def _moved(
    array: Float[Array, "H W D"], size: Int[Array, "2"], step: Int[Array, "2"], dilation: Int[Array, ""]
) -> Float[Array, "H W D"]:
    """What lies `dilation` pixels away in the direction of `step`."""
    rows, columns = (
        jnp.clip(jnp.arange(array.shape[axis]) + dilation * step[axis], 0, size[axis] - 1) for axis in range(2)
    )
    return array[rows][:, columns]


def _columns(places: Sequence[tuple[tuple[int, int], int]]) -> tuple[Int[Array, "N 2"], Int[Array, "N"]]:
    """Steps and distances, for a loop."""
    return tuple(jnp.array(of) for of in zip(*places))
