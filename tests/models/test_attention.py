"""The kernel itself needs a GPU; here, what decides about it, and that the tower gives it the right arrays."""

import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing
from clippy_jax.models import attention, t5, vit
from clippy_jax.models.attention import fused_attention, fused_attention_works, kernel_length
from clippy_jax.models.packed_texts import packs_of_one
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from tests.models import configurations
from tests.models.test_t5 import random_tokens
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
            lambda *arrays, implementation, **options: kernel(*arrays, **options),
        )
        fused_attention_works.cache_clear()

    yield pretend
    fused_attention_works.cache_clear()


def test_nothing_is_tried_without_a_gpu_or_in_float32(gpu):
    assert not fused_attention_works(197, 12, 64, BFLOAT16)
    gpu(attend)
    assert not fused_attention_works(197, 12, 64, jnp.dtype("float32"))


@pytest.mark.parametrize("biased", [False, True])
def test_a_right_kernel_is_used_also_while_a_program_is_traced(gpu, biased):
    gpu(attend)
    found = []
    jax.jit(lambda x: found.append(fused_attention_works(17, 2, 8, BFLOAT16, biased)) or x)(1.0)
    assert found == [True]


def test_a_kernel_that_is_missing_is_not_used(gpu, caplog):
    def missing(*arrays, **options):
        raise RuntimeError("cuDNN is not\ndetected.")

    gpu(missing)
    assert not fused_attention_works(17, 2, 8, BFLOAT16)
    assert "attention without cuDNN's kernel: cuDNN is not detected." in caplog.text


@jax.custom_vjp
def with_gradients_of_nan(x):
    return x


with_gradients_of_nan.defvjp(lambda x: (x, None), lambda _, gradient: (gradient * jnp.nan,))


@pytest.mark.parametrize(
    "biased, wrong",
    [
        (False, lambda q, k, v, **lengths: attend(q, k, v, scale=1.0, **lengths)),
        (False, lambda q, k, v, **lengths: attend(q, k, v, **lengths) * jnp.nan),
        (False, lambda q, k, v, **lengths: attend(q, k, with_gradients_of_nan(v), **lengths)),
        (False, lambda q, k, v, **lengths: attend(q, k, v)),
        (True, lambda q, k, v, bias, scale: attend(q, k, v, scale=scale)),
        (True, lambda q, k, v, bias, scale: attend(q, k, v, bias)),
        (True, lambda q, k, v, bias, scale: attend(q, k, v, jax.lax.stop_gradient(bias), scale=scale)),
        (True, lambda q, k, v, bias, scale: attend(q, k, v, jnp.maximum(bias, -1.0), scale=scale)),
        (True, lambda q, k, v, bias, scale: attend(q, k, v, bias[:1], scale=scale)),
    ],
)
def test_a_kernel_with_other_numbers_is_not_used(gpu, caplog, biased, wrong):
    gpu(wrong)
    assert not fused_attention_works(17, 2, 8, BFLOAT16, biased)
    assert "its numbers are off by" in caplog.text


