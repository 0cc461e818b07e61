r"""Makes the step again at which a run's numbers were no longer finite, and says where that begins.

python -m clippy_jax.replay runs/b16/diverged/1234.safetensors

python -m clippy_jax.replay 1234.safetensors --workdir=runs/b16 --train='/data/cc12m/{00000..01242}.tar' --at_checkpoint

The newest checkpoint from before is restored, the steps up to the one in question are made again on the same samples,
and of this step the loss, the norm of each tower's gradient and what is not finite are printed.
"""

from collections.abc import Sequence

from absl import logging

from clippy_jax.command_line import Parser
from clippy_jax.errors import exit_with_one_line


def flags() -> Parser:
    """The flags of this program."""
    parser = Parser("python -m clippy_jax.replay", __doc__.partition("\n")[0], __doc__)
    parser.add_argument("file", help="WORKDIR/diverged/STEP.safetensors, as the run named it")
    parser.add_argument("--workdir", help="folder of the run; default: where it was")
    parser.add_argument("--train", help="config.input.train, if the data have moved")
    parser.add_argument("--at_checkpoint", action="store_true", help="make no steps between; only the one in question")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Replays a step and prints what it finds."""
    chosen = flags().parse_args(arguments)
    logging.set_verbosity(logging.ERROR)  # Orbax says what it does not find
    # Imported here so that a wrong command is answered at once.
    from clippy_jax.host_tensorflow import import_tensorflow

    import_tensorflow()  # before clu does
    from clippy_jax.divergence.diverged_step import read_diverged_step
    from clippy_jax.divergence.step_again import replay

    diverged = read_diverged_step(chosen.file)
    replay(diverged, chosen.workdir or diverged.workdir, chosen.train, chosen.at_checkpoint)


if __name__ == "__main__":
    main()
