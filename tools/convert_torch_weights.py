"""Weights between PyTorch and this project, both ways: `python -m clippy_jax.convert`, from a checkout."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from clippy_jax.convert import flags, main  # noqa: E402, F401 (the flags are part of a program)

if __name__ == "__main__":
    main()
