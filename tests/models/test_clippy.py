"""Both towers joined: pooling, projection, normalisation, gradients, precision and rematerialisation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from clippy_jax.models.clippy import IMAGE_MEAN, IMAGE_STD, CLIPpy, l2_normalise, normalise_pixels
from clippy_jax.training.losses.softmax import softmax_contrastive_loss
from tests.models import configurations
from tests.models.operations import operations
from tests.models.test_t5 import random_tokens
from tests.models.test_vit import random_images
from tests.models.torch_twin import gradients_of, params_of, random_twin, relative_error, relative_errors
from tools.benchmarks.torch_clippy import contrastive_loss

IMAGES = random_images(5, 96, 128)
TOKENS = random_tokens((3, 12, 7, 2, 9), 12)


def features(config, params, images=IMAGES, tokens=TOKENS):
    """Patch embeddings, image embeddings, text embeddings."""
    module = CLIPpy(config)

    @jax.jit
    def apply(params):
        patches, pooled = module.apply({"params": params}, images, method="encode_image")
        return patches, pooled, module.apply({"params": params}, tokens, method="encode_text")

    return apply(params)


def loss_and_gradient(config, params, train=False, compiler_options=None):
    module = CLIPpy(config)

    def loss(params):
        outputs = module.apply({"params": params}, IMAGES, TOKENS, train=train, rngs={"dropout": jax.random.key(0)})
        return softmax_contrastive_loss(*outputs, "mean")

    return jax.jit(jax.value_and_grad(loss), compiler_options=compiler_options)(params)


@pytest.mark.parametrize("pooling", ["max", "max_with_cls", "avg", "cls", "cls_and_avg"])
@pytest.mark.parametrize("image_projection", [False, True])
def test_features_equal_torch(pooling, image_projection):
    width = (24 if image_projection else 48) * (2 if pooling == "cls_and_avg" else 1)
    text = configurations.text_tower(embedding_width=width)
    config = configurations.model(text=text, pooling=pooling, image_projection=image_projection)
    twin = random_twin(config)
    patches, pooled, sentences = features(config, params_of(twin))
    with torch.no_grad():
        their_patches, their_pooled = twin.encode_image(torch.tensor(IMAGES))
        their_sentences = twin.encode_text(torch.tensor(TOKENS))
    assert relative_error(patches, their_patches) <= 1e-5
    assert relative_error(pooled, their_pooled) <= 1e-5
    assert relative_error(sentences, their_sentences) <= 1e-5
    for vectors in (patches, pooled, sentences):
        assert vectors.dtype == jnp.float32
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "text, changes",
    [
        (dict(), dict(pooling="max")),
        (dict(gated_mlp=True, embedding_width=24), dict(pooling="max_with_cls", image_projection=True)),
    ],
)
def test_gradient_of_every_parameter_equals_torch(text, changes):
    config = configurations.model(text=configurations.text_tower(**text), **changes)
    twin = random_twin(config)
    loss, gradient = loss_and_gradient(config, params_of(twin), compiler_options=configurations.FULLY_OPTIMISED)
    their_loss = contrastive_loss(*twin(torch.tensor(IMAGES), torch.tensor(TOKENS)))
    their_loss.backward()
    assert relative_error(loss, their_loss) <= 1e-5
    errors = relative_errors(gradient, gradients_of(twin))
    assert max(errors.values()) <= 1e-4, errors


def test_call_returns_what_the_loss_reads():
    config = configurations.model()
    params = params_of(random_twin(config))
    image, text, logit_scale = jax.jit(CLIPpy(config).apply)({"params": params}, IMAGES, TOKENS)
    _, pooled, sentences = features(config, params)
    np.testing.assert_allclose(image, pooled, atol=1e-6)
    np.testing.assert_allclose(text, sentences, atol=1e-6)
    assert logit_scale == params["logit_scale"]


def test_attention_is_the_towers():
    config = configurations.model()
    variables = {"params": params_of(random_twin(config))}
    attention = jax.jit(lambda variables: CLIPpy(config).apply(variables, IMAGES[:1], method="attention"))(variables)
    assert attention.shape == (1, 3, 49, 49)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)


def test_pixels_are_normalised_by_clips_statistics():
    assert IMAGE_MEAN == (0.48145466, 0.4578275, 0.40821073)
    assert IMAGE_STD == (0.26862954, 0.26130258, 0.27577711)
    values = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 1, 1, 3))
    expected = (values / np.float64(255) - np.array(IMAGE_MEAN)) / np.array(IMAGE_STD)
    np.testing.assert_allclose(normalise_pixels(jnp.asarray(values)), expected, rtol=1e-5, atol=1e-6)


def test_l2_normalise_equals_torch_and_bears_zeros():
    vectors = np.random.default_rng(0).normal(size=(4, 3, 8)).astype(np.float32)
    vectors[1, 2] = 0
    tensor = torch.tensor(vectors, requires_grad=True)
    normalised = functional.normalize(tensor, dim=-1)
    np.testing.assert_allclose(l2_normalise(jnp.asarray(vectors)), normalised.detach().numpy(), atol=1e-6)
    gradient = jax.grad(lambda x: (l2_normalise(x) ** 3).sum())(jnp.asarray(vectors))
    (normalised**3).sum().backward()
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_bfloat16_stays_close_to_float32(pooling):
    config = configurations.model(pooling=pooling)
    params = params_of(random_twin(config))
    exact = features(config, params)
    rough = features(dataclasses.replace(config, precision="bfloat16"), params)
    for ours, theirs in zip(rough, exact):
        assert ours.dtype == jnp.float32
        assert 1e-5 < float(jnp.abs(ours - theirs).max()) <= 1e-2


def test_parameters_and_gradients_stay_float32_in_bfloat16():
    config = configurations.model(precision="bfloat16")
    params = params_of(random_twin(config))
    loss, gradient = loss_and_gradient(config, params)
    _, images, texts = features(configurations.model(), params)
    exact = softmax_contrastive_loss(images, texts, params["logit_scale"], "mean")
    assert loss.dtype == jnp.float32 and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(loss, exact, rtol=1e-2)
    initial = jax.eval_shape(CLIPpy(config).init, jax.random.key(0), IMAGES, TOKENS)["params"]
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), initial) == jax.tree.map(
        lambda leaf: (leaf.shape, np.dtype(np.float32)), params
    )


def test_the_program_for_a_gpu_computes_the_same(monkeypatch):
    """Its blocks laid out one after the other, its arrays row by row, dropout's masks kept."""
    config = configurations.model(
        image=configurations.image_tower(patch_dropout=0.5), text=configurations.text_tower(dropout=0.2)
    )
    params = params_of(random_twin(config))
    loss, gradient = loss_and_gradient(config, params, train=True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    loss_of_gpu, gradient_of_gpu = loss_and_gradient(config, params, train=True)
    np.testing.assert_allclose(loss_of_gpu, loss, rtol=1e-6)
    assert max(jax.tree.leaves(jax.tree.map(relative_error, gradient_of_gpu, gradient))) <= 1e-5


def test_tensorfloat32_is_float32_on_cpu():
    params = params_of(random_twin(configurations.model()))
    exact = features(configurations.model(), params)
    for ours, theirs in zip(features(configurations.model(precision="tensorfloat32"), params), exact):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "word, dtype, precision",
    [
        ("float32", jnp.float32, jax.lax.Precision.HIGHEST),
        ("tensorfloat32", jnp.float32, jax.lax.Precision.HIGH),
        ("bfloat16", jnp.bfloat16, jax.lax.Precision.DEFAULT),
    ],
)
def test_the_precision_is_that_of_the_towers_products_and_of_nothing_else(word, dtype, precision):
    config = configurations.model(precision=word)
    params = params_of(random_twin(config))

    def loss(params):
        return softmax_contrastive_loss(*CLIPpy(config).apply({"params": params}, IMAGES, TOKENS), "mean")

    found = list(operations(jax.make_jaxpr(loss)(params).jaxpr))
    # Softmax and losses take exponentials and logarithms, norms and embeddings roots; all of them sum.
    for name, count in (("exp", 4), ("log", 2), ("rsqrt", 8), ("reduce_sum", 15)):
        of_kind = [equation for equation, _ in found if equation.primitive.name == name]
        assert len(of_kind) >= count, name
        floating = {equation.invars[0].aval.dtype for equation in of_kind} - {jnp.dtype(jnp.int32)}
        assert floating == {jnp.dtype(jnp.float32)}, name

    def kind(product):
        return product.invars[0].aval.dtype, product.params["precision"]

    products = [(equation, in_block) for equation, in_block in found if equation.primitive.name == "dot_general"]
    of_blocks = [kind(product) for product, in_block in products if in_block]
    assert of_blocks == [(dtype, 2 * (precision,))] * (6 + 8)  # image and text
    *_, text_head, logits = [product for product, in_block in products if not in_block]
    assert kind(text_head) == (jnp.float32, 2 * (precision,))
    assert kind(logits) == (jnp.float32, 2 * (jax.lax.Precision.HIGHEST,))


def test_rematerialisation_changes_nothing():
    """In training too: the backward pass draws the dropout masks of the forward pass again."""
    config = configurations.model(configurations.image_tower(patch_dropout=0.5), configurations.text_tower(dropout=0.1))
    params = params_of(random_twin(config))
    loss, gradient = loss_and_gradient(config, params, train=True)
    again, gradient_again = loss_and_gradient(dataclasses.replace(config, rematerialise=True), params, train=True)
    np.testing.assert_allclose(loss, again, rtol=1e-6)
    errors = relative_errors(gradient_again, gradient)
    assert max(errors.values()) <= 1e-5, errors
