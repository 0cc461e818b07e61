"""The tables beside the public packages' names, and the full-size model through them and back."""

import numpy as np
import pytest

from clippy_jax.weights.adamw import read_moments, write_moments
from clippy_jax.weights.rules import to_flax, to_torch, torch_shapes
from clippy_jax.weights.torch_names import clippy_rules, t5_rules
from clippy_jax.weights.towers import parameter_shapes
from tests.models import configurations
from tests.weights import public_files


@pytest.mark.parametrize("gated", [False, True])
def test_t5_names_and_order_are_those_of_transformers(gated):
    model = public_files.t5(gated)
    config = configurations.text_tower(vocabulary_size=public_files.VOCABULARY, gated_mlp=gated)
    like = {key: value for key, value in parameter_shapes(config).items() if key != "dense"}
    shapes = torch_shapes(like, t5_rules(gated))
    assert list(shapes) == list(model.state_dict())
    assert shapes == {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("gated", [False, True])
def test_the_table_has_every_parameter_of_the_model(gated):
    config = configurations.model(
        text=configurations.text_tower(gated_mlp=gated, embedding_width=40), image_projection=True
    )
    shapes = torch_shapes(parameter_shapes(config), clippy_rules(gated, image_projection=True))
    assert shapes["visual.head.proj.weight"] == (40, 48)


def full_size_config():
    return configurations.model(configurations.image_tower("B/16"), configurations.text_tower("base"))


def test_the_full_size_is_that_of_the_public_file():
    shapes = torch_shapes(parameter_shapes(full_size_config()), clippy_rules(False, False))
    assert len(shapes) == 252
    assert sum(key.startswith("visual.trunk.") for key in shapes) == 150
    assert shapes["visual.trunk.blocks.11.attn.qkv.weight"] == (2304, 768)
    assert shapes["visual.trunk.patch_embed.proj.weight"] == (768, 3, 16, 16)
    assert shapes["text.0.auto_model.encoder.embed_tokens.weight"] == (32128, 768)
    assert shapes["text.0.auto_model.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] == (32, 12)
    assert shapes["text.2.linear.weight"] == (768, 768)


def distinct(shape, start):
    """Finite numbers, no two alike, made as fast as memory is written."""
    count = int(np.prod(shape))
    return np.arange(start, start + count, dtype=np.uint32).view(np.float32).reshape(shape)


def test_the_full_size_round_trip_is_exact():
    config, rules = full_size_config(), clippy_rules(False, False)
    like = parameter_shapes(config)
    tensors = {key: distinct(shape, 0x30000000 + i) for i, (key, shape) in enumerate(torch_shapes(like, rules).items())}
    tensors["text.0.auto_model.encoder.embed_tokens.weight"] = tensors["text.0.auto_model.shared.weight"]
    back = to_torch(to_flax(tensors, rules, like), rules)
    assert list(back) == list(tensors)
    for key, value in tensors.items():
        assert back[key].dtype == value.dtype
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_the_moments_of_as_many_parameters_come_back_exactly():
    rules = clippy_rules(False, False)
    thin = dict(width=96, mlp_width=384)  # what full size is, the round trip above has seen
    text = configurations.text_tower("base", vocabulary_size=1000, head_width=8, embedding_width=96, **thin)
    like = parameter_shapes(configurations.model(configurations.image_tower("B/16", **thin), text))
    shapes = torch_shapes(like, rules)
    shapes.pop("text.0.auto_model.encoder.embed_tokens.weight")
    exempt = [key for key, shape in shapes.items() if len(shape) < 2 or "bias" in key]
    order = exempt + [key for key in shapes if key not in exempt]
    assert (len(exempt), len(order)) == (126, 251)
    optimizer = {
        "state": {
            number: {
                "step": np.array(5000, np.float32),
                "exp_avg": distinct(shapes[key], 0x30000000 + number),
                "exp_avg_sq": distinct(shapes[key], 0x31000000 + number),
            }
            for number, key in enumerate(order)
        },
        "param_groups": [
            {"lr": 2.5e-4, "weight_decay": 0.0, "params": list(range(126))},
            {"lr": 2.5e-4, "weight_decay": 0.2, "params": list(range(126, 251))},
        ],
    }
    back = write_moments(read_moments(optimizer, rules, like, "file"), rules)
    assert back["param_groups"] == optimizer["param_groups"]
    assert list(back["state"]) == list(optimizer["state"])
    for number, entry in optimizer["state"].items():
        assert entry.keys() == back["state"][number].keys()
        for key, value in entry.items():
            np.testing.assert_array_equal(back["state"][number][key], value, err_msg=f"{number} {key}")
