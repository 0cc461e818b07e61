"""`clippy-jax demo` with models that tell colours apart in the place of checkpoints; a program of its own for tests."""

import clippy_jax
from tests.analysis.colour_model import ColourModel

if __name__ == "__main__":
    clippy_jax.load = lambda checkpoint, tokenizer=None: ColourModel()

    from clippy_jax.demo.__main__ import main

    main()
