"""What the blocks of both towers are made of: the linear map, dropout, and what is kept for the backward pass."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
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


def unrolled(depth: int, everything_rematerialised: bool) -> int:
    """How many of `depth` scanned blocks become one program: all of them on a GPU, one elsewhere.

    A loop copies whatever its backward pass needs into one array of all blocks, which a GPU takes as long for as for
    computing many of these numbers. Unrolled, the program takes longer to compile. Where a block keeps its input alone,
    there is little to copy.
    """
    return depth if jax.default_backend() == "gpu" and not everything_rematerialised else 1


def row_by_row(tokens: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """The same array, which a GPU's compiler may not keep with the batch last: it would, for the sums over the batch
    that are the gradient of the positions, and every norm and product would read a transposed array."""
    if jax.default_backend() != "gpu":
        return tokens
    return with_layout_constraint(tokens, Layout(major_to_minor=(0, 1, 2)))


class Dense(nn.Module):
    """`nn.Dense` on one long row of tokens, whatever the dimensions before the last: same numbers, same parameters.

    So the gradient of the kernel is a plain matrix product; with a batch and a token dimension to sum over, XLA's CPU
    compiler transposes both of its operands first.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")
    precision: jax.lax.Precision = jax.lax.Precision.HIGHEST
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    parts: int | None = None  # so many arrays are wanted, each of them a product of its own

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch inputs"]) -> Float[Array, "*batch features"] | list[Array]:
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None

        def product(rows, kernel, bias):
            rows = jax.lax.dot(rows, kernel.astype(self.dtype), precision=self.precision)
            rows = rows if bias is None else _add_bias(rows, bias)
            return keep(rows.reshape(*inputs.shape[:-1], -1))

        rows = inputs.reshape(-1, inputs.shape[-1]).astype(self.dtype)
        if self.parts is None:
            return product(rows, kernel, bias)
        kernels = jnp.split(kernel, self.parts, axis=1)
        biases = [None] * self.parts if bias is None else jnp.split(bias, self.parts)
        return [product(*each) for each in zip(apart(rows, self.parts), kernels, biases)]


def apart(x: Array, times: int) -> tuple[Array, ...]:
    """The same array so many times, each of which a compiler takes for another. It would make one product of those
    with the same array, and copy its parts out of it."""
    return jax.lax.optimization_barrier((x,) * times)


@jax.custom_vjp
def _add_bias(rows: Float[Array, "N D"], bias: Float[Array, "D"]) -> Float[Array, "N D"]:
    """The sum; the gradient of the bias is added up in float32, where thousands of bfloat16 numbers would lose most."""
    return rows + bias.astype(rows.dtype)


_add_bias.defvjp(
    lambda rows, bias: (_add_bias(rows, bias), None),
    lambda _, gradient: (gradient, gradient.astype(jnp.float32).sum(axis=0)),
)


