"""Choices of the models' code beside the plain way, one layer at a time: value and gradients in the step's shapes.

In CPU-seconds, since they are made for a CPU. What each is for stands where it is made.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from clippy_jax.models.attention import plain_attention
from clippy_jax.models.dropout import Dropout
from clippy_jax.models.gelu import gelu
from clippy_jax.models.layers import Dense
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report, environment

SIZES = {"b16": (8, 197, 12, 64, 3072), "tiny": (1, 5, 2, 4, 16)}  # images, tokens, heads, width of a head, of the MLP
PACKAGES = ("jax", "jaxlib", "flax")


def measure(size: str, steps: int) -> Report:
    """Times `steps` evaluations of both ways of each choice, in turns."""
    images, tokens, heads, head_width, mlp_width = SIZES[size]
    random = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(random.normal(size=shape).astype(np.float32))

    width = heads * head_width
    wide = normal(images, tokens, mlp_width)
    choices = {
        "linear maps of an MLP on one long row of tokens": (
            *(functools.partial(_mlp, dense, mlp_width) for dense in (Dense, nn.Dense)),
            (normal(width, mlp_width) / width**0.5, normal(mlp_width, width) / mlp_width**0.5),
            normal(images, tokens, width),
        ),
        "attention with the heads moved to the front once": (
            lambda qkv, _: plain_attention(*jnp.moveaxis(qkv, (2, 3), (0, 2)), jax.lax.Precision.HIGHEST)[0],
            lambda qkv, _: jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0)),
            normal(images, tokens, 3, heads, head_width),
            0.0,
        ),
        "GELU by the error function": (
            lambda x, _: gelu(x),
            lambda x, _: nn.gelu(x, approximate=False),
            wide,
            0.0,
        ),
        "dropout by four answers of a hash": (
            *(functools.partial(_dropout, dropout) for dropout in (Dropout, nn.Dropout)),
            wide,
            0.0,
        ),
    }
    progress, cases = Progress(len(choices)), []
    for name, (ours, plain, *arguments) in choices.items():
        progress.begin(name)
        sides = [_value_and_gradients(function) for function in (ours, plain)]
        seconds = [[_seconds(side, arguments) for side in sides] for _ in range(2 + steps)][2:]
        cases.append(Case(f"{name}, {size}, beside the plain way", *np.median(seconds, axis=0).tolist(), "CPU-seconds"))
    return Report(environment(jax.devices()[0].device_kind, PACKAGES), cases)


def _mlp(dense: type[nn.Dense], mlp_width: int, kernels: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
    def apply(features: int, kernel: jax.Array, x: jax.Array) -> jax.Array:
        layer = dense(features, use_bias=False, precision=jax.lax.Precision.HIGHEST)
        return layer.apply({"params": {"kernel": kernel}}, x)

    return apply(x.shape[-1], kernels[1], gelu(apply(mlp_width, kernels[0], x)))


def _dropout(dropout: type[nn.Module], x: jax.Array, seed: jax.Array) -> jax.Array:
    rngs = {"dropout": jax.random.key(jnp.asarray(seed).astype(int))}
    return dropout(0.1, deterministic=False).apply({}, x, rngs=rngs)


def _value_and_gradients(function: Callable[[Any, Any], jax.Array]) -> Callable[[Any, Any], Any]:
    return jax.jit(jax.value_and_grad(lambda *arguments: (function(*arguments) ** 2).sum(), argnums=(0, 1)))


def _seconds(function: Callable[[Any, Any], Any], arguments: tuple[Any, Any]) -> float:
    start = time.process_time()
    jax.block_until_ready(function(*arguments))
    return time.process_time() - start
