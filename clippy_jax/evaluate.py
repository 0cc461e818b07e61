r"""The evaluation program.

python -m clippy_jax.evaluate --checkpoint=runs/b16 \
    --imagenet=/data/imagenet/val --voc=/data/VOC2012 --output=results.json

Any subset of the data sets, any kind of checkpoint, any number of devices.
"""

import os
import pathlib
from collections.abc import Sequence

from clippy_jax.command_line import Parser
from clippy_jax.errors import InputError, exit_with_one_line


def flags() -> Parser:
    """The program's flags."""
    parser = Parser(prog="python -m clippy_jax.evaluate", description="Evaluates a checkpoint on the data sets given.")
    parser.add_argument("--checkpoint", required=True, help="workdir, converted folder, .pt or .safetensors")
    parser.add_argument("--tokenizer", help="Sentence-T5 folder, for a checkpoint that carries none")
    parser.add_argument("--imagenet", metavar="DIR", help="folder-per-class tree: zero-shot classification")
    parser.add_argument("--voc", metavar="DIR", help="PASCAL-VOC-shaped tree: top-down segmentation")
    parser.add_argument(
        "--voc_protocol",
        choices=["standard", "public"],
        default="standard",
        help="standard: whole image, labels at full size; public: the public notebook's arithmetic",
    )
    parser.add_argument("--voc_split", help="list of images; val for standard and train for public by default")
    parser.add_argument("--image_size", type=int, help="pixels of the short side; the training size by default")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step over all devices")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write, replaced if it exists")
    parser.add_argument("--coordinator_address", help="host:port of the first of several processes")
    parser.add_argument("--process_count", type=int, help="how many processes evaluate together")
    parser.add_argument("--process_id", type=int, help="the number of this one, from 0")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command, evaluates, prints a table for each data set and writes the JSON."""
    args = flags().parse_args(arguments)
    if not (args.imagenet or args.voc):
        raise InputError("nothing to evaluate; add --imagenet=DIR or --voc=DIR")
    output = pathlib.Path(args.output) if args.output else None
    if output and not os.access(output.parent, os.W_OK):
        raise InputError(f"--output={output}: {output.parent} is not a folder that can be written to")
    # Imported here so that a wrong command is answered at once.
    import jax

    from clippy_jax.evaluators import image_folder, report, segmentation, voc_tree, zero_shot_classification
    from clippy_jax.evaluators.parameter_digest import parameter_digest
    from clippy_jax.inference import load_model
    from clippy_jax.training import distributed

    voc_split = args.voc_split or segmentation.SPLIT_OF[args.voc_protocol]
    if args.imagenet:
        image_folder.read(args.imagenet)
    if args.voc:
        voc_tree.read(args.voc, voc_split)
    distributed.initialize(args.coordinator_address, args.process_count, args.process_id)
    model = load_model(args.checkpoint, args.tokenizer)
    first = jax.process_index() == 0
    settings = dict(
        batch_size=args.batch_size,
        image_size=model.image_size if args.image_size is None else args.image_size,
        progress=first,
    )
    results = {}
    if args.imagenet:
        results["imagenet"] = zero_shot_classification.evaluate(model, args.imagenet, **settings)
    if args.voc:
        results["voc"] = segmentation.evaluate(model, args.voc, protocol=args.voc_protocol, split=voc_split, **settings)
    if first:
        print("\n" + "\n\n".join(report.table(result) for result in results.values()))
    if first and output:
        checkpoint = {"checkpoint": args.checkpoint, "checkpoint_digest": parameter_digest(model.params)}
        report.write_json(results, checkpoint, output)
        print(f"\nwritten: {output}")


if __name__ == "__main__":
    main()
