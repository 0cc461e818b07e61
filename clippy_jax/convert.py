"""Weights between PyTorch and this project, both ways.

python -m clippy_jax.convert to-flax --image=dino_vitbase16.pth --text=sentence-t5-base/ --output=init
python -m clippy_jax.convert to-flax --clippy=clippy_5k.pt --output=clippy_5k
python -m clippy_jax.convert to-torch --checkpoint=runs/b16 --output=clippy_5k.pt
python -m clippy_jax.convert to-torch --checkpoint=runs/b16 --format=dino --output=dino_b16.pth
python -m clippy_jax.convert to-hub --checkpoint=runs/b16 --repo=ORG/NAME --results=results.json --output=b16_hub
python -m clippy_jax.convert to-hub --checkpoint=clippy_5k --repo=ORG/NAME --push --private
python -m clippy_jax.convert inspect clippy_5k.pt
python -m clippy_jax.convert inspect hf-hub:ORG/NAME

Wherever weights are asked for, a name on the Hugging Face hub serves as well: hf-hub:ORG/NAME.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line, reading


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.convert", "Weights between PyTorch and this project, both ways.", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("to-flax", "PyTorch weights to a converted folder."),
        ("to-torch", "A model of this project to PyTorch weights."),
        ("to-hub", "A model of this project to a repository of the hub."),
        ("inspect", "Says what a file or folder of weights is."),
    ):
        commands.add_parser(name, description=text, help=text, documentation=__doc__)
    to_flax, to_torch, to_hub, inspect = commands.choices.values()

    to_flax.add_argument(
        "--image",
        metavar="FILE",
        help="DINO, DINOv2, DINOv3 or SigLIP backbone (file, training checkpoint, transformers folder, name on the "
        "hub), or a whole CLIPpy; together with --text",
    )
    to_flax.add_argument(
        "--text",
        metavar="DIR",
        help="sentence-transformers folder of a T5 or its name on the hub, or a whole CLIPpy; together with --image",
    )
    to_flax.add_argument("--clippy", metavar="FILE", help="a whole CLIPpy, like clippy_5k.pt; instead of the two")
    to_flax.add_argument("--tokenizer", metavar="DIR", help="with --clippy: tokenizer to put into the folder")
    to_flax.add_argument(
        "--network", choices=["teacher", "student"], help="of a DINO training checkpoint, with --image (teacher)"
    )
    to_flax.add_argument(
        "--allow_partial", action="store_true", help="initialise what is missing, ignore what is unexpected"
    )
    to_flax.add_argument("--skip_optimizer", action="store_true", help="leave the optimizer's state out")
    to_flax.add_argument("--output", required=True, metavar="DIR", help="the folder to make")

    to_torch.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    to_torch.add_argument("--step", type=int, help="which checkpoint of a run; the newest by default")
    to_torch.add_argument(
        "--format",
        choices=["clippy", "safetensors", "sentence-transformers", "dino"],
        default="clippy",
        help="clippy: as clippy_5k.pt; safetensors: its tensors alone; the others: the text or the image tower alone",
    )
    to_torch.add_argument("--tokenizer", metavar="DIR", help="for sentence-transformers, where the checkpoint has none")
    to_torch.add_argument("--epoch", type=int, help="the epoch to write, for the public code to resume at")
    to_torch.add_argument("--skip_optimizer", action="store_true", help="leave the optimizer's state out")
    to_torch.add_argument("--output", required=True, help="the file or folder to write")

    to_hub.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    to_hub.add_argument("--repo", required=True, metavar="ORG/NAME", help="the repository's name")
    to_hub.add_argument("--step", type=int, help="which checkpoint of a run; the newest by default")
    to_hub.add_argument("--tokenizer", metavar="DIR", help="for a checkpoint that has none")
    to_hub.add_argument("--results", metavar="FILE", help="what evaluate --output wrote of it, for the model card")
    to_hub.add_argument("--licence", default="apache-2.0", help="of the weights, as the hub calls it (%(default)s)")
    to_hub.add_argument("--output", metavar="DIR", help="the folder to make; with --push it may be left out")
    to_hub.add_argument("--push", action="store_true", help="upload it, as the user of `hf auth login` or HF_TOKEN")
    to_hub.add_argument("--private", action="store_true", help="with --push: nobody else can see the repository")

    for command in to_flax, to_torch, to_hub:
        command.add_argument("--force", action="store_true", help="replace what is at --output")

    inspect.add_argument("path", help="file or folder")
    inspect.add_argument("--network", choices=["teacher", "student"], default="teacher", help="as for to-flax")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one of the commands."""
    args = flags().parse_args(arguments)
    announce(devices=False)
    # Imports are inside the commands, so that a wrong command line is answered at once.
    {"to-flax": _to_flax, "to-torch": _to_torch, "to-hub": _to_hub, "inspect": _inspect}[args.command](args)


