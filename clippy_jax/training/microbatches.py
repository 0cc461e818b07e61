"""Gradients of a large batch in the memory of a small one, exactly (GradCache; Gao et al., 2021).

A contrastive loss needs the embeddings of the whole batch at once, but not what the towers remember of computing them.
So the towers encode one part of the batch after another and keep nothing but embeddings; the gradient of the loss then
sends each part through its tower once more, with the same dropout. Adding up the gradients of each part's own loss
would be something else: every part would then see fewer negatives.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, UInt8

from clippy_jax.models.packed_texts import PackedTexts
from clippy_jax.training.sharding import batch_sharding

Params = TypeVar("Params")
Embeddings = TypeVar("Embeddings", bound=tuple[Float[Array, "B D"], ...])


def encode_in_microbatches(
    encode: Callable[[Params, UInt8[Array, "b H W 3"], PackedTexts, Key[Array, ""]], Embeddings],
    count: int,
    params: Params,
    images: UInt8[Array, "B H W 3"],
    texts: PackedTexts,
    key: Key[Array, ""],
    replicas: Mesh | None = None,
) -> Embeddings:
    """`encode` of all pairs, in `count` parts, of which the i-th holds the pairs i, i + `count`, i + 2 `count`, ...

    The packs of texts are split up likewise (`find_packing` made each of texts of one part). So each device splits up
    its own pairs, and none of them moves. The i-th part's random key is `key` with i folded in; a single part takes
    `key` itself. `replicas` are the devices if each holds all of `params`: their gradient is then summed up over the
    devices once, and not for every part.
    """
    if count == 1:
        return encode(params, images, texts, key)
    if replicas is not None and replicas.size > 1:
        encode, params = _with_own_params(encode, params, replicas)

    def split(x):
        return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)

    def join(x):
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    def encode_part(part):
        number, images, texts = part
        return encode(params, images, texts, jax.random.fold_in(key, number))

    # Inside a loop, nothing can be merged with the first computation: no need to guard against it.
    encode_part = jax.checkpoint(encode_part, prevent_cse=False)
    parts = jnp.arange(count), *jax.tree.map(split, (images, texts))
    return jax.tree.map(join, jax.lax.map(encode_part, parts))


def _with_own_params(encode: Callable, params: Params, mesh: Mesh) -> tuple[Callable, Params]:
    """The same function and parameters, in as many copies as there are devices: [devices, ...].

    Inside a loop, the compiler sums up the gradient of common parameters over the devices in every turn. The gradients
    of copies stay apart until the loop is over.
    """
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (mesh.size, *x.shape)), params)
    copies = jax.lax.with_sharding_constraint(copies, batch_sharding(mesh))

    def encode_on_each(copies, images, texts, key):
        def part_of_each(x):
            return x.reshape(mesh.size, -1, *x.shape[1:])

        each = jax.vmap(encode, in_axes=(0, 0, 0, None))
        embeddings = each(copies, *jax.tree.map(part_of_each, (images, texts)), key)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), embeddings)

    return encode_on_each, copies
