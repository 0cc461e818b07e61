"""What stands in the report: a section for each table or figure, ours beside the published figures."""

import dataclasses
import io
from collections.abc import Mapping, Sequence

import matplotlib.figure

from clippy_jax.analysis import resolution_curve
from clippy_jax.datasets import label_layouts
from clippy_jax.evaluators import protocols, published
from clippy_jax.evaluators.open_vocabulary import average
from clippy_jax.evaluators.protocols import COLUMNS
from clippy_jax.evaluators.result import THIS, Cell, in_percent, percent
from clippy_jax.evaluators.waterbirds import BirdAndPlace
from clippy_jax.report import data_sets, evaluations
from clippy_jax.report.evaluations import Evaluation, Measured

DOTS_PER_INCH = 130

Results = Mapping[Evaluation, Measured]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A plot as a PNG."""

    name: str  # of its file
    says: str  # for those who do not see it
    png: bytes


@dataclasses.dataclass(frozen=True)
class Section:
    """One table with what belongs to it.

    Attributes:
      title: what it shows, and where it is published.
      header: of the table.
      rows: of the table; those whose first cell is in `ours` are this project's.
      ours: names of rows.
      measured: how ours were measured, with the command for each.
      missing: what is not there and how to have it.
      notes: what must be known to read it.
      figure: a plot.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    ours: Sequence[str] = (THIS,)
    measured: Sequence[str] = ()
    missing: Sequence[str] = ()
    notes: Sequence[str] = ()
    figure: Figure | None = None


def all_sections(
    results: Results, of_trainings: Mapping[str, Results], asked: Sequence[str], pooling: str
) -> list[Section]:
    """The report.

    Args:
      results: of the checkpoint.
      of_trainings: the results of other trainings, by what the published tables call them.
      asked: the protocols of the open-vocabulary tables.
      pooling: the checkpoint's.
    """
    return [
        classification(results),
        grouping(results),
        segmentation(results),
        *(comparison(name, results, of_trainings, pooling) for name in training_tables()),
        waterbirds(results, of_trainings),
        *(open_vocabulary(results, protocol) for protocol in asked),
        others(results),
    ]


def training_tables() -> list[str]:
    """The published tables that compare trainings."""
    return [name for name, table in published.tables().items() if table.trainings]


def classification(results: Results) -> Section:
    """ImageNet and ImageNet-v2."""
    imagenet, v2 = evaluations.CLASSIFICATION
    own = (_cell(results, imagenet, "top1"), _cell(results, imagenet, "top5"), _cell(results, v2, "top1"))
    return _of_table("classification", own, results, evaluations.CLASSIFICATION)


def grouping(results: Results) -> Section:
    """Jaccard of unnamed groups."""
    own = (_cell(results, evaluations.GROUPING, "jaccard"),)
    return _of_table("grouping", own, results, (evaluations.GROUPING,))


def segmentation(results: Results) -> Section:
    """The paper's segmentation."""
    own = [_cell(results, evaluation, "miou") for evaluation in evaluations.SEGMENTATION]
    return _of_table("segmentation", own, results, evaluations.SEGMENTATION)


def comparison(name: str, results: Results, of_trainings: Mapping[str, Results], pooling: str) -> Section:
    """A table that compares trainings: a row for each that was given, and for this checkpoint."""
    table = published.tables()[name]
    figures = {
        "ImageNet": (evaluations.CLASSIFICATION[0], "top1"),
        "VOC": (evaluations.SEGMENTATION[0], "miou"),
        "Jaccard": (evaluations.GROUPING, "jaccard"),
    }

    def row(who: str, of: Results) -> tuple[Cell, ...]:
        return who, *(_cell(of, *figures[column]) for column in table.columns)

    given = {training: of_trainings[training] for training in table.trainings if training in of_trainings}
    rows = [row(f"{THIS}, {pooling} pooling", results), *(row(f"ours, {which}", of) for which, of in given.items())]
    ours = [str(row[0]) for row in rows]
    rows += published.rows(name, *table.columns)
    missing = [
        f"{which}: train it with `python -m clippy_jax.main --config=configs/b16.py --workdir=WORKDIR {flags}` and add "
        f'`--training="{which}=WORKDIR"`'
        for which, flags in table.trainings.items()
        if which not in given and which != pooling
    ]
    used = [figures[column][0] for column in table.columns]
    measured = [line for which, of in given.items() for line in _measured(of, used, f"{which}: ")]
    header = ("training", *table.columns.values())
    return Section(
        f"{table.title} ({table.source})", header, rows, ours, measured, missing, _notes(table, results, used)
    )