def _to_flax(args: argparse.Namespace) -> None:
    if bool(args.clippy) == bool(args.image and args.text) or bool(args.image) != bool(args.text):
        raise InputError("to-flax takes --image=FILE with --text=DIR, or --clippy=FILE alone")
    if args.tokenizer and not args.clippy:
        raise InputError("--tokenizer goes with --clippy; with --text the tokenizer is that folder's")
    if args.skip_optimizer and not args.clippy:
        raise InputError("--skip_optimizer goes with --clippy; towers have no optimizer's state")
    if args.network and args.clippy:
        raise InputError("--network goes with --image; a whole CLIPpy has one image tower")
    from clippy_jax.weights.converted_folder import write_converted_folder
    from clippy_jax.weights.load import from_clippy, from_towers
    from clippy_jax.whole_files import check_output, complete_or_nothing

    check_output(args.output, args.force)
    tokenizer = _tokenizer_folder(args.tokenizer)
    if args.clippy:
        checkpoint, notes = from_clippy(args.clippy, "--clippy", not args.skip_optimizer, args.allow_partial)
        checkpoint = dataclasses.replace(checkpoint, tokenizer=tokenizer)
    else:
        checkpoint, notes = from_towers(args.image, args.text, args.network or "teacher", args.allow_partial)
    with complete_or_nothing(args.output, args.force) as folder:
        write_converted_folder(folder, checkpoint)
    for note in notes:
        print(note)
    print(f"wrote {args.output}")


def _to_torch(args: argparse.Namespace) -> None:
    for flag, given, formats in (
        ("--tokenizer", args.tokenizer, ("sentence-transformers",)),
        ("--epoch", args.epoch is not None, ("clippy", "safetensors")),
        ("--skip_optimizer", args.skip_optimizer, ("clippy",)),
    ):
        if given and args.format not in formats:
            raise InputError(f"{flag} goes with --format={' or '.join(formats)}")
    from clippy_jax.weights.clippy_file import write_clippy, write_clippy_safetensors, write_dino
    from clippy_jax.weights.load import load_checkpoint
    from clippy_jax.weights.sentence_t5 import write_sentence_t5
    from clippy_jax.whole_files import check_output, complete_or_nothing

    check_output(args.output, args.force)
    tokenizer = _tokenizer_folder(args.tokenizer)
    with_moments = args.format == "clippy" and not args.skip_optimizer
    checkpoint = load_checkpoint(args.checkpoint, args.step, with_moments)
    if args.epoch is not None:
        checkpoint = dataclasses.replace(checkpoint, epoch=args.epoch)
    tokenizer = tokenizer or checkpoint.tokenizer
    if args.format == "sentence-transformers" and not tokenizer:
        raise InputError(f"{args.checkpoint} carries no tokenizer; give one with --tokenizer=DIR")
    write: dict[str, Callable[[str], None]] = {
        "clippy": lambda path: write_clippy(path, checkpoint),
        "safetensors": lambda path: write_clippy_safetensors(path, checkpoint),
        "sentence-transformers": lambda path: write_sentence_t5(
            path, checkpoint.params["text"], checkpoint.config.text, tokenizer
        ),
        "dino": lambda path: write_dino(path, checkpoint),
    }
    with complete_or_nothing(args.output, args.force) as path:
        write[args.format](path)
    print(f"wrote {args.output}")


def _to_hub(args: argparse.Namespace) -> None:
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", args.repo):
        raise InputError(f"--repo={args.repo} must be ORG/NAME, as in --repo=my-name/clippy-b16")
    if not (args.output or args.push):
        raise InputError("to-hub takes --output=DIR, --push, or both")
    if args.private and not args.push:
        raise InputError("--private goes with --push")
    from clippy_jax.weights.converted_folder import write_converted_folder
    from clippy_jax.weights.load import load_checkpoint
    from clippy_jax.weights.model_card import model_card, read_figures
    from clippy_jax.whole_files import check_output, complete_or_nothing

    if args.output:
        check_output(args.output, args.force)
    tokenizer = _tokenizer_folder(args.tokenizer)
    checkpoint = load_checkpoint(args.checkpoint, args.step, with_moments=False)
    checkpoint = dataclasses.replace(checkpoint, tokenizer=tokenizer or checkpoint.tokenizer)
    if not checkpoint.tokenizer:
        raise InputError(f"{args.checkpoint} carries no tokenizer; give one with --tokenizer=DIR")
    figures = read_figures(args.results, checkpoint) if args.results else {}
    card = model_card(args.repo, checkpoint, args.licence, figures, _recipe(args.checkpoint))
    with tempfile.TemporaryDirectory() as scratch:
        output = args.output or os.path.join(scratch, "model")
        with complete_or_nothing(output, args.force) as folder:
            write_converted_folder(folder, checkpoint)
            pathlib.Path(folder, "README.md").write_text(card, "utf-8")
        if args.output:
            print(f"wrote {args.output}")
        if args.push:
            from clippy_jax.hub import push

            print(f"pushed to {push(output, args.repo, args.private)}")


def _recipe(checkpoint: str) -> dict[str, Any]:
    """The configuration that a run has saved; of other checkpoints it is not known."""
    from clippy_jax.hub import as_path
    from clippy_jax.weights.kinds import Kind, find_weights, kind_of

    path = find_weights(checkpoint)
    if kind_of(path) != Kind.RUN:
        return {}
    file = as_path(path) / "config.json"
    with reading(file):
        return dict(json.loads(file.read_text()))


def _inspect(args: argparse.Namespace) -> None:
    from clippy_jax.weights.inspection import inspect

    print(inspect(args.path, args.network))


def _tokenizer_folder(name: str | None) -> str | None:
    """Where the files of a tokenizer lie. They are loaded once, so that wrong ones are noticed before the work."""
    if not name:
        return None
    from clippy_jax.input_pipeline.tokenizer import find_tokenizer, load_tokenizer

    load_tokenizer(name)
    return os.fspath(find_tokenizer(name))


if __name__ == "__main__":
    main()
