r"""A model to carry away.

python -m clippy_jax.export onnx --checkpoint=runs/b16 --output=b16_onnx

python -m clippy_jax.export web --checkpoint=runs/b16 --output=b16_web --words=words.txt

The folders have a README.md that says how to use them.
"""

import argparse
import importlib.util
import itertools
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from clippy_jax.command_line import Parser, announce
from clippy_jax.config import check_image_size
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.whole_files import check_output, complete_or_nothing

if TYPE_CHECKING:
    from clippy_jax.inference import Model

TEXT_LENGTHS = (16, 77, 256)

# What each command needs beyond the package, by the names to import.
NEEDED = {
    "stablehlo": ("flatbuffers",),
    "onnx": ("onnx", "onnxruntime"),
    "web": ("onnx", "onnxruntime"),
    "safetensors": (),
    "torch": ("torch",),
}
# The paragraphs of commands that a command's help ends with.
EXAMPLES = {
    "stablehlo": """python -m clippy_jax.export stablehlo --checkpoint=runs/b16 --output=b16_stablehlo

python -m clippy_jax.export stablehlo --checkpoint=clippy_5k.pt --output=clippy_stablehlo \\
    --image_size=224 --image_size=448x336 --text_length=77""",
    "onnx": """python -m clippy_jax.export onnx --checkpoint=runs/b16 --output=b16_onnx

python -m clippy_jax.export onnx --checkpoint=clippy_5k.pt --tokenizer=sentence-t5-base/ --output=clippy_onnx""",
    "web": """python -m clippy_jax.export web --checkpoint=runs/b16 --words=words.txt --output=b16_web

python -m clippy_jax.export web --checkpoint=runs/b16 --words=words.txt --output=b16_web \\
    --runtime=onnxruntime-web-1.30.0.tgz --force""",
    "safetensors": """python -m clippy_jax.export safetensors --checkpoint=runs/b16 --output=b16.safetensors

python -m clippy_jax.export safetensors --checkpoint=clippy_5k.pt --output=clippy_5k.safetensors --force""",
    "torch": """python -m clippy_jax.export torch --checkpoint=runs/b16 --output=b16.pt

python -m clippy_jax.export torch --checkpoint=b16.safetensors --output=b16.pt --force""",
}


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.export", "Writes a model as what runs without this package.", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    about = {
        "stablehlo": "Programs for JAX alone, on CPUs, NVIDIA GPUs and TPUs.",
        "onnx": "Both towers as ONNX files, for images and batches of any size.",
        "web": "A page that segments images in the browser, without a server behind it.",
        "safetensors": "The tensors of clippy_5k.pt, by the same names, as one safetensors file.",
        "torch": "A file as clippy_5k.pt, which the public PyTorch code loads strictly.",
    }
    for name, text in about.items():
        commands.add_parser(name, description=text, help=text, documentation=EXAMPLES[name])
    stablehlo, web = commands.choices["stablehlo"], commands.choices["web"]
    stablehlo.add_argument(
        "--image_size",
        action="append",
        metavar="SIZE",
        help="pixels of the images, as 224 or 448x336 (height x width); repeat it; the training size by default",
    )
    stablehlo.add_argument(
        "--text_length",
        action="append",
        type=int,
        metavar="TOKENS",
        help=f"tokens of the texts; repeat it; {', '.join(map(str, TEXT_LENGTHS))} by default",
    )
    web.add_argument("--words", required=True, metavar="FILE", help="the words that the page knows, one a line")
    web.add_argument(
        "--runtime",
        metavar="PATH",
        help="npm package onnxruntime-web, a folder or .tgz; by default node_modules/onnxruntime-web, else from npm",
    )
    for name, command in commands.choices.items():
        command.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
        if name not in ("safetensors", "torch"):
            command.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
        command.add_argument("--output", required=True, metavar="DIR", help="the folder or file to make")
        command.add_argument("--force", action="store_true", help="replace what is at --output")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, loads the model and writes the folder or file."""
    args = flags().parse_args(arguments)
    check_output(args.output, args.force)
    for name in NEEDED[args.command]:
        if importlib.util.find_spec(name) is None:
            raise InputError(f"export {args.command} needs {name}, which is not installed; pip install {name}")
    announce(devices=False)
    write = {"stablehlo": _stablehlo, "onnx": _onnx, "web": _web}.get(args.command, _tensors)
    write(args)
    print(f"written: {args.output}" + ("" if write is _tensors else "; its README.md says how to use it"))


# Imports are inside the commands, so that a wrong command line is answered at once.


def _stablehlo(args: argparse.Namespace) -> None:
    sizes = [_image_size(size) for size in args.image_size or ()]
    lengths = list(dict.fromkeys(args.text_length or TEXT_LENGTHS))
    if min(lengths) < 1:
        raise InputError(f"--text_length={min(lengths)} must be at least 1")
    model = _load(args)
    sizes = list(dict.fromkeys(sizes)) or [(model.image_size, model.image_size)]
    for pixels in itertools.chain(*sizes):
        check_image_size(pixels, model.config.image, "--image_size")
    import jax

    from clippy_jax.export.stablehlo import write_stablehlo

    params = jax.device_get(model.params)
    _write(args, lambda folder: write_stablehlo(folder, params, model.config, sizes, lengths))


def _onnx(args: argparse.Namespace) -> None:
    model = _load(args)
    import jax

    from clippy_jax.export.onnx_folder import write_onnx

    params = jax.device_get(model.params)
    _write(args, lambda folder: write_onnx(folder, params, model.config, model.image_size))


def _web(args: argparse.Namespace) -> None:
    from clippy_jax.export.onnxruntime_web import read_runtime
    from clippy_jax.export.web import read_words, write_web

    words = read_words(args.words)
    runtime = read_runtime(args.runtime)
    model = _load(args)
    with complete_or_nothing(args.output, args.force) as folder:
        pathlib.Path(folder).mkdir()
        write_web(pathlib.Path(folder), model, words, runtime)


def _tensors(args: argparse.Namespace) -> None:
    """The file that `convert to-torch` writes, without the optimizer's state."""
    from clippy_jax.weights import load_checkpoint, write_clippy, write_clippy_safetensors

    checkpoint = load_checkpoint(args.checkpoint, with_moments=False)
    with complete_or_nothing(args.output, args.force) as path:
        (write_clippy if args.command == "torch" else write_clippy_safetensors)(path, checkpoint)


