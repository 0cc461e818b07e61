import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from clippy_jax.input_pipeline.device_batches import device_batches
from clippy_jax.input_pipeline.pipeline import Batch
from clippy_jax.training.sharding import make_mesh


def batch(longest: int, seed: int) -> Batch:
    """Random images, and texts of which one has `longest` words."""
    random = np.random.default_rng(seed)
    tokens = np.zeros((16, 77), np.int32)
    for row, length in enumerate(random.permutation([longest, *random.integers(1, longest + 1, 15)])):
        tokens[row, :length] = random.integers(1, 100, length)
    return Batch(random.integers(0, 256, (16, 4, 4, 3)).astype(np.uint8), tokens)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_all_batches_in_order_with_texts_cut_to_their_bucket(count):
    mesh = make_mesh()
    batches = [batch(longest, seed) for seed, longest in enumerate([5, 16, 17, 77, 33, 1, 48][:count])]
    placed = list(device_batches(iter(batches), mesh, (16, 32, 48, 77)))
    assert [tokens.shape[1] for _, tokens in placed] == [16, 16, 32, 77, 48, 16, 48][:count]
    for (images, tokens), original in zip(placed, batches, strict=True):
        np.testing.assert_array_equal(images, original.images)
        np.testing.assert_array_equal(tokens, original.tokens[:, : tokens.shape[1]])
        assert not original.tokens[:, tokens.shape[1] :].any()
        assert len(images.sharding.device_set) == mesh.size
        assert images.addressable_shards[0].data.shape[0] == 16 // mesh.size


def test_works_on_a_mesh_of_some_devices():
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    ((images, tokens),) = device_batches([batch(9, 0)], mesh, (16, 77))
    assert images.sharding.device_set == {jax.devices()[0]} and tokens.shape == (16, 16)
