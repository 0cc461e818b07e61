"""A linear classifier on frozen features: multinomial logistic regression by L-BFGS, as CLIP does it (section 3.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32

from clippy_jax.errors import InputError
from clippy_jax.evaluators.classification import class_ranks, shares_right
from clippy_jax.evaluators.frozen_features import FeatureClassification

# Weights of the L2 penalty beside the mean cross entropy, strongest first: each fit starts from the one before.
STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(0, -8, -1))
HELD_OUT_SHARE = 0.1
LARGEST_STEPS = 1000
GRADIENT_TOLERANCE = 1e-6

Weights = dict[str, Float[Array, "..."]]


class LinearProbe(FeatureClassification):
    """A classifier fitted on `train`, the strength of its penalty chosen on a tenth of it."""

    task = "linear probe"

    def __init__(self, folder: str):
        super().__init__(folder)
        images = len(self._tree.train.paths)
        if images < 2 / HELD_OUT_SHARE:
            raise InputError(f"{folder}: {images} images in train are too few; give {2 / HELD_OUT_SHARE:.0f}")

    def classify(self, train, val, number_of_classes):
        """The logits."""
        strength = choose_strength(train.vectors, train.labels, number_of_classes)
        protocol = f"logistic regression, L2 penalty of {strength:g} chosen on {HELD_OUT_SHARE:.0%} of train"
        return scores(fit(train.vectors, train.labels, number_of_classes, strength), val), protocol


def choose_strength(vectors: Float[np.ndarray, "I D"], labels: Int32[np.ndarray, "I"], number_of_classes: int) -> float:
    """The strength with the best top-1 on a seeded tenth that is not fitted; the strongest of equals."""
    order = np.random.default_rng(0).permutation(len(labels))
    held_out, fitted = np.split(order, [round(HELD_OUT_SHARE * len(order))])
    weights, accuracies = None, []
    for strength in STRENGTHS:
        weights = fit(vectors[fitted], labels[fitted], number_of_classes, strength, weights)
        held_out_ranks = class_ranks(scores(weights, vectors[held_out]), labels[held_out])
        accuracies.append(shares_right(held_out_ranks, (1,))[0])
    return STRENGTHS[int(np.argmax(accuracies))]


def fit(
    vectors: Float[np.ndarray, "I D"],
    labels: Int32[np.ndarray, "I"],
    number_of_classes: int,
    strength: float,
    start: Weights | None = None,
) -> Weights:
    """The minimum of mean cross entropy + `strength` / 2 x the squared kernel (the bias is free), from `start`."""
    if start is None:
        start = {"kernel": jnp.zeros((vectors.shape[1], number_of_classes)), "bias": jnp.zeros(number_of_classes)}
    return _minimise(start, vectors, labels, strength)


def scores(weights: Weights, vectors: Float[np.ndarray, "I D"]) -> Float[np.ndarray, "I C"]:
    """The logits of each class."""
    return np.asarray(_logits(weights, vectors))


@jax.jit
def _logits(weights: Weights, vectors: Float[Array, "I D"]) -> Float[Array, "I C"]:
    return jnp.dot(vectors, weights["kernel"], precision=jax.lax.Precision.HIGHEST) + weights["bias"]


@jax.jit
def _minimise(
    weights: Weights, vectors: Float[Array, "I D"], labels: Int32[Array, "I"], strength: Float[Array, ""]
) -> Weights:
    def loss(weights: Weights) -> Float[Array, ""]:
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels(_logits(weights, vectors), labels).mean()
        return cross_entropy + 0.5 * strength * (weights["kernel"] ** 2).sum()

    optimizer = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(loss)

    def step(carry):
        weights, state = carry
        value, gradient = value_and_gradient(weights, state=state)
        updates, state = optimizer.update(gradient, state, weights, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(weights, updates), state

    def goes_on(carry):
        _, state = carry
        gradient = optax.tree.get(state, "grad")
        steps = optax.tree.get(state, "count")
        return (steps == 0) | ((steps < LARGEST_STEPS) & (optax.tree.norm(gradient) > GRADIENT_TOLERANCE))

    return jax.lax.while_loop(goes_on, step, (weights, optimizer.init(weights)))[0]