def waterbirds(results: Results, of_trainings: Mapping[str, Results]) -> Section:
    """Each bird on both places at every resolution, of every training; and the curves."""
    table = published.tables()["waterbirds"]
    rows, curves = [], {}
    for who, of in {THIS: results, **of_trainings}.items():
        for evaluation in evaluations.WATERBIRDS:
            if evaluation not in of:
                continue
            size, cells = of[evaluation]["image_size"], [BirdAndPlace(**cell) for cell in of[evaluation]["cells"]]
            curves.setdefault(who, {})[size] = cells
            for own, other in zip(cells[::2], cells[1::2]):
                gap = _cell(of, evaluation, f"gap_{own.bird}")
                named = f"{who}: {own.bird}, {size} pixels"
                rows.append((named, percent(own.accuracy), percent(other.accuracy), gap))
    ours = [row[0] for row in rows]
    figure = None
    if curves:
        says = "Accuracy of each bird on each place against resolution"
        figure = Figure("waterbirds.png", says, _png(resolution_curve.draw(curves)))
    rows += published.rows("waterbirds", *table.columns)
    measured = [line for who, of in of_trainings.items() for line in _measured(of, evaluations.WATERBIRDS, f"{who}: ")]
    return Section(
        f"{table.title} ({table.source})",
        ("accuracy", *table.columns.values()),
        rows,
        ours,
        _measured(results, evaluations.WATERBIRDS) + measured,
        _missing(results, evaluations.WATERBIRDS),
        _notes(table, results, evaluations.WATERBIRDS[-1:]),
        figure,
    )


def open_vocabulary(results: Results, protocol: str) -> Section:
    """The eight data sets of the field by one protocol."""
    of_column = {column: Evaluation(task, protocol) for column, task in evaluations.TASK_OF_COLUMN.items()}
    comparable = {
        evaluation: results[evaluation]
        for column, evaluation in of_column.items()
        if evaluation in results and results[evaluation]["column"] == column
    }
    own = [of_column[column] for column in COLUMNS]
    mious = [comparable[evaluation]["miou"] if evaluation in comparable else None for evaluation in own]
    rows = [(THIS, *(_cell(comparable, evaluation, "miou") for evaluation in own), percent(average(mious)))]
    published_mious = protocols.read(protocol, label_layouts.VOC).published
    rows += [(who, *mious, average(mious)) for who, mious in published_mious.items()]
    figure = None
    if comparable:
        drawn = _dots({result["column"]: result for result in comparable.values()}, published_mious)
        figure = Figure(f"open_vocabulary_{protocol}.png", f"mIoU of each data set by {protocol}", _png(drawn))
    return Section(
        f"Open-vocabulary segmentation, protocol {protocol}",
        ("mIoU", *COLUMNS, "average"),
        rows,
        measured=_measured(comparable, own),
        missing=_missing(comparable, own),
        figure=figure,
    )


