import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from clippy_jax.input_pipeline.device_batches import device_batches
from clippy_jax.input_pipeline.pipeline import Batch
from clippy_jax.mesh import batch_sharding, make_mesh
from tests.input_pipeline.test_text_packing import random_texts, unpacked


def batch(longest: int, seed: int) -> Batch:
    images = np.random.default_rng(seed).integers(0, 256, (32, 4, 4, 3)).astype(np.uint8)
    return Batch(images, random_texts(32, longest, 77, seed))


@pytest.mark.parametrize("count, pinned", [(0, False), (1, False), (2, False), (3, True), (7, False)])
def test_all_batches_in_order_in_no_more_rows_than_the_fullest_pack_needs(count, pinned, monkeypatch):
    mesh = make_mesh()
    if pinned:  # a CPU has no use for it, but has a memory of this name
        monkeypatch.setattr(
            "clippy_jax.input_pipeline.device_batches.pinned_sharding",
            lambda mesh: batch_sharding(mesh).with_memory_kind("pinned_host"),
        )
    batches = [batch(longest, seed) for seed, longest in enumerate([5, 19, 77, 38, 1, 39, 60][:count])]
    placed = list(device_batches(iter(batches), mesh, texts_per_pack=4))
    rows = [texts.tokens.shape[1] for _, texts in placed]
    assert rows[:2] == [1, 1][:count] and all(2 <= n <= 4 for n in rows[2:4])
    for (images, texts), original in zip(placed, batches, strict=True):
        np.testing.assert_array_equal(images, original.images)
        np.testing.assert_array_equal(unpacked(texts), original.tokens)
        for array in (images, *texts):
            assert array.sharding == batch_sharding(mesh) and len(array.sharding.device_set) == mesh.size
            assert array.addressable_shards[0].data.shape[0] == len(array) // mesh.size


def test_works_on_a_mesh_of_some_devices():
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    ((images, texts),) = device_batches([batch(9, 0)], mesh, texts_per_pack=16)
    assert images.sharding.device_set == {jax.devices()[0]} and texts.tokens.shape == (2, 2, 77)


def test_the_next_batch_is_on_the_devices_while_a_step_runs():
    mesh = make_mesh()
    batches = device_batches([batch(9, seed) for seed in range(5)], mesh, texts_per_pack=4)
    end_of_step = threading.Event()

    def wait(image_sum):
        end_of_step.wait()
        return image_sum

    @jax.jit
    def step(images):
        return jax.pure_callback(wait, jax.ShapeDtypeStruct((), np.int32), jnp.sum(images, dtype=np.int32))

    images, _ = next(batches)
    running = step(images)
    try:
        jax.block_until_ready(next(batches))
        assert not running.is_ready()
    finally:
        end_of_step.set()
    assert int(running) == batch(9, 0).images.sum()
