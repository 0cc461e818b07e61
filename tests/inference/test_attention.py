import jax
import numpy as np

from clippy_jax.inference import Model
from clippy_jax.models.clippy import CLIPpy
from tests.models import configurations


def test_attention_is_the_cls_tokens_on_the_grid():
    config = configurations.model(configurations.image_tower(image_size=32, registers=4))
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 48, 3), dtype=np.uint8)
    params = jax.jit(CLIPpy(config).init)(jax.random.key(0), images, np.ones((8, 4), np.int32))["params"]
    ours = np.asarray(Model(params, config, None, 32).attention(images))
    weights = np.asarray(CLIPpy(config).apply({"params": params}, images, method="attention"))
    assert ours.shape == (8, config.image.heads, 2, 3)
    for row in range(2):
        for column in range(3):
            token = 1 + 4 + 3 * row + column  # after CLS and registers
            np.testing.assert_allclose(ours[:, :, row, column], weights[:, :, 0, token], atol=1e-6)
    np.testing.assert_allclose(ours.sum(axis=(2, 3)) + weights[:, :, 0, :5].sum(axis=2), 1, atol=1e-5)
