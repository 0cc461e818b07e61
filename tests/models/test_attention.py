"""The kernel itself needs a GPU; here, what decides about it, and that the tower gives it the right arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.models import attention, vit
from clippy_jax.models.attention import fused_attention_works
from tests.models import configurations
from tests.models.test_vit import random_images, tower
from tests.models.torch_twin import params_of, random_twin, relative_error

BFLOAT16 = jnp.dtype("bfloat16")
attend = jax.nn.dot_product_attention


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU, with `kernel` in the place of cuDNN's."""

    def pretend(kernel):
        monkeypatch.setattr(attention.jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(
            attention.jax.nn,
            "dot_product_attention",
            lambda *arrays, implementation: (kernel if implementation == "cudnn" else attend)(*arrays),
        )
        fused_attention_works.cache_clear()

    yield pretend
    fused_attention_works.cache_clear()


def test_nothing_is_tried_without_a_gpu_or_in_float32(gpu):
    assert not fused_attention_works(197, 12, 64, BFLOAT16)
    gpu(attend)
    assert not fused_attention_works(197, 12, 64, jnp.dtype("float32"))


def test_a_right_kernel_is_used_also_while_a_program_is_traced(gpu):
    gpu(attend)
    found = []
    jax.jit(lambda x: found.append(fused_attention_works(17, 2, 8, BFLOAT16)) or x)(1.0)
    assert found == [True]


def test_a_kernel_that_is_missing_is_not_used(gpu, caplog):
    def missing(*arrays):
        raise RuntimeError("cuDNN is not\ndetected.")

    gpu(missing)
    assert not fused_attention_works(17, 2, 8, BFLOAT16)
    assert "attention without cuDNN's kernel: cuDNN is not detected." in caplog.text


@jax.custom_vjp
def with_gradients_of_nan(x):
    return x


with_gradients_of_nan.defvjp(lambda x: (x, None), lambda _, gradient: (gradient * jnp.nan,))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda q, k, v: attend(q, k, v, scale=1.0),
        lambda q, k, v: attend(q, k, v) * jnp.nan,
        lambda q, k, v: attend(q, k, with_gradients_of_nan(v)),
    ],
)
def test_a_kernel_with_other_numbers_is_not_used(gpu, caplog, wrong):
    gpu(wrong)
    assert not fused_attention_works(17, 2, 8, BFLOAT16)
    assert "its numbers are off by" in caplog.text


def test_the_tower_is_the_same_through_the_kernel(monkeypatch):
    config = configurations.model()
    params, images = params_of(random_twin(config))["image"], random_images(2, 32, 48)
    plain = tower(config.image)(params, images)
    calls = []
    monkeypatch.setattr(vit, "fused_attention_works", lambda *shape: calls.append(shape) or True)
    monkeypatch.setattr(vit, "fused_attention", functools.partial(attend, implementation="xla"))
    fused = tower(config.image)(params, images)
    assert calls and set(calls) == {(7, 3, 16, jnp.dtype("float32"))}
    assert relative_error(fused.patches, plain.patches) <= 1e-5 and relative_error(fused.cls, plain.cls) <= 1e-5
    maps = tower(config.image, return_attention=True)(params, images).attention
    np.testing.assert_allclose(np.asarray(maps).sum(axis=-1), 1, rtol=1e-5)  # not asked of the kernel
