"""All programs of the package behind one name: `clippy-jax`, or `python -m clippy_jax`."""

import difflib
import runpy
import sys
from collections.abc import Sequence

import clippy_jax
from clippy_jax.errors import InputError, exit_with_one_line

# Each command is a module that also runs as `python -m MODULE`.
COMMANDS = {
    "train": ("clippy_jax.main", "train on image-caption pairs, or continue a run"),
    "encode_images": (
        "clippy_jax.encode_images",
        "compute a frozen image tower's features once, to train a text tower on",
    ),
    "evaluate": ("clippy_jax.evaluate", "measure a checkpoint: classification, segmentation, grouping, retrieval"),
    "compare": ("clippy_jax.compare", "say which differences between two evaluations are real"),
    "reproduce": ("clippy_jax.reproduce", "the paper's tables in one report, yours beside the published figures"),
    "segment": ("clippy_jax.segment", "colour the pixels of images by your words"),
    "convert": ("clippy_jax.convert", "weights between PyTorch and this project, both ways"),
    "demo": ("clippy_jax.demo", "a web page: an image and words in, coloured segments out"),
    "export": ("clippy_jax.export", "carry a model away: StableHLO, ONNX, PyTorch, a page that needs no server"),
    "analysis": ("clippy_jax.analysis", "pictures of the feature space; what backgrounds do to an object"),
    "replay": ("clippy_jax.replay", "make the step again at which a run's numbers were not finite"),
    "prove_resume": ("clippy_jax.prove_resume", "kill a training again and again, and certify what it comes to"),
    "shapes": ("clippy_jax.shapes", "render the small data set on which everything here runs"),
}


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command that is named first with the arguments behind it; without any, lists the commands."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("--help", "-h", "help"):
        print(_overview())
        return
    if command == "--version":
        print(clippy_jax.__version__)
        return
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}"
        raise InputError(f"{command!r} is not a command; {hint}")
    sys.argv = [f"clippy-jax {command}", *rest]
    runpy.run_module(COMMANDS[command][0], run_name="__main__", alter_sys=False)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: clippy-jax COMMAND ...",
            "",
            *lines,
            "",
            "clippy-jax COMMAND --help says more. Two to begin with:",
            "  clippy-jax shapes --output=data/shapes",
            '  clippy-jax segment --checkpoint=clippy_5k.pt --image=cat.jpg --labels="cat,dog,grass" --output=cat.png',
        ]
    )


if __name__ == "__main__":
    main()