@pytest.mark.parametrize("tokens, biased", [(197, False), (256, False), (77, True)])
def test_jax_takes_the_towers_shapes_for_training_on_a_gpu(monkeypatch, tokens, biased):
    """As far as a machine without one can tell: JAX asks for the card and the library only when it lowers."""
    for name, answer in (("check_cudnn_version", 91500), ("check_compute_capability", True)):
        monkeypatch.setattr(fused_attention_stablehlo, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda capability: False)
    row = kernel_length(tokens, biased)
    arrays = [jax.ShapeDtypeStruct((2, row, 12, 64), BFLOAT16)] * 3
    arrays += [jax.ShapeDtypeStruct((2, 12, row, row), BFLOAT16)] * biased

    def attend(query, key, value, bias=None):
        return fused_attention(query, key, value, length=tokens, bias=bias)

    def gradients(*arrays):
        result, pull = jax.vjp(attend, *arrays)
        return pull(result)

    kernels = [f"__cudnn$fmha{'ScaleBias' * biased}Softmax{way}" for way in ("", "Backward")]
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in kernels]
    # Microbatches on several devices are encoded under `jax.vmap`.
    for function, shape in ((gradients, ()), (jax.vmap(gradients), (2,))):
        given = [jax.ShapeDtypeStruct((*shape, *array.shape), array.dtype) for array in arrays]
        exported = jax.export.export(jax.jit(function), platforms=["cuda"], disabled_checks=checks)(*given)
        assert all(name in exported.mlir_module() for name in kernels)
        assert [array.shape for array in exported.out_avals] == [array.shape for array in given]


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_tower_and_its_gradients_are_the_same_through_the_kernel(backend, monkeypatch):
    config = configurations.model()
    params, images = params_of(random_twin(config))["image"], random_images(2, 32, 48)

    def gradients(params):
        def loss(params):
            tokens = tower(config.image)(params, images)
            return (tokens.patches**2).sum() + (tokens.cls**3).sum(), tokens

        return jax.grad(loss, has_aux=True)(params)

    plain = gradients(params)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    calls = []
    monkeypatch.setattr(vit, "fused_attention_works", lambda *shape: calls.append(shape) or True)
    rows = []

    def kernel(query, *rest, implementation, **options):
        rows.append(query.shape[1])
        return attend(query, *rest, **options)

    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", kernel)
    fused = gradients(params)
    assert set(rows) == {8}  # 1 + 2 x 3 tokens, and one that fills the row up
    assert calls and set(calls) == {(7, 3, 16, jnp.dtype("float32"))}
    assert max(jax.tree.leaves(jax.tree.map(relative_error, fused, plain))) <= 1e-5
    maps = tower(config.image, return_attention=True)(params, images).attention
    np.testing.assert_allclose(np.asarray(maps).sum(axis=-1), 1, rtol=1e-5)  # not asked of the kernel


def test_the_text_tower_and_its_gradients_are_the_same_through_the_kernel(monkeypatch):
    """Short texts in rows of a length that the kernel does not take, and padding behind them."""
    config = configurations.text_tower(dropout=0.0, attention_dropout=0.0)
    params = params_of(random_twin(configurations.model(text=config)))["text"]
    packing = find_packing(random_tokens((2, 5, 3, 9, 1, 4), padded_to=13), texts_per_pack=3, microbatches=1)
    texts, module = fill_rows(packing, packing.rows + 1), SentenceT5(config, precision_of("float32"))

    def gradients():
        def loss(params):
            embeddings = module.apply({"params": params}, texts, train=True, rngs={"dropout": jax.random.key(0)})
            return (embeddings**2).sum(), embeddings

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    plain = gradients()
    lengths = []

    def kernel(query, *rest, implementation, **options):
        lengths.append(query.shape[1])
        return attend(query, *rest, **options)

    monkeypatch.setattr(t5, "fused_attention_works", lambda *shape, biased: biased)
    monkeypatch.setattr(attention.jax.nn, "dot_product_attention", kernel)
    fused = gradients()
    assert set(lengths) == {16}
    assert max(jax.tree.leaves(jax.tree.map(relative_error, fused, plain))) <= 1e-5


def test_attention_weights_have_a_dropout_of_their_own():
    """-1 is the rate of the others, number for number."""
    params = params_of(random_twin(configurations.model()))["text"]
    tokens = random_tokens((7, 5), padded_to=8)

    def embeddings(**rates):
        module = SentenceT5(configurations.text_tower(**rates), precision_of("float32"))
        return module.apply({"params": params}, packs_of_one(tokens), train=True, rngs={"dropout": jax.random.key(0)})

    same, own, none = embeddings(dropout=0.3), embeddings(dropout=0.3, attention_dropout=0.3), embeddings(dropout=0.0)
    np.testing.assert_array_equal(same, own)
    only_weights = embeddings(dropout=0.0, attention_dropout=0.3)
    only_others = embeddings(dropout=0.3, attention_dropout=0.0)
    for one, other in itertools.combinations((same, none, only_weights, only_others), 2):
        assert relative_error(one, other) > 1e-2
