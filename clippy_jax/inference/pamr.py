"""Scores that follow an image's edges: pixel-adaptive mask refinement (Araslanov and Roth, 2020, section 3.3).

Each pixel takes over the scores of those around it, the more the more alike their colours are, many times over.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

DILATIONS = (8, 16)
CONTRAST = 0.1  # differences of colour count in this share of the neighbourhood's standard deviation
STEPS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))


def refine(
    scores: Float[Array, "H W P"],
    image: Float[Array, "H W 3"],
    size: Int[Array, "2"],
    iterations: int,
    dilations: Sequence[int] = DILATIONS,
) -> Float[Array, "H W P"]:
    """Scores after so many iterations.

    Args:
      scores: of every pixel with every name.
      image: of the same size, with a standard deviation of about 1 in each channel.
      size: height and width in pixels; what lies outside carries no meaning. Borders are repeated.
      iterations: how often scores are taken over.
      dilations: how far away the eight pixels are that a pixel takes scores from.
    """

    def moved(
        array: Float[Array, "H W D"], step: Sequence[int] | Int[Array, "2"], dilation: int | Int[Array, ""]
    ) -> Float[Array, "H W D"]:
        rows, columns = (
            jnp.clip(jnp.arange(array.shape[axis]) + dilation * step[axis], 0, size[axis] - 1) for axis in range(2)
        )
        return array[rows][:, columns]

    neighbours = [(step, dilation) for dilation in dilations for step in STEPS if step != (0, 0)]
    around = jnp.stack([moved(image, step, dilation) for dilation in dilations for step in STEPS])
    deviation = jnp.std(around, axis=0, ddof=1)
    alike = jnp.stack([-jnp.abs(image - moved(image, *place)) for place in neighbours])
    weights = jax.nn.softmax((alike / (1e-8 + CONTRAST * deviation)).mean(axis=-1), axis=0)

    steps, distances = (jnp.array(of) for of in zip(*neighbours))

    def take_over(_: int, scores: Float[Array, "H W P"]) -> Float[Array, "H W P"]:
        def add(total: Float[Array, "H W P"], neighbour) -> tuple[Float[Array, "H W P"], None]:
            weight, *place = neighbour
            return total + weight[..., None] * moved(scores, *place), None

        # One neighbour after the other: all at once would be as many copies of the scores.
        return jax.lax.scan(add, jnp.zeros_like(scores), (weights, steps, distances))[0]

    return jax.lax.fori_loop(0, iterations, take_over, scores)
