r"""The evaluation program.

python -m clippy_jax.evaluate --checkpoint=runs/b16 \
    --imagenet=/data/imagenet/val --voc=/data/VOC2012 --output=results.json

python -m clippy_jax.evaluate --checkpoint=clippy_5k.pt \
    --open_vocabulary=/data --segmentation_protocol=sclip --output=public.json

Any subset of the data sets (`evaluators/tasks.py`), any kind of checkpoint, any number of devices.
"""

import argparse
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from clippy_jax import processes
from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.evaluators import TASKS
from clippy_jax.evaluators.evaluator import Evaluator
from clippy_jax.evaluators.result import write_results
from clippy_jax.inference import class_embedding_cache, load_model
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from clippy_jax.weights.parameter_digest import parameter_digest


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.evaluate", "Evaluates a checkpoint on the data sets given.", __doc__)
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
    parser.add_argument("--image_size", type=int, help="pixels of the short side; the training size by default")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step over all devices (64)")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write, replaced if it exists")
    data_sets = parser.add_argument_group("data sets, one or more")
    for name, task in TASKS.items():
        data_sets.add_argument(f"--{name}", metavar=task.data, help=task.help)
    add_rare = parser.add_rare_flags("rarely needed")
    for flag in dict.fromkeys(flag for task in TASKS.values() for flag in task.flags):
        (add_rare if flag.rare else parser.add_argument)(
            f"--{flag.name}",
            type=flag.kind,
            choices=flag.choices or None,
            metavar=None if flag.choices else flag.keyword.upper(),
            help=flag.help,
        )
    add_rare(
        "--class_cache",
        metavar="DIR",
        default=str(class_embedding_cache.default_folder()),
        help="where class embeddings are kept from one evaluation to the next (%(default)s); empty for nowhere",
    )
    add_rare("--coordinator_address", metavar="HOST:PORT", help="of the first of several processes")
    add_rare("--process_count", type=int, help="how many processes evaluate together")
    add_rare("--process_id", type=int, help="the number of this one, from 0")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, evaluates, prints a table for each data set and writes the JSON."""
    args = flags().parse_args(arguments)
    paths = {name: path for name in TASKS if (path := getattr(args, name))}
    if not paths:
        raise InputError(f"nothing to evaluate; add one of {', '.join(f'--{name}' for name in TASKS)}")
    output = pathlib.Path(args.output) if args.output else None
    if output and not os.access(output.parent, os.W_OK):
        raise InputError(f"--output={output}: {output.parent} is not a folder that can be written to")
    if output and output.is_dir():
        raise InputError(f"--output={output} is a folder; give the name of a JSON file in it")
    _check_flags(args, paths)
    evaluators = {name: TASKS[name].evaluator(path, **_chosen(args, name)) for name, path in paths.items()}

    processes.initialize(args.coordinator_address, args.process_count, args.process_id)
    with processes.failing_together():
        if jax.process_index() == 0:
            announce()
        _evaluate(args, evaluators, output)


def _evaluate(args: argparse.Namespace, evaluators: Mapping[str, Evaluator], output: pathlib.Path | None) -> None:
    model = load_model(args.checkpoint, args.tokenizer)
    digest = parameter_digest(model.params)
    if args.class_cache:
        text_side = (digest, model.config, model.tokenizer.digest())
        model.class_embedding_cache = ClassEmbeddingCache(pathlib.Path(args.class_cache), text_side)
    first = jax.process_index() == 0
    image_size = model.image_size if args.image_size is None else args.image_size
    results = {}
    for name, evaluator in evaluators.items():
        results[name] = evaluator.run(model, batch_size=args.batch_size, image_size=image_size, progress=first)
        if first:
            print(f"\n{results[name].report()}", flush=True)
        if first and output:  # at once: what is measured is not lost with what comes after it
            write_results(results, output, checkpoint=args.checkpoint, checkpoint_digest=digest)
    if first and output:
        print(f"\nwritten: {output}, and the counts of each image beside it")


def _chosen(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What the flags of an evaluation say, by keyword."""
    given = [flag for flag in TASKS[name].flags if getattr(args, flag.name) is not None]
    values = {flag.keyword: getattr(args, flag.name) for flag in given}
    if len(values) < len(given):
        raise InputError(f"{' and '.join(f'--{flag.name}' for flag in given)} say the same; give one of them")
    return values


def _check_flags(args: argparse.Namespace, paths: Mapping[str, str]) -> None:
    """Raises `InputError` for a flag that no evaluation here reads."""
    read = {flag for name in paths for flag in TASKS[name].flags}
    for name, task in TASKS.items():
        for flag in task.flags:
            if getattr(args, flag.name) is not None and flag not in read:
                raise InputError(f"--{flag.name} belongs to an evaluation that is not asked for; add --{name}")


if __name__ == "__main__":
    main()
