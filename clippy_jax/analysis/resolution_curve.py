"""Waterbirds accuracy against resolution: the paper's figure, a panel for each model and a line for each group."""

from collections.abc import Mapping, Sequence

import matplotlib.figure
import matplotlib.ticker

from clippy_jax.analysis.palette import colour
from clippy_jax.evaluators.waterbirds import BirdAndPlace

PANEL_INCHES = (4.2, 3.6)


def draw(curves: Mapping[str, Mapping[int, Sequence[BirdAndPlace]]]) -> matplotlib.figure.Figure:
    """A bird has one colour; its own place is the full line, the other place the broken one: their distance is the gap.

    Args:
      curves: by the name of a model and the resolution, from the lowest to the highest, the cells of its result.
    """
    figure = matplotlib.figure.Figure((len(curves) * PANEL_INCHES[0], PANEL_INCHES[1]), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for panel, (name, cells_at) in zip(panels, curves.items()):
        sizes = list(cells_at)
        for group, cells in enumerate(zip(*cells_at.values())):
            shares = [float("nan") if cell.accuracy is None else 100 * cell.accuracy for cell in cells]
            panel.plot(
                sizes,
                shares,
                label=f"{cells[0].bird} on {cells[0].place}",
                color=[channel / 255 for channel in colour(5 + group // 2)],
                linestyle="-" if cells[0].own_place else "--",
                marker="o",
            )
        panel.set_title(name)
        panel.set_xlabel("pixels along each side")
        panel.set_xticks(sizes)
        panel.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy, %")
    panels[0].set_ylim(-3, 103)
    panels[-1].legend(loc="lower right", fontsize="small")
    return figure
