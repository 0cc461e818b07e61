r"""Which differences between two evaluations of the same images are real.

python -m clippy_jax.compare A.json B.json

python -m clippy_jax.compare runs/b16/results.json public.json --output=plot.png

Both files are what `clippy_jax.evaluate --output` wrote, with the counts of each image beside them.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from clippy_jax.command_line import Parser, announce
from clippy_jax.errors import InputError, exit_with_one_line, reading
from clippy_jax.evaluators.intervals import CONFIDENCE, Counts, Difference, Ratio, compare, mcnemar
from clippy_jax.evaluators.result import counts_path, markdown
from clippy_jax.whole_files import complete_or_nothing


class Row(NamedTuple):
    """One figure of both evaluations, as shares."""

    name: str
    first: float
    second: float
    difference: Difference  # with McNemar's p-value where the figure is a share of images


def flags() -> Parser:
    """The program's flags."""
    parser = Parser("python -m clippy_jax.compare", "Says which differences of two results are real.", __doc__)
    parser.add_argument("first", metavar="A.json", help="written by evaluate --output")
    parser.add_argument("second", metavar="B.json", help="the same of another checkpoint or protocol")
    parser.add_argument("--output", metavar="FILE", help="plot to write: .png, .svg or .pdf, replaced if it exists")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the files, prints the table and draws the plot."""
    args = flags().parse_args(arguments)
    if args.output and pathlib.Path(args.output).suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--output={args.output} must end in .png, .svg or .pdf")
    announce(devices=False)
    rows = compared(pathlib.Path(args.first), pathlib.Path(args.second))
    print(table(rows))
    if args.output:
        with complete_or_nothing(args.output, force=True) as temporary:
            draw(rows).savefig(temporary, format=pathlib.Path(args.output).suffix[1:])
        print(f"\nwritten: {args.output}")


def compared(first: pathlib.Path, second: pathlib.Path) -> list[Row]:
    """Every figure that both evaluations have.

    Raises:
      InputError: a file is missing or not what it should be, or they have no evaluation, figure or images in common.
    """
    results = [_read_json(path) for path in (first, second)]
    rows = []
    for name in results[0]:
        if not results[0][name]["counts"] or name not in results[1]:
            continue  # `open_vocabulary` itself: its data sets have the counts
        of_first, of_second = (_counts(path, name, of[name]) for path, of in zip((first, second), results))
        if of_first.images != of_second.images:
            alone = len(set(of_first.images) ^ set(of_second.images))
            raise InputError(f"{name}: {first} and {second} are of different images; {alone} are in one of them only")
        shared = [figure for figure, ratio in of_first.figures.items() if of_second.figures.get(figure) == ratio]
        columns = [counts.columns() for counts in (of_first, of_second)]
        if columns[0].shape != columns[1].shape:
            raise InputError(f"{name}: {first} and {second} count different classes")
        differences = dict(zip(of_first.figures, compare(*columns, of_first.statistic)))
        for figure in shared:
            difference, right = differences[figure], [counts.right(figure) for counts in (of_first, of_second)]
            if right[0] is not None and right[1] is not None:
                difference = difference._replace(p_value=mcnemar(*right))
            rows.append(Row(f"{name} {figure}", results[0][name][figure], results[1][name][figure], difference))
    if not rows:
        raise InputError(
            f"{first} has {', '.join(results[0])}, {second} has {', '.join(results[1])}: no figure is in both"
        )
    return rows


def _read_json(path: pathlib.Path) -> Mapping[str, Any]:
    with reading(path, wrong="cannot be read as JSON"):
        results = json.loads(path.read_text("utf-8"))
    if not isinstance(results, dict) or not all(isinstance(of, dict) and "counts" in of for of in results.values()):
        raise InputError(f"{path} holds no results of clippy_jax.evaluate")
    return results


def _counts(path: pathlib.Path, name: str, result: Mapping[str, Any]) -> Counts:
    file_name = counts_path(path)
    if not file_name.is_file():
        raise InputError(f"{file_name} does not exist; evaluate --output writes it beside {path.name}")
    with reading(file_name, wrong=f"does not belong to {path.name}"):
        ratios = {figure: Ratio(*ratio) for figure, ratio in result["counts"].items()}
        with np.load(file_name, allow_pickle=False) as file:
            of = {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
        counts = Counts(tuple(of.pop("names").tolist()), of, ratios)
        used = {count for ratio in ratios.values() for count in (ratio.numerator, ratio.denominator)}
        if used - of.keys() or any(len(values) != len(counts.images) for values in of.values()):
            raise ValueError("it has other counts")
        if not all(isinstance(result.get(figure), float | int) for figure in ratios):
            raise ValueError(f"{path.name} lacks a figure")
        found = counts.statistic(counts.columns().sum(axis=0, keepdims=True))[0]
        if not np.allclose(found, [result[figure] for figure in ratios], rtol=0, atol=1e-6, equal_nan=True):
            raise ValueError("it gives other figures")
        return counts


def table(rows: Sequence[Row]) -> str:
    """A Markdown table in percent, and what its columns mean."""
    shown = []
    for row in rows:
        value, (low, high), p_value = row.difference
        verdict = "yes" if row.difference.is_real else "no"
        interval = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        shown.append((row.name, 100 * row.first, 100 * row.second, interval, f"{p_value:.3f}", verdict))
    return markdown(("figure", "A", "B", f"B - A [{CONFIDENCE:.0%}]", "p", "real"), shown)


def draw(rows: Sequence[Row]):
    """Each difference with its interval; those that are real are filled."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((7, 1 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="grey", linewidth=1)
    for place, (_, _, _, difference) in enumerate(rows):
        low, high = (100 * bound for bound in difference.interval)
        axes.plot([low, high], [place, place], color="#0072b2")
        face = "#0072b2" if difference.is_real else "white"
        axes.plot(100 * difference.value, place, "o", color="#0072b2", markerfacecolor=face)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"B - A in points, {CONFIDENCE:.0%} interval; filled: real")
    return figure


if __name__ == "__main__":
    main()
