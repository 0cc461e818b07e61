"""The text tower beside `transformers`' T5EncoderModel with Sentence-T5's head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing
from clippy_jax.models import t5
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.models.packed_texts import packs_of_one
from clippy_jax.models.precision import precision_of
from clippy_jax.models.t5 import SentenceT5
from tests.models import configurations
from tests.models.torch_twin import params_of, random_twin, relative_error, relative_errors


def random_tokens(lengths, padded_to, seed=0, vocabulary=100):
    """Texts of the given numbers of tokens: words, the end-of-sentence 1, then padding."""
    tokens = np.zeros((len(lengths), padded_to), np.int32)
    random = np.random.default_rng(seed)
    for row, length in zip(tokens, lengths):
        row[: length - 1] = random.integers(3, vocabulary, length - 1)
        row[length - 1] = 1
    return tokens


def torch_embeddings(twin, tokens):
    """Sentence embeddings before the normalisation."""
    mask = torch.tensor(tokens != 0)
    words = twin.text(input_ids=torch.tensor(tokens), attention_mask=mask.long()).last_hidden_state
    return twin.dense((words * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))


def tower(config, **arguments):
    """(params, tokens, dropout key) → sentence embeddings, compiled."""
    module = SentenceT5(config, precision_of("float32"))

    @jax.jit
    def apply(params, tokens, key=None):
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, packs_of_one(tokens), rngs=rngs, **arguments)

    return apply


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("lengths, padded_to", [((2, 5, 16, 9), 16), ((300, 1, 150), 300)])
def test_embeddings_equal_torch(gated, lengths, padded_to):
    config = configurations.model(text=configurations.text_tower(gated_mlp=gated))
    twin = random_twin(config)
    tokens = random_tokens(lengths, padded_to)
    ours = tower(config.text)(params_of(twin)["text"], tokens)
    with torch.no_grad():
        assert relative_error(ours, torch_embeddings(twin, tokens)) <= 1e-5


def test_other_buckets_and_head_widths_equal_torch():
    changes = dict(relative_buckets=12, relative_max_distance=20, heads=3, head_width=12, depth=3)
    config = configurations.model(text=configurations.text_tower(**changes))
    twin = random_twin(config)
    tokens = random_tokens((40, 7), 40)
    ours = tower(config.text)(params_of(twin)["text"], tokens)
    with torch.no_grad():
        assert relative_error(ours, torch_embeddings(twin, tokens)) <= 1e-5


def test_padding_changes_nothing():
    config = configurations.text_tower()
    params = params_of(random_twin(configurations.model()))["text"]
    apply = tower(config)
    short = random_tokens((3, 16, 8), 16)
    long = np.pad(short, ((0, 0), (0, 77 - 16)))
    assert relative_error(apply(params, long), apply(params, short)) <= 1e-6


def test_text_of_padding_alone_is_finite():
    params = params_of(random_twin(configurations.model()))["text"]
    embeddings = tower(configurations.text_tower())(params, np.zeros((2, 8), np.int32))
    np.testing.assert_array_equal(embeddings, np.zeros((2, 48)))


TEXT = random_tokens((6,), 8)


@pytest.fixture(scope="module")
def dropout_twin():
    return random_twin(configurations.model(text=configurations.text_tower(dropout=0.1)))


def test_dropout_only_in_training_and_by_key(dropout_twin):
    params, text = params_of(dropout_twin)["text"], np.repeat(TEXT, 2, axis=0)
    evaluated = tower(dropout_twin.config.text)(params, text)
    train = tower(dropout_twin.config.text, train=True)
    with torch.no_grad():
        assert relative_error(evaluated, torch_embeddings(dropout_twin, text)) <= 1e-5
    one, same, other = (np.asarray(train(params, text, jax.random.key(number))) for number in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert relative_error(one, other) > 1e-2
    assert relative_error(one[0], one[1]) > 1e-2  # two copies of a text do not share a mask
    without = tower(configurations.text_tower(dropout=0.0), train=True)(params, text)
    assert relative_error(without, evaluated) <= 1e-6


def test_dropout_spreads_embeddings_as_torch_does(dropout_twin):
    """Mean and standard deviation over 2,000 masks: dropout elsewhere, or masks shared by layers, would move them."""
    params, copies = params_of(dropout_twin)["text"], np.repeat(TEXT, 2000, axis=0)
    ours = np.asarray(tower(dropout_twin.config.text, train=True)(params, copies, jax.random.key(0)))
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = torch_embeddings(dropout_twin.train(), copies).numpy()
    dropout_twin.eval()
    np.testing.assert_allclose(ours.std(axis=0).mean(), theirs.std(axis=0).mean(), rtol=0.02)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.15)
    assert (np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) < 6 * theirs.std(axis=0) / 2000**0.5).all()


@pytest.mark.parametrize(
    "size, count",
    # T5's encoder and the dense layer: `sum(p.numel() for p in model.parameters())` of the published models.
    [("base", 109_628_544 + 768 * 768), ("large", 334_939_648 + 1024 * 768)],
)
def test_parameter_count_is_sentence_t5s(size, count):
    assert set(t5.SIZES) == {"tiny", "base", "large"}
    module = SentenceT5(configurations.text_tower(size), precision_of("float32"))
    params = jax.eval_shape(module.init, jax.random.key(0), packs_of_one(jnp.ones((1, 4), jnp.int32)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_texts_that_share_rows_have_the_embeddings_and_gradients_of_texts_alone():
    config = configurations.model()
    params = params_of(random_twin(config))
    tokens = random_tokens([16, 2, 5, 9, 1, 7, 3, 3, 12, 4, 2, 2], 16)
    packing = find_packing(tokens, texts_per_pack=6, microbatches=1)
    assert packing.rows < 6
    texts = fill_rows(packing, packing.rows)
    direction = np.random.default_rng(0).normal(size=(12, config.text.embedding_width)).astype(np.float32)

    def value_and_gradient(inputs, method):
        def along(params):
            embeddings = CLIPpy(config).apply({"params": params}, inputs, method=method)
            return (embeddings * direction).sum(), embeddings

        (_, embeddings), gradient = jax.jit(jax.value_and_grad(along, has_aux=True))(params)
        return embeddings, gradient["text"]

    packed, alone = value_and_gradient(texts, "encode_packed_texts"), value_and_gradient(tokens, "encode_text")
    assert relative_error(packed[0], alone[0]) <= 1e-5
    assert max(relative_errors(packed[1], alone[1]).values()) <= 1e-5


def test_a_frequent_words_gradient_is_added_up_in_float32():
    """Every text ends with the same word; in bfloat16, a sum of so many numbers would be off by a tenth."""
    config = configurations.text_tower()
    params = params_of(random_twin(configurations.model(text=config)))["text"]
    texts = packs_of_one(random_tokens([8] * 512, padded_to=8))

    def gradient(precision):
        module = SentenceT5(config, precision_of(precision))
        of_params = jax.jit(jax.grad(lambda params: module.apply({"params": params}, texts).mean()))(params)
        return of_params["token_embedding"]["embedding"][1]

    assert relative_error(gradient("bfloat16"), gradient("float32")) <= 0.02
