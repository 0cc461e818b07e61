"""Every loss on one, two and eight devices, beside one float64 NumPy formula for value and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from clippy_jax.config import LossConfig
from clippy_jax.mesh import batch_sharding
from clippy_jax.training.losses.contrastive import contrastive_loss, initial_loss_params
from clippy_jax.training.losses.ring_softmax import ring_softmax_loss
from clippy_jax.training.losses.sigmoid import sigmoid_contrastive_loss

KINDS = [("softmax", "mean"), ("ring", "mean"), ("ring", "sum"), ("sigmoid", "mean")]
PARAMS = {"logit_scale": np.float32(np.log(1 / 0.07)), "logit_bias": np.float32(-3)}


def mesh_of(devices):
    return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])


def unit_features(batch, width=16):
    features = np.random.default_rng(0).normal(size=(2, batch, width))
    features[1] += 0.5 * features[0]
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


def reference(image, text, params, kind, reduction):
    """Loss and gradients (image, text, log scale, bias) from the full matrix of logits."""
    image, text = image.astype(np.float64), text.astype(np.float64)
    scale, batch = np.exp(np.float64(params["logit_scale"])), len(image)
    logits, same = scale * image @ text.T, np.eye(batch)
    if kind == "sigmoid":
        logits = logits + params["logit_bias"]
        loss = np.logaddexp(0, np.where(same, -logits, logits)).sum() / batch
        gradient = (1 / (1 + np.exp(-logits)) - same) / batch
    else:
        by_image, by_text = (np.exp(logits) / np.exp(logits).sum(axis=axis, keepdims=True) for axis in (1, 0))
        weight = {"mean": 0.5, "sum": 1.0}[reduction] / batch
        loss = -weight * (np.log(np.diag(by_image)) + np.log(np.diag(by_text))).sum()
        gradient = weight * (by_image + by_text - 2 * same)
    cosines = image @ text.T
    return loss, (
        scale * gradient @ text,
        scale * gradient.T @ image,
        scale * (gradient * cosines).sum(),
        gradient.sum(),
    )


def check(loss_and_gradients, image, text, kind, reduction):
    loss, gradients = loss_and_gradients
    wanted, wanted_gradients = reference(image, text, PARAMS, kind, reduction)
    np.testing.assert_allclose(loss, wanted, rtol=5e-6)
    for ours, exact in zip(gradients[:2], wanted_gradients):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    # These are small differences of logits, which are as large as the scale: so is their rounding.
    for ours, exact in zip(gradients[2:], wanted_gradients[2:]):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-6 * np.exp(PARAMS["logit_scale"]))


@pytest.mark.parametrize("devices, batch", [(1, 7), (2, 24), (8, 24), (8, 64)])
@pytest.mark.parametrize("kind, reduction", KINDS)
def test_loss_and_gradients_equal_float64(kind, reduction, devices, batch):
    mesh, config = mesh_of(devices), LossConfig(kind, reduction)
    image, text = jax.device_put(tuple(unit_features(batch)), batch_sharding(mesh))
    loss = jax.jit(
        jax.value_and_grad(lambda i, t, params: contrastive_loss(i, t, params, config, mesh), argnums=(0, 1, 2))
    )
    value, (by_image, by_text, by_params) = loss(image, text, PARAMS)
    gradients = (by_image, by_text, by_params["logit_scale"], by_params["logit_bias"])
    check((value, gradients[: 4 if kind == "sigmoid" else 3]), *unit_features(batch), kind, reduction)


@pytest.mark.parametrize("logits_at_once", [1, 60, 100, 10**6])
@pytest.mark.parametrize("kind", ["ring", "sigmoid"])
def test_blocks_need_not_divide_a_devices_share(kind, logits_at_once):
    """26 rows on 2 devices are 13 for each, in blocks of 1, 4, 7 and 13."""
    mesh = mesh_of(2)
    if kind == "ring":
        loss = functools.partial(ring_softmax_loss, reduction="mean", mesh=mesh, logits_at_once=logits_at_once)
        numbers = (PARAMS["logit_scale"],)
    else:
        loss = functools.partial(sigmoid_contrastive_loss, mesh=mesh, logits_at_once=logits_at_once)
        numbers = (PARAMS["logit_scale"], PARAMS["logit_bias"])
    arguments = (*jax.device_put(tuple(unit_features(26)), batch_sharding(mesh)), *numbers)
    both = jax.jit(jax.value_and_grad(lambda *a: loss(*a), argnums=tuple(range(len(arguments)))))(*arguments)
    check(both, *unit_features(26), kind, "mean")


def test_gradients_of_a_scaled_loss_are_scaled():
    mesh = mesh_of(8)
    image, text = unit_features(16)
    for kind in ("ring", "sigmoid"):
        config = LossConfig(kind, "mean")
        once, thrice = (
            jax.jit(jax.grad(lambda t: factor * contrastive_loss(image, t, PARAMS, config, mesh)))(text)  # noqa: B023
            for factor in (1, 3)
        )
        np.testing.assert_allclose(thrice, 3 * once, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", ["softmax", "ring", "sigmoid"])
def test_finite_at_the_largest_scale_with_pairs_all_alike_or_opposed(kind):
    mesh, config = mesh_of(8), LossConfig(kind, "mean")
    params = {"logit_scale": jnp.float32(np.log(100)), "logit_bias": jnp.float32(-10)}
    image = jnp.tile(jnp.eye(1, 16), (16, 1))
    loss = jax.jit(jax.value_and_grad(lambda i, t: contrastive_loss(i, t, params, config, mesh), argnums=(0, 1)))
    for text in (image, -image):
        value, gradients = loss(image, text)
        wanted = {True: 15 * 90, False: 110}[text is image] if kind == "sigmoid" else np.log(16)
        np.testing.assert_allclose(value, wanted, rtol=1e-4)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_ring_needs_memory_linear_in_the_batch():
    """At 65,536 pairs of 768 features on eight devices; the logits alone would take 2 GB of each."""
    mesh = mesh_of(8)
    features = jax.ShapeDtypeStruct((65536, 768), jnp.float32, sharding=batch_sharding(mesh))
    number = jax.ShapeDtypeStruct((), jnp.float32)
    for kind in ("ring", "sigmoid"):
        config = LossConfig(kind, "mean")

        def loss(image, text, scale, bias):
            params = {"logit_scale": scale, "logit_bias": bias}
            return contrastive_loss(image, text, params, config, mesh)  # noqa: B023

        step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))
        compiled = step.lower(features, features, number, number).compile()
        assert compiled.memory_analysis().temp_size_in_bytes <= 160e6


def test_sigmoid_starts_as_siglip_and_alone_has_a_bias():
    start = initial_loss_params(LossConfig("sigmoid", "mean"))
    np.testing.assert_allclose([np.exp(start["logit_scale"]), start["logit_bias"]], [10, -10], rtol=1e-6)
    assert initial_loss_params(LossConfig("softmax", "mean")) == initial_loss_params(LossConfig("ring", "mean")) == {}
