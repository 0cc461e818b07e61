"""A small checkpoint whose every parameter is random, so that none can be left out."""

import jax
import numpy as np
import pytest

import clippy_jax
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.converted_folder import write_converted_folder
from tests.models import configurations


def random_params(config, seed=0):
    """Parameters of a model: kernels that keep the size of what passes them, norms around 1, everything else small."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        name, noise = path[-1].key, random.normal(size=leaf.shape)
        if name == "scale":
            return 1 + 0.2 * noise
        if name == "kernel":
            return noise * leaf.shape[-2] ** -0.5
        return noise * (1.0 if name in ("embedding", "cls_token", "position_embedding", "probe") else 0.2)

    images, tokens = np.zeros((1, *2 * (config.image.patch_size,), 3), np.uint8), np.ones((1, 4), np.int32)
    shapes = jax.eval_shape(CLIPpy(config).init, jax.random.key(0), images, tokens)["params"]
    tree = jax.tree_util.tree_map_with_path(draw, shapes)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, spiece_folder):
    """A converted folder."""
    config = configurations.model(
        configurations.image_tower(image_size=64),
        configurations.text_tower(vocabulary_size=200, embedding_width=48),
        pooling="max_with_cls",
    )
    checkpoint = Checkpoint(params=random_params(config), config=config, image_size=64, tokenizer=str(spiece_folder))
    folder = tmp_path_factory.mktemp("export") / "checkpoint"
    write_converted_folder(str(folder), checkpoint)
    return folder


@pytest.fixture(scope="session")
def model(checkpoint):
    return clippy_jax.load(str(checkpoint))
