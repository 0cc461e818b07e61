"""The image tower beside `transformers`' ViTModel with DINO's settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from clippy_jax.models.clippy import normalise_pixels
from clippy_jax.models.precision import precision_of
from clippy_jax.models.vit import VisionTransformer
from tests.models import configurations
from tests.models.torch_twin import params_of, random_twin, relative_error


def random_images(batch, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def tower(config, **arguments):
    """(params, uint8 images, dropout key) → `ImageTokens`, compiled."""
    module = VisionTransformer(config, precision_of("float32"))

    @jax.jit
    def apply(params, images, key=None):
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, normalise_pixels(images), rngs=rngs, **arguments)

    return apply


@pytest.mark.parametrize(
    "size, interpolation", [((224, 224), "dino"), ((336, 448), "dino"), ((96, 96), "dino"), ((112, 240), "plain")]
)
def test_tokens_equal_torch(size, interpolation):
    config = configurations.model(configurations.image_tower(position_interpolation=interpolation))
    twin = random_twin(config)
    images = random_images(2, *size)
    ours = tower(config.image)(params_of(twin)["image"], images)
    with torch.no_grad():
        theirs = twin.image_tokens(torch.tensor(images))
    grid = (size[0] // 16, size[1] // 16)
    assert ours.patches.shape == (2, *grid, 48)
    assert ours.attention is None
    assert relative_error(ours.cls, theirs[:, 0]) <= 1e-5
    assert relative_error(ours.patches, theirs[:, 1:].unflatten(1, grid)) <= 1e-5


def test_another_patch_size_and_depth_equal_torch():
    config = configurations.model(configurations.image_tower(patch_size=8, image_size=64, depth=1, heads=6))
    twin = random_twin(config)
    images = random_images(1, 64, 80)
    ours = tower(config.image)(params_of(twin)["image"], images)
    with torch.no_grad():
        theirs = twin.image_tokens(torch.tensor(images))
    assert relative_error(ours.patches, theirs[:, 1:].unflatten(1, (8, 10))) <= 1e-5


def test_last_attention_equals_torch():
    config = configurations.model()
    twin = random_twin(config, attention="eager")
    images = random_images(2, 224, 224)
    params = params_of(twin)["image"]
    ours = tower(config.image, return_attention=True)(params, images)
    pixels = torch.tensor(np.array(normalise_pixels(images))).permute(0, 3, 1, 2)
    with torch.no_grad():
        theirs = twin.visual(pixels, output_attentions=True)
    assert ours.attention.shape == (2, 3, 197, 197)
    assert relative_error(ours.attention, theirs.attentions[-1]) <= 1e-5
    assert relative_error(ours.cls, theirs.last_hidden_state[:, 0]) <= 1e-5


def test_image_that_patches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="16 pixels do not divide an image of 224x230"):
        jax.eval_shape(
            VisionTransformer(configurations.image_tower(), precision_of("float32")).init,
            jax.random.key(0),
            jnp.zeros((1, 224, 230, 3)),
        )


@pytest.mark.parametrize(
    "size, count",
    # The published backbones' sizes: PyTorch's `sum(p.numel() for p in model.parameters())`.
    [("S/16", 21_665_664), ("S/8", 21_670_272), ("B/16", 85_798_656), ("B/8", 85_807_872)],
)
def test_parameter_count_is_dinos(size, count):
    module = VisionTransformer(configurations.image_tower(size), precision_of("float32"))
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
