"""The floating point operations of a function's matrix products, counted in its jaxpr.

XLA's own cost analysis counts the body of a loop once, however often it runs; the towers are loops over their blocks.
"""

import math
from collections.abc import Callable
from typing import Any

import jax


def matmul_flops(function: Callable, *arguments: Any) -> int:
    """Twice the multiplications in the matrix products of one call, on all devices together.

    Arguments may be `jax.ShapeDtypeStruct`s.

    Raises:
      ValueError: the function has a loop of unknown length.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[d] for d in contracted)
    inner = [_count(getattr(value, "jaxpr", value)) for value in _subprograms(params)]
    if name == "while" and sum(inner):
        raise ValueError("matrix products in a loop of unknown length cannot be counted")
    if name == "cond":
        return max(inner)
    if name == "shard_map":
        return sum(inner) * params["mesh"].size
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _subprograms(params: dict[str, Any]) -> list:
    values = [part for value in params.values() for part in (value if isinstance(value, (tuple, list)) else [value])]
    return [value for value in values if hasattr(value, "eqns")]
