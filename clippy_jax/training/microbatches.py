"""Gradients of a large batch in the memory of a small one, exactly (GradCache; Gao et al., 2021).

A contrastive loss needs the embeddings of the whole batch at once, but not what the towers remember of computing them.
So each tower encodes one part of the batch after another and keeps nothing but embeddings; the gradient of the loss
then sends each part through the tower once more, with the same dropout. Adding up the gradients of each part's own loss
would be something else: every part would then see fewer negatives.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from clippy_jax.mesh import batch_sharding

Params = TypeVar("Params")
Inputs = TypeVar("Inputs")  # an array [B, ...] or a tree of them


def encode_in_microbatches(
    encode: Callable[[Params, Inputs, Key[Array, ""]], Float[Array, "b D"]],
    count: int,
    params: Params,
    inputs: Inputs,
    key: Key[Array, ""],
    replicas: Mesh | None = None,
) -> Float[Array, "B D"]:
    """`encode` of all images or texts, in `count` parts, of which the i-th holds i, i + `count`, i + 2 `count`, ...

    Packs of texts are split up likewise (`find_packing` made each of texts of one part). So each device splits up its
    own pairs, and none of them moves. The i-th part's random key is `key` with i folded in; a single part takes `key`
    itself. `replicas` are the devices if each holds all of `params`: their gradient is then summed up over the devices
    once, and not for every part.
    """
    if count == 1:
        return encode(params, inputs, key)
    if replicas is not None and replicas.size > 1:
        encode, params = _with_own_params(encode, params, replicas)

    def split(x):
        return x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)

    def encode_part(part):
        number, inputs = part
        return encode(params, inputs, jax.random.fold_in(key, number))

    # Inside a loop, nothing can be merged with the first computation: no need to guard against it.
    encode_part = jax.checkpoint(encode_part, prevent_cse=False)
    embeddings = jax.lax.map(encode_part, (jnp.arange(count), jax.tree.map(split, inputs)))
    return embeddings.swapaxes(0, 1).reshape(-1, embeddings.shape[-1])


def _with_own_params(encode: Callable, params: Params, mesh: Mesh) -> tuple[Callable, Params]:
    """The same function and parameters, in as many copies as there are devices: [devices, ...].

    Inside a loop, the compiler sums up the gradient of common parameters over the devices in every turn. The gradients
    of copies stay apart until the loop is over.
    """
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (mesh.size, *x.shape)), params)
    copies = jax.lax.with_sharding_constraint(copies, batch_sharding(mesh))

    def encode_on_each(copies, inputs, key):
        parts = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), inputs)
        embeddings = jax.vmap(encode, in_axes=(0, 0, None))(copies, parts, key)
        return embeddings.reshape(-1, embeddings.shape[-1])

    return encode_on_each, copies
