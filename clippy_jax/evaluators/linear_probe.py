"""A linear classifier on frozen features: multinomial logistic regression by L-BFGS, as CLIP does it (section 3.2)."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32

from clippy_jax.datasets import train_and_val
from clippy_jax.errors import InputError
from clippy_jax.evaluators import frozen_features
from clippy_jax.evaluators.frozen_features import FeatureClassificationResult
from clippy_jax.inference.encoder import Encoder

# Weights of the L2 penalty beside the mean cross entropy, strongest first: each fit starts from the one before.
STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(0, -8, -1))
HELD_OUT_SHARE = 0.1
LARGEST_STEPS = 1000
GRADIENT_TOLERANCE = 1e-6

Weights = dict[str, Float[Array, "..."]]


def evaluate(
    model: Encoder, folder: str, *, batch_size: int, image_size: int, progress: bool
) -> FeatureClassificationResult:
    """Fits a classifier on `train`, the strength of its penalty on a tenth of it, and measures it on `val`.

    Args:
      model: the model; its mesh shares out each batch.
      folder: a tree with `train` and `val` (`train_and_val.read`).
      batch_size: images a step, over all devices of all processes.
      image_size: pixels along each side that the images are resized and cropped to.
      progress: whether to show bars.

    Raises:
      InputError: the tree, the batch size or the image size does not fit, there are too few images to hold some out,
        or more than 1 % of the images are unreadable.
    """
    started = time.perf_counter()
    tree = train_and_val.read(folder)
    train, val = (
        frozen_features.embed(model, images, batch_size, image_size, progress) for images in (tree.train, tree.val)
    )
    if len(train.labels) < 2 / HELD_OUT_SHARE:
        raise InputError(f"{folder}: {len(train.labels)} images in train are too few; give {2 / HELD_OUT_SHARE:.0f}")
    strength = choose_strength(train.vectors, train.labels, len(tree.class_folders))
    weights = fit(train.vectors, train.labels, len(tree.class_folders), strength)
    top1, top5 = frozen_features.shares_right(scores(weights, val.vectors), val.labels, (1, 5))
    return FeatureClassificationResult(
        task="linear probe",
        folder=str(tree.folder),
        protocol=f"logistic regression, L2 penalty of {strength:g} chosen on {HELD_OUT_SHARE:.0%} of train",
        split="val",
        resolution=f"{image_size}x{image_size}, short side resized, centre crop",
        prompt_set="none",
        pooling=model.config.pooling,
        images=len(val.labels),
        unreadable=train.unreadable + val.unreadable,
        seconds=time.perf_counter() - started,
        top1=top1,
        top5=top5,
        train_images=len(train.labels),
    )


def choose_strength(vectors: Float[np.ndarray, "I D"], labels: Int32[np.ndarray, "I"], number_of_classes: int) -> float:
    """The strength with the best top-1 on a seeded tenth that is not fitted; the strongest of equals."""
    order = np.random.default_rng(0).permutation(len(labels))
    held_out, fitted = np.split(order, [round(HELD_OUT_SHARE * len(order))])
    weights, accuracies = None, []
    for strength in STRENGTHS:
        weights = fit(vectors[fitted], labels[fitted], number_of_classes, strength, weights)
        held_out_scores = scores(weights, vectors[held_out])
        accuracies.append(frozen_features.shares_right(held_out_scores, labels[held_out], (1,))[0])
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
