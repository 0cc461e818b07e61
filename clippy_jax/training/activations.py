"""Where the activations of the towers live: on the device of their pair, also where the parameters are split."""

import contextlib
from typing import Literal

import flax.linen as nn
import jax
from jax.sharding import Mesh

from clippy_jax.mesh import batch_sharding
from clippy_jax.models import t5, vit


def activations_stay(mesh: Mesh, parameters: Literal["replicated", "fsdp"]) -> contextlib.AbstractContextManager[None]:
    """In this context, what the towers' blocks compute of a pair stays on the device of the pair.

    So under `fsdp` each layer's parameters are gathered when they are needed. Left to choose, the compiler splits the
    activations as it finds the parameters split, and sends them around: that is many times as much. Around parameters
    that are not split, the activations stay anyway.
    """

    def stay(call, args, kwargs, context):
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, (vit.Block, t5.Block)):
            return jax.lax.with_sharding_constraint(result, batch_sharding(mesh))
        return result

    return nn.intercept_methods(stay) if parameters == "fsdp" else contextlib.nullcontext()
