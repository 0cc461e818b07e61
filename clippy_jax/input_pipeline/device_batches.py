"""From this process's part of each batch to global arrays on the mesh."""

import collections
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt8

from clippy_jax.input_pipeline.pipeline import Batch
from clippy_jax.input_pipeline.text_packing import Packing, fill_rows, find_packing, rounded_rows
from clippy_jax.mesh import pinned_sharding, replicated, shard_batch
from clippy_jax.models.packed_texts import PackedTexts

BATCHES_AHEAD = 2


def device_batches(
    batches: Iterable[Batch], mesh: Mesh, texts_per_pack: int, microbatches: int = 1
) -> Iterator[tuple[UInt8[Array, "B H W 3"], PackedTexts]]:
    """Yields images and packed texts, sharded over `data`.

    All packs have as many rows as the fullest pack of the whole batch needs, and each process knows its own. The
    processes agree on it on their devices, two batches ahead, so that nobody waits for the answer.
    """
    most_of_all = jax.jit(jnp.max, out_shardings=replicated(mesh))
    pinned = pinned_sharding(mesh)
    ahead = collections.deque()

    def place(images: UInt8[np.ndarray, "B H W 3"], packing: Packing, rows: Int[Array, ""]):
        texts = fill_rows(packing, rounded_rows(int(rows), texts_per_pack))
        return shard_batch((images, texts), mesh, pinned)

    for batch in batches:
        packing = find_packing(batch.tokens, texts_per_pack, microbatches)
        local = np.full(jax.local_device_count(), packing.rows, np.int32)
        ahead.append((batch.images, packing, most_of_all(shard_batch(local, mesh))))
        if len(ahead) > BATCHES_AHEAD:
            yield place(*ahead.popleft())
    while ahead:
        yield place(*ahead.popleft())
