r"""The paper in one report: every table for which there is data, ours beside the published figures.

python -m clippy_jax.reproduce --checkpoint=clippy_5k.pt --tokenizer=sentence-t5-base/ --data=/data --output=report

python -m clippy_jax.reproduce --checkpoint=runs/shapes --training=cls=runs/shapes-cls --data=data/shapes \
    --output=runs/report

It looks for data sets under `--data` as their distributors unpack them and evaluates those that are there. Results are
kept in `--output`: the same command goes on where it was stopped, and does again what weights, data or options have
changed of. `report.md` and `report.html` say of every blank how to fill it.
"""

import argparse
import os
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence

import jax

from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.evaluators import Evaluator, protocols, published
from clippy_jax.inference import class_embedding_cache, load_model
from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from clippy_jax.report import data_sets, evaluations, pages, sections
from clippy_jax.report.evaluations import Evaluation, Measured
from clippy_jax.weights.parameter_digest import parameter_digest
from clippy_jax.whole_files import complete_or_nothing, write_text, writing


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.reproduce", "The paper's tables, ours beside the published figures.", __doc__)
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for checkpoints that carry none")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the report and its results")
    parser.add_argument(
        "--segmentation_protocols",
        default="standard,sclip",
        help="of the open-vocabulary tables, with commas (%(default)s): " + ", ".join(protocols.names()),
    )
    parser.add_argument(
        "--training",
        action="append",
        default=[],
        metavar="NAME=CHECKPOINT",
        help="another training, for the tables that compare some: " + ", ".join(_trainings()),
    )
    parser.add_argument("--batch_size", type=int, default=64, help="images a step over all devices (%(default)s)")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command and the data, evaluates what is not kept, writes both pages and the plots."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = flags().parse_args(arguments)
    asked = list(dict.fromkeys(args.segmentation_protocols.split(",")))
    for name in asked:
        if name not in protocols.names():
            raise InputError(f"--segmentation_protocols has {name!r}; known here: {', '.join(protocols.names())}")
    trainings = dict(_name_and_checkpoint(text) for text in args.training)
    if not args.data.is_dir():
        raise InputError(f"--data={args.data} is not a folder")
    paths = evaluations.find(args.data, asked)
    if not paths:
        places = ", ".join(data.places[0] for data in data_sets.ALL)
        raise InputError(f"--data={args.data} holds none of the data sets: {places}, or wds")
    with writing(f"--output={args.output}"):
        args.output.mkdir(parents=True, exist_ok=True)
    if not os.access(args.output, os.W_OK):
        raise InputError(f"--output={args.output} cannot be written to")
    announce()
    evaluators = {evaluation: (path, evaluation.evaluator(path)) for evaluation, path in paths.items()}

    results, head = _measure(args, args.checkpoint, evaluators, "checkpoint")
    of_training = {one: evaluators[one] for one in evaluations.OF_A_TRAINING if one in evaluators}
    of_trainings = {
        name: _measure(args, checkpoint, of_training, name.replace(" ", "_"))[0]
        for name, checkpoint in trainings.items()
    }
    pooling = next(iter(results.values()))["pooling"]
    head = [*head, f"Command: `{shlex.join(['python', '-m', 'clippy_jax.reproduce', *arguments])}`"]
    report = sections.all_sections(results, of_trainings, asked, pooling)
    for section in report:
        if section.figure:
            with complete_or_nothing(args.output / section.figure.name, force=True) as temporary:
                pathlib.Path(temporary).write_bytes(section.figure.png)
    write_text(args.output / "report.md", pages.as_markdown(head, report))
    write_text(args.output / "report.html", pages.as_html(head, report))
    print(f"\nwritten: {args.output / 'report.md'} and {args.output / 'report.html'}")


def _measure(
    args: argparse.Namespace,
    checkpoint: str,
    evaluators: Mapping[Evaluation, tuple[pathlib.Path, Evaluator]],
    folder: str,
) -> tuple[dict[Evaluation, Measured], list[str]]:
    """The results of a checkpoint, kept in a folder of that name, and lines about it."""
    model = load_model(checkpoint, args.tokenizer)
    digest = parameter_digest(model.params)
    text_side = (digest, model.config, model.tokenizer.digest())
    model.class_embedding_cache = ClassEmbeddingCache(class_embedding_cache.default_folder(), text_side)
    place = args.output / "results" / folder
    results = evaluations.run(evaluators, model, checkpoint, args.tokenizer, digest, place, args.batch_size)
    device = jax.devices()[0].device_kind
    head = [
        f"Checkpoint: `{checkpoint}`, weights `{digest}`",
        f"{model!r}",
        f"jax {jax.__version__}, {jax.device_count()} x {device}",
    ]
    return results, head


def _trainings() -> list[str]:
    """What other trainings may be called."""
    return [name for table in published.tables().values() for name in table.trainings]


def _name_and_checkpoint(text: str) -> tuple[str, str]:
    name, _, checkpoint = text.partition("=")
    if name not in _trainings() or not checkpoint:
        raise InputError(f"--training={text} must be NAME=CHECKPOINT; the names are {', '.join(_trainings())}")
    return name, checkpoint


if __name__ == "__main__":
    main()
