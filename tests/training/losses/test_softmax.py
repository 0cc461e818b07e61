"""The softmax loss, beside float64 NumPy and PyTorch's cross entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from clippy_jax.training.losses.softmax import softmax_contrastive_loss

LOSS = jax.jit(softmax_contrastive_loss, static_argnums=3)
GRADIENTS = jax.jit(jax.grad(softmax_contrastive_loss, argnums=(0, 1, 2)), static_argnums=3)


def unit_features(batch, width=16, seed=0):
    features = np.random.default_rng(seed).normal(size=(2, batch, width))
    features[1] += 0.5 * features[0]
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


def reference(image, text, log_scale, reduction):
    logits = np.exp(np.float64(log_scale)) * image.astype(np.float64) @ text.astype(np.float64).T
    directions = []
    for rows in (logits, logits.T):
        shifted = rows - rows.max(axis=1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        directions.append(-np.diag(log_probability).mean())
    return sum(directions) / {"mean": 2, "sum": 1}[reduction]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [1, 2, 7, 33, 64])
@pytest.mark.parametrize("log_scale", [0.0, np.log(1 / 0.07), np.log(100)])
def test_value_equals_float64_reference(batch, log_scale, reduction):
    image, text = unit_features(batch)
    loss = LOSS(jnp.asarray(image), jnp.asarray(text), jnp.float32(log_scale), reduction)
    np.testing.assert_allclose(loss, reference(image, text, log_scale, reduction), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [2, 7, 33])
def test_gradients_equal_torch_cross_entropy(batch, reduction):
    arguments = (*unit_features(batch), np.float32(np.log(1 / 0.07)))
    ours = GRADIENTS(*map(jnp.asarray, arguments), reduction)

    image, text, log_scale = tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arguments]
    logits = log_scale.exp() * image @ text.T
    labels = torch.arange(batch)
    loss = functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
    (loss / {"mean": 2, "sum": 1}[reduction]).backward()
    for gradient, tensor in zip(ours[:2], tensors):
        theirs = tensor.grad.numpy()
        np.testing.assert_allclose(gradient, theirs, atol=3e-5 * np.abs(theirs).max())
    # The scale's gradient is a small difference of logits, which are as large as the scale: so is its rounding.
    np.testing.assert_allclose(ours[2], log_scale.grad.numpy(), atol=1e-6 / 0.07)


def test_finite_where_every_pair_is_the_same():
    features = jnp.tile(jnp.eye(1, 16), (5, 1))
    gradients = GRADIENTS(features, features, jnp.float32(np.log(100)), "mean")
    np.testing.assert_allclose(LOSS(features, features, jnp.float32(np.log(100)), "mean"), np.log(5), rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
