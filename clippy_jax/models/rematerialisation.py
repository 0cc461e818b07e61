"""What the forward pass of a block leaves for the backward pass, and what that computes once more."""

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

_KEPT = "kept for the backward pass"


def keep(x: Array) -> Array:
    """The same array, marked as one that takes long to compute for what it holds: a matrix product, dropout's mask."""
    return checkpoint_name(x, _KEPT)


def rematerialised(block: type[nn.Module], everything: bool) -> type[nn.Module]:
    """The block, of which the backward pass finds its input and what went through `keep`, or with `everything` the
    input alone.

    Norms, activations and attention weights computed once more take less memory, and no more time: on a CPU, writing
    them and reading them back costs as much. For scanned blocks, whose two passes no compiler can merge.
    """
    policy = None if everything else jax.checkpoint_policies.save_only_these_names(_KEPT)
    return nn.remat(block, prevent_cse=False, policy=policy)
