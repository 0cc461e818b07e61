import jax
import numpy as np
import pytest
import torch

from clippy_jax.errors import InputError
from clippy_jax.weights.image_names import image_rules
from clippy_jax.weights.rules import PATCHES, TRANSPOSED, differences, to_flax, to_torch, torch_shapes
from clippy_jax.weights.torch_names import t5_rules
from tests.weights import public_files

IMAGE_RULES = image_rules()


def as_numpy(tensors):
    return {key: value.numpy() for key, value in tensors.items()}


def test_a_patch_kernel_computes_what_the_convolution_computes():
    convolution = torch.nn.Conv2d(3, 5, kernel_size=4, stride=4, bias=False)
    image = torch.randn(1, 3, 4, 4)
    flat = image.numpy().transpose(0, 2, 3, 1).reshape(1, -1)  # rows, columns, channels
    ours = flat @ PATCHES.to_flax(convolution.weight.detach().numpy())
    np.testing.assert_allclose(ours, convolution(image).detach().numpy().reshape(1, 5), atol=1e-6)


@pytest.mark.parametrize("transform, shape", [(PATCHES, (6, 3, 8, 8)), (TRANSPOSED, (4, 7))])
def test_a_transform_undoes_itself(transform, shape):
    value = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(transform.to_torch(transform.to_flax(value)), value)


def test_layers_are_stacked_in_their_order():
    tensors = as_numpy(public_files.dino(depth=11))  # "10" comes before "2" in an alphabet
    kernel = to_flax(tensors, IMAGE_RULES)["blocks"]["mlp_in"]["kernel"]
    assert kernel.shape == (11, 48, 96)
    for layer in range(11):
        np.testing.assert_array_equal(kernel[layer], tensors[f"blocks.{layer}.mlp.fc1.weight"].T)


def test_both_directions_are_exact_and_keep_the_order():
    tensors = as_numpy(public_files.dino())
    back = to_torch(to_flax(tensors, IMAGE_RULES), IMAGE_RULES)
    assert list(back) == list(tensors)
    jax.tree.map(np.testing.assert_array_equal, back, tensors)


def test_parameters_are_float32_and_independent_of_the_source():
    tensors = {key: value.numpy().astype(np.float16) for key, value in public_files.dino().items()}
    params = to_flax(tensors, IMAGE_RULES)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert not any(np.shares_memory(leaf, tensor) for leaf in jax.tree.leaves(params) for tensor in tensors.values())


@pytest.mark.parametrize("lost", ["shared.weight", "encoder.embed_tokens.weight"])
def test_either_key_of_a_shared_tensor_is_enough(lost):
    tensors = as_numpy(public_files.t5().state_dict())
    whole = to_flax(tensors, t5_rules(gated=False))
    embedding = tensors.pop(lost)
    jax.tree.map(np.testing.assert_array_equal, to_flax(tensors, t5_rules(gated=False)), whole)
    np.testing.assert_array_equal(to_torch(whole, t5_rules(gated=False))[lost], embedding)


def test_two_versions_of_a_shared_tensor_are_refused():
    tensors = as_numpy(public_files.t5().state_dict())
    tensors["shared.weight"] = tensors["shared.weight"] + 1
    with pytest.raises(InputError, match="two different versions .* shared.weight and encoder.embed_tokens.weight"):
        to_flax(tensors, t5_rules(gated=False))


def test_all_differences_are_listed_at_once():
    tensors = as_numpy(public_files.dino())
    del tensors["cls_token"], tensors["blocks.1.mlp.fc2.bias"]
    tensors["head.weight"] = np.zeros((10, 48), np.float32)
    tensors["blocks.2.attn.qkv.weight"] = np.zeros((144, 47), np.float32)
    with pytest.raises(InputError) as error:
        to_flax(tensors, IMAGE_RULES, source="file.pth")
    assert str(error.value) == (
        "file.pth does not fit the model: 2 missing: cls_token, blocks.1.mlp.fc2.bias; 1 unexpected: head.weight; "
        "1 misshapen: blocks.2.attn.qkv.weight is [144, 47] instead of [144, 48]"
    )


def test_shapes_are_checked_against_a_wanted_tree():
    narrow, wide = (to_flax(as_numpy(public_files.dino(width=width)), IMAGE_RULES) for width in (48, 96))
    shapes = jax.eval_shape(lambda: wide)
    tensors = to_torch(narrow, IMAGE_RULES)
    wrong = differences(tensors, IMAGE_RULES, shapes)
    assert len(wrong.misshapen) == len(tensors) - 3  # the hidden biases of the three MLPs are alike
    assert not wrong.missing and not wrong.unexpected
    assert ("pos_embed", (1, 197, 48), (1, 197, 96)) in wrong.misshapen
    deep = jax.eval_shape(lambda: to_flax(as_numpy(public_files.dino(depth=4)), IMAGE_RULES))
    assert len(differences(tensors, IMAGE_RULES, deep).missing) == 12


def test_shapes_of_a_state_dict_need_no_arrays():
    params = to_flax(as_numpy(public_files.dino()), IMAGE_RULES)
    shapes = torch_shapes(jax.eval_shape(lambda: params), IMAGE_RULES)
    assert shapes == {key: tuple(value.shape) for key, value in public_files.dino().items()}


def test_a_tree_of_another_model_is_a_bug_of_the_caller():
    params = to_flax(as_numpy(public_files.dino()), IMAGE_RULES)
    del params["cls_token"]
    with pytest.raises(ValueError, match="cls_token"):
        to_torch(params, IMAGE_RULES)
