"""What the blocks of both towers share: the linear map, what is kept for the backward pass, how a GPU compiles them."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

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


def written(tokens: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
    """The same array, which a GPU's compiler must write once, row by row, and every kernel behind it reads.

    It would compute a sum again in each kernel that reads it, and those of norms take several times as long with more
    arrays to read. And it would keep the batch last, for the sums over the batch that are the gradient of the
    positions; every norm and product would read a transposed array.
    """
    if jax.default_backend() != "gpu":
        return tokens
    return jax.lax.optimization_barrier(with_layout_constraint(tokens, Layout(major_to_minor=(0, 1, 2))))


class Pending(NamedTuple):
    """Tokens, and the scale and bias, if any, that they have not yet: the linear map behind them takes them over."""

    tokens: Float[Array, "*batch D"]
    scale: Float[Array, "D"] | None
    bias: Float[Array, "D"] | None


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

    @nn.compact
    def __call__(self, inputs: Float[Array, "*batch inputs"] | Pending) -> Float[Array, "*batch features"]:
        return self._product(*self._parameters(inputs))

    def _parameters(self, inputs):
        """The tokens, the kernel and the bias, if there is one, with what is pending."""
        tokens, scale, shift = inputs if isinstance(inputs, Pending) else (inputs, None, None)
        kernel = self.param("kernel", self.kernel_init, (tokens.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        if shift is not None:
            shift = (shift[:, None] * kernel).sum(axis=0)
            bias = shift if bias is None else bias + shift
        return tokens, kernel if scale is None else scale[:, None] * kernel, bias

    def _product(self, tokens, kernel, bias):
        rows = tokens.reshape(-1, tokens.shape[-1]).astype(self.dtype)
        rows = jax.lax.dot(rows, kernel.astype(self.dtype), precision=self.precision)
        if bias is not None:
            rows = _add_bias(rows, bias)
        return keep(rows.reshape(*tokens.shape[:-1], kernel.shape[-1]))


def apart(x: Array, times: int) -> tuple[Array, ...]:
    """The same array so many times, each of which a compiler takes for another. It would make one product of those
    with the same array, and copy its parts out of it."""
    return jax.lax.optimization_barrier((x,) * times)


@jax.custom_vjp
def _add_bias(rows: Float[Array, "N D"], bias: Float[Array, "D"]) -> Float[Array, "N D"]:
    """The sum, in the dtype of the rows: so, cuBLAS adds the bias in the kernel of the product, before it rounds.

    The gradient of the bias is added up in float32, where thousands of bfloat16 numbers would lose most.
    """
    return rows + bias.astype(rows.dtype)


_add_bias.defvjp(
    lambda rows, bias: (_add_bias(rows, bias), None),
    lambda _, gradient: (gradient, gradient.astype(jnp.float32).sum(axis=0)),
)


class LayerScale(nn.Module):
    """Multiplies what a block adds by a learned vector that is small at first (Touvron et al., CaiT, 2021)."""

    @nn.compact
    def __call__(self, x: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        # Named like a norm's: it is exempt from weight decay as those are.
        scale = self.param("scale", nn.initializers.constant(1e-5), x.shape[-1:])
        return x * scale.astype(x.dtype)
