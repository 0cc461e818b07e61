"""What the blocks of both towers are made of: the linear map, dropout, and what is kept for the backward pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Key

from clippy_jax.models import threefry

_KEPT = "kept for the backward pass"


def keep(x: Array) -> Array:
    """The same array, marked as one that takes long to compute for what it holds: a matrix product, dropout's mask."""
    return checkpoint_name(x, _KEPT)


def rematerialised(block: type[nn.Module], everything: bool) -> type[nn.Module]:
    """A scanned block whose backward pass finds the block's input and what went through `keep`; the rest, norms,
    activations and attention weights, it computes once more, which takes less memory and no more time.

    With `everything` it finds the input alone.
    """
    policy = None if everything else jax.checkpoint_policies.save_only_these_names(_KEPT)
    return nn.remat(block, prevent_cse=False, policy=policy)  # no compiler can merge the two passes of a scan


class Dense(nn.Dense):
    """`nn.Dense` on one long row of tokens, whatever the dimensions before the last: same numbers, same parameters.

    So the gradient of the kernel is a plain matrix product; with a batch and a token dimension to sum over, XLA's CPU
    compiler transposes both of its operands first.
    """

    def __call__(self, inputs: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"]:
        rows = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
        return keep(rows.reshape(*inputs.shape[:-1], self.features))


def gelu(x: Float[Array, "*batch D"], tanh: bool = False) -> Float[Array, "*batch D"]:
    """The exact GELU, by the error function in float32, as PyTorch computes it; or its `tanh` approximation.

    `nn.gelu` goes by the error function's complement, which keeps digits of values that nearly vanish, and takes a CPU
    longer.
    """
    if tanh:
        return nn.gelu(x, approximate=True)
    wide = x.astype(jnp.float32)
    return (wide * (0.5 + 0.5 * jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


class LayerScale(nn.Module):
    """Multiplies what a block adds by a learned vector that is small at first (Touvron et al., CaiT, 2021)."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        # Named like a norm's: it is exempt from weight decay as those are.
        scale = self.param("scale", nn.initializers.constant(1e-5), x.shape[-1:])
        return x * scale.astype(x.dtype)


class QueryValueBias(nn.Module):
    """The bias on the queries and values of a fused product; the keys have none, as in DINOv3."""

    @nn.compact
    def __call__(self, qkv: Float[Array, "*batch 3*D"]) -> Float[Array, "*batch 3*D"]:
        width = qkv.shape[-1] // 3
        query, value = self.param("bias", nn.initializers.zeros, (2, width)).astype(qkv.dtype)
        return qkv + jnp.concatenate([query, jnp.zeros_like(query), value])


class Dropout(nn.Module):
    """`flax.linen.Dropout`, number for number, that `jax.vmap` does not repeat; draws from the stream "dropout"."""

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], rate: float | None = None) -> Float[Array, "*shape"]:
        """Drops at the rate of the module, or at another."""
        rate = self.rate if rate is None else rate
        if self.deterministic or rate == 0:
            return x
        mask = uniform(self.make_rng("dropout"), x) < 1 - rate
        if jax.default_backend() != "cpu":  # which draws it again in less time than it writes and reads it
            mask = keep(mask)
        return jnp.where(mask, x / (1 - rate), 0)


def uniform(key: Key[Array, ""], like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Random numbers in [0, 1) in the shape of an array.

    Under `jax.vmap` over `like` alone, these are the numbers of all groups joined along their first dimension, where
    `jax.random.uniform` would give every group the same ones.
    """
    return _uniform(key, jax.lax.stop_gradient(like))


@jax.custom_batching.custom_vmap
def _uniform(key, like):
    return threefry.uniform(key, like.shape)


@_uniform.def_vmap
def _uniform_of_groups(groups, in_batched, key, like):
    # A number of JAX's depends on its index in the flattened array alone.
    return _uniform(key, like), True