def _load(args: argparse.Namespace) -> "Model":
    import jax

    import clippy_jax

    # On the CPU whatever there is: a program traced on a GPU may call kernels that only that GPU has.
    jax.config.update("jax_platforms", "cpu")
    return clippy_jax.load(args.checkpoint, args.tokenizer)


def _write(args: argparse.Namespace, write: Callable[[pathlib.Path], None]) -> None:
    """Makes the folder with what `write` puts in, and the files of the tokenizer where the model came with them."""
    from clippy_jax.hub import as_path
    from clippy_jax.input_pipeline.tokenizer import copy_tokenizer, find_tokenizer
    from clippy_jax.weights.kinds import find_weights

    own = as_path(find_weights(args.checkpoint)) / "tokenizer"
    tokenizer = find_tokenizer(args.tokenizer) if args.tokenizer else own
    with complete_or_nothing(args.output, args.force) as path:
        folder = pathlib.Path(path)
        folder.mkdir()
        write(folder)
        if tokenizer.is_dir():
            (folder / "tokenizer").mkdir()
            copy_tokenizer(tokenizer, folder / "tokenizer")


def _image_size(text: str) -> tuple[int, int]:
    """Height and width out of "224" or "448x336"."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise InputError(f"--image_size={text} must be one number of pixels or HEIGHTxWIDTH, such as 224 or 448x336")
    return int(match[1]), int(match[2] or match[1])


if __name__ == "__main__":
    main()