def others(results: Results) -> Section:
    """What the paper has no table of: retrieval, and CLIP_benchmark's data sets."""
    rows = []
    for data, evaluation in evaluations.RETRIEVAL.items():
        for direction in ("image_to_text", "text_to_image"):
            if evaluation in results:
                recalls = (_cell(results, evaluation, f"{direction}_recall_{k}") for k in (1, 5))
                rows.append((f"{data.name}, {direction.replace('_', ' ')}", *recalls))
    for name, part in results.get(evaluations.WDS, {"parts": {}})["parts"].items():
        rows.append((name, *(in_percent(part[figure], part["intervals"].get(figure)) for figure in ("top1", "top5"))))
    missing = [data.missing for data, evaluation in evaluations.RETRIEVAL.items() if evaluation not in results]
    missing += [] if evaluations.WDS in results else [data_sets.WDS]
    used = (*evaluations.RETRIEVAL.values(), evaluations.WDS)
    header = ("retrieval, classification", "R@1 or top-1", "R@5 or top-5")
    return Section("Other data", header, rows, [str(row[0]) for row in rows], _measured(results, used), missing)


def _of_table(name: str, own: Sequence[Cell], results: Results, used: Sequence[Evaluation]) -> Section:
    """Our row above the published ones."""
    table = published.tables()[name]
    return Section(
        f"{table.title} ({table.source})",
        ("model", *table.columns.values()),
        [(THIS, *own), *published.rows(name, *table.columns)],
        measured=_measured(results, used),
        missing=_missing(results, used),
        notes=_notes(table, results, used),
    )


def _cell(results: Results, evaluation: Evaluation, figure: str) -> str | None:
    of = results.get(evaluation, {})
    return in_percent(of[figure], of["intervals"].get(figure)) if of.get(figure) is not None else None


def _measured(results: Results, used: Sequence[Evaluation], who: str = "") -> list[str]:
    lines = []
    for evaluation in used:
        if evaluation in results:
            of = results[evaluation]
            lines.append(
                f"{who}{evaluation.key}: {of['images']:,} images of {of['split']}; {of['protocol']}; "
                f"{of['resolution']}; prompts: {of['prompt_set']}; {of['pooling']} pooling; {of['seconds']:.0f} s; "
                f"weights {of['checkpoint_digest'][:19]}; `{of['command']}`"
            )
    return lines


def _missing(results: Results, used: Sequence[Evaluation]) -> list[str]:
    absent = [evaluation for evaluation in used if evaluation not in results]
    return list(dict.fromkeys(data_sets.OF_TASK[evaluation.task].missing for evaluation in absent))


def _notes(table: published.Table, results: Results, used: Sequence[Evaluation]) -> list[str]:
    notes = [table.note] if table.note else []
    others = [one.key for one in used if not results.get(one, {}).get("published_comparable", True)]
    if others:
        notes.append(
            f"Ours of {', '.join(others)} and the published figures are not of the same images, words or resolution."
        )
    return notes


def _dots(of_column: Mapping[str, Measured], others: Mapping[str, Sequence[float | None]]) -> matplotlib.figure.Figure:
    """Our mIoU of each data set with its interval, and the published ones."""
    figure = matplotlib.figure.Figure((8, 3.4), layout="constrained")
    axes = figure.subplots()
    for place, of in enumerate(of_column.values()):
        low, high = of["intervals"].get("miou", (of["miou"],) * 2)
        axes.plot([place, place], [100 * low, 100 * high], color="#0072b2")
        axes.plot(place, 100 * of["miou"], "o", color="#0072b2", label=None if place else THIS)
    for number, (who, mious) in enumerate(others.items()):
        values = [mious[COLUMNS.index(column)] for column in of_column]
        shown = [(place, value) for place, value in enumerate(values) if value is not None]
        if shown:
            axes.plot(*zip(*shown), linestyle="", marker="s^Dv"[number % 4], color=f"C{number + 1}", label=who)
    axes.set_xticks(range(len(of_column)), list(of_column))
    axes.set_xlim(-0.5, len(of_column) - 0.5)
    axes.set_ylabel("mIoU, %")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _png(figure: matplotlib.figure.Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()