class LayerNorm(nn.Module):
    """`nn.LayerNorm`, its statistics in float32, with a gradient that a compiler has less to do for."""

    epsilon: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return _layer_norm(self.epsilon, x.astype(self.dtype), scale, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _layer_norm(epsilon, x, scale, bias):
    return _layer_norm_and_statistics(epsilon, x, scale, bias)[0]


def _layer_norm_and_statistics(epsilon, x, scale, bias):
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    rate = jax.lax.rsqrt(((wide - mean) ** 2).mean(axis=-1, keepdims=True) + epsilon)
    # The barrier has the statistics kept as arrays: a compiler would compute them again inside of each gradient.
    return ((wide - mean) * rate * scale + bias).astype(x.dtype), (
        x,
        *jax.lax.optimization_barrier((mean, rate)),
        scale,
    )


def _layer_norm_gradients(epsilon, kept, gradient):
    """From the statistics of each token, so that the sums over all tokens need no sum over a token first."""
    x, mean, rate, scale = kept
    normed, gradient = (x.astype(jnp.float32) - mean) * rate, gradient.astype(jnp.float32)
    scaled = gradient * scale
    along = scaled.mean(axis=-1, keepdims=True) + normed * (scaled * normed).mean(axis=-1, keepdims=True)
    tokens = tuple(range(x.ndim - 1))
    return (rate * (scaled - along)).astype(x.dtype), (gradient * normed).sum(axis=tokens), gradient.sum(axis=tokens)


_layer_norm.defvjp(_layer_norm_and_statistics, _layer_norm_gradients)


def gelu(x: Float[Array, "*batch D"], tanh: bool = False) -> Float[Array, "*batch D"]:
    """The exact GELU, by the error function in float32, as PyTorch computes it; or its `tanh` approximation.

    `nn.gelu` goes by the error function's complement, which keeps digits of values that nearly vanish, and takes a CPU
    longer. For bfloat16, the error function is one of seven digits.
    """
    if tanh:
        return nn.gelu(x, approximate=True)
    if x.dtype == jnp.bfloat16:
        return _gelu_of_bfloat16(x)
    return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


@jax.custom_vjp
def _gelu_of_bfloat16(x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    return (x * _normal_distribution(x.astype(jnp.float32))[0]).astype(x.dtype)


def _gelu_gradient(x, gradient):
    # Times a one that the compiler does not know as one: what both passes compute of one array, it keeps in float32.
    wide = x.astype(jnp.float32) * jax.lax.optimization_barrier(jnp.float32(1))
    below, density = _normal_distribution(wide)
    return ((below + wide * density) * gradient).astype(x.dtype)


_gelu_of_bfloat16.defvjp(lambda x: (_gelu_of_bfloat16(x), x), lambda x, gradient: (_gelu_gradient(x, gradient),))


def _normal_distribution(x: Float[Array, "*batch D"]) -> tuple[Float[Array, "*batch D"], Float[Array, "*batch D"]]:
    """The normal distribution function within 1e-7, and its density: they share an exponential.

    Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 7.1.26. The error functions of compilers take a
    GPU twice as long, which is longer than to read and write the numbers.
    """
    peak = jnp.exp(-0.5 * x * x)
    t = jax.lax.rsqrt(1 + 0.3275911 * 0.5**0.5 * jnp.abs(x)) ** 2  # 1 / (1 + ...), without a division
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * series * peak
    return jnp.where(x < 0, tail, 1 - tail), (2 * np.pi) ** -0.5 * peak


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
    """Dropout that `jax.vmap` does not repeat; draws from the stream "dropout"."""

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], rate: float | None = None) -> Float[Array, "*shape"]:
        """Drops at the rate of the module, or at another, to the nearest 1 / 65,536."""
        rate = self.rate if rate is None else rate
        if self.deterministic or rate == 0:
            return x
        kept = round(2**16 * (1 - rate))
        draw = _of_all_groups(lambda key, like: threefry.below(kept, key, like.shape))
        mask = draw(self.make_rng("dropout"), jax.lax.stop_gradient(x))
        if jax.default_backend() != "cpu":  # which draws it again in less time than it writes and reads it
            mask = keep(mask)
        return jnp.where(mask, x / (kept / 2**16), 0)


def uniform(key: Key[Array, ""], like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Random numbers in [0, 1) in the shape of an array.

    Under `jax.vmap` over `like` alone, these are the numbers of all groups joined along their first dimension, where
    `jax.random.uniform` would give every group the same ones.
    """
    return _of_all_groups(lambda key, like: threefry.uniform(key, like.shape))(key, jax.lax.stop_gradient(like))


def _of_all_groups(draw: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """`draw` from a key in the shape of an array, and for groups of them, under `jax.vmap`, in that of all together."""
    draw = jax.custom_batching.custom_vmap(draw)

    @draw.def_vmap
    def draw_for_groups(groups, in_batched, key, like):
        # A number of JAX's depends on its index in the flattened array alone.
        return draw(key, like), True

    return draw
