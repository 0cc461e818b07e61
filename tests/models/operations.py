"""Reading what a program does before it is compiled."""

import jax


def operations(jaxpr, in_block=False):
    """(operation, whether it is inside the scan over a tower's blocks) of a program, however deep."""
    for equation in jaxpr.eqns:
        yield equation, in_block
        for value in jax.tree.leaves(equation.params, is_leaf=lambda value: hasattr(value, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from operations(inner, in_block or equation.primitive.name == "scan")
