"""Whether a checkpoint is of the model and the optimizer that go on from it."""

from typing import Any

import jax
from etils import epath

from clippy_jax.errors import InputError
from clippy_jax.run.sound_checkpoints import paths

_SHOWN = 3


def check_fits(folder: epath.Path, saved: Any, wanted: Any) -> None:
    """Raises `InputError` if the arrays in a checkpoint have other names, shapes or types than those of a train state.

    Args:
      folder: of the checkpoint.
      saved: what is known of its arrays, in plain containers.
      wanted: the state, with a `jax.ShapeDtypeStruct` in place of every array.
    """
    there, here = _describe(saved), _describe(jax.tree.map(_as_stored, wanted))
    mismatches = [
        f"{name} is {there[name]} there and {here[name]} here"
        for name in here
        if name in there and there[name] != here[name]
    ]
    mismatches += [f"{name} is only there" for name in there if name not in here]
    mismatches += [f"{name} is only here" for name in here if name not in there]
    if not mismatches:
        return
    mismatches.sort(key=lambda mismatch: not mismatch.startswith("params/"))
    what = "model" if mismatches[0].startswith("params/") else "optimizer"
    more = f", and {len(mismatches) - _SHOWN} more" if len(mismatches) > _SHOWN else ""
    raise InputError(
        f"{folder} is of another {what}: {', '.join(mismatches[:_SHOWN])}{more}; "
        "use another --workdir or the configuration that it was made with"
    )


def _as_stored(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Typed random keys are stored as their integers."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, leaf)
    return leaf


def _describe(tree: Any) -> dict[str, str]:
    """Path → "dtype[shape]" of every array in a tree of things with a shape and a dtype."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in zip(paths(tree), jax.tree.leaves(tree))}
