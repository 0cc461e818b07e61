"""From this process's part of each batch to global arrays on the mesh."""

import collections
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt8

from clippy_jax.input_pipeline.pipeline import Batch, bucket_length
from clippy_jax.training.sharding import replicated, shard_batch

BATCHES_AHEAD = 2


def device_batches(
    batches: Iterable[Batch], mesh: Mesh, text_lengths: tuple[int, ...]
) -> Iterator[tuple[UInt8[Array, "B H W 3"], Int[Array, "B L"]]]:
    """Yields (images, tokens) sharded over `data`, with texts cut to the shortest length that loses no word.

    That length depends on the longest caption of the whole batch, of which each process knows its part. The processes
    agree on it on their devices, two batches ahead, so that nobody waits for the answer.
    """
    longest_of_all = jax.jit(jnp.max, out_shardings=replicated(mesh))
    ahead = collections.deque()

    def place(batch: Batch, longest: Int[Array, ""]) -> tuple[UInt8[Array, "B H W 3"], Int[Array, "B L"]]:
        length = bucket_length(int(longest), text_lengths)
        return shard_batch(batch.images, mesh), shard_batch(batch.tokens[:, :length], mesh)

    for batch in batches:
        longest = (batch.tokens != 0).sum(axis=1).max()
        local = np.full(jax.local_device_count(), longest, np.int32)
        ahead.append((batch, longest_of_all(shard_batch(local, mesh))))
        if len(ahead) > BATCHES_AHEAD:
            yield place(*ahead.popleft())
    while ahead:
        yield place(*ahead.popleft())
