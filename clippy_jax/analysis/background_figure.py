"""What backgrounds do to the similarity of objects with their names, as numbers, a table and a plot."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib.figure
import numpy as np
from jaxtyping import Float, Int

from clippy_jax.evaluators.result import markdown

HOW_TO_READ = """\
How to read this: every number is a cosine with the object's own name. "Mean" is over all backgrounds; the columns of
the backgrounds say by how much the similarity on each differs from that mean. A model that knows the object by itself
has nearly the same similarity everywhere; one that goes by the surroundings gains on the object's usual background
and loses on others. "Effect" is the typical difference (root mean square over objects and backgrounds) in percent of
the contrast, by which an object is more similar to its own name than to the other names on average: at 100 % a change
of background does as much as a change of the object. {objects} stand for what the model sees where the object is, the
pooled embedding for the image as a whole. Patches see the background too, through attention: theirs need not be 0."""


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Of objects with names.

    Attributes:
      own: with its own name, the mean over the images of each object on each place; nan where there are none.
      contrast: by how much that is more than with the other names, the mean over images.
    """

    own: Float[np.ndarray, "O P"]
    contrast: float

    @staticmethod
    def of(
        similarities: Float[np.ndarray, "I O"], objects: Int[np.ndarray, "I"], places: Int[np.ndarray, "I"], count: int
    ) -> "Similarity":
        """From the similarities of images with all names.

        Args:
          similarities: of each image with each name.
          objects: the object in each image.
          places: what it is on.
          count: of places.
        """
        own = similarities[np.arange(len(objects)), objects]
        names = similarities.shape[1]
        others = (similarities.sum(axis=1) - own) / (names - 1)
        means = np.full((names, count), np.nan)
        for name in range(names):
            for place in range(count):
                here = (objects == name) & (places == place)
                if here.any():
                    means[name, place] = own[here].mean()
        return Similarity(means, float((own - others).mean()))

    @property
    def mean(self) -> Float[np.ndarray, "O"]:
        """Over places."""
        return np.nanmean(self.own, axis=1)

    @property
    def differences(self) -> Float[np.ndarray, "O P"]:
        """Of each place from the mean over places."""
        return self.own - self.mean[:, None]

    @property
    def effect(self) -> float:
        """The root mean square of the differences, as a share of the size of the contrast."""
        return float(np.sqrt(np.nanmean(self.differences**2)) / abs(self.contrast))


@dataclasses.dataclass(frozen=True)
class Effect:
    """Of backgrounds on one model."""

    names: tuple[str, ...]
    places: tuple[str, ...]
    patches: Similarity
    pooled: Similarity
    images: int

    def as_json(self) -> dict[str, Any]:
        """All numbers."""
        return {
            "objects": list(self.names),
            "places": list(self.places),
            "images": self.images,
            **{
                kind: {
                    "similarity": [[None if np.isnan(x) else float(x) for x in row] for row in of.own],
                    "contrast": of.contrast,
                    "effect": of.effect,
                }
                for kind, of in (("patches", self.patches), ("pooled", self.pooled))
            },
        }


def report(effects: Mapping[str, Effect], patches: str) -> str:
    """A summary, a table for each model, and how to read them, in Markdown.

    Args:
      effects: by the name of a model.
      patches: what stands for the object.
    """
    rows = []
    for model, effect in effects.items():
        for kind, of in ((patches, effect.patches), ("pooled", effect.pooled)):
            numbers = (f"{of.mean.mean():.3f}", f"{of.contrast:.3f}", f"{100 * of.effect:.1f} %")
            rows.append((model, kind, *numbers))
    parts = [markdown(("model", "similarity of", "mean", "contrast", "effect"), rows)]
    for model, effect in effects.items():
        for kind, of in ((patches, effect.patches), ("pooled", effect.pooled)):
            cells = [
                (name, f"{mean:.3f}", *("" if np.isnan(x) else f"{x:+.3f}" for x in row))
                for name, mean, row in zip(effect.names, of.mean, of.differences)
            ]
            title = f"{model}, {kind}, {effect.images} images"
            parts.append(f"{title}:\n\n{markdown(('object', 'mean', *effect.places), cells)}")
    return "\n\n".join([*parts, HOW_TO_READ.format(objects=patches.capitalize())])


@matplotlib.rc_context({"text.parse_math": False})  # a word with "$" is no formula
def draw(effects: Mapping[str, Effect], patches: str) -> matplotlib.figure.Figure:
    """Objects by backgrounds, coloured by the difference from the mean over backgrounds; two panels a model."""
    first = next(iter(effects.values()))
    cell_height = 0.34 if len(first.names) > 4 else 0.7
    size = (4.4 + 1.1 * len(first.places) * 2, len(effects) * (len(first.names) * cell_height + 1.3) + 0.4)
    figure = matplotlib.figure.Figure(size, layout="constrained")
    panels = figure.subplots(len(effects), 2, squeeze=False)
    kinds = [(effect.patches, effect.pooled) for effect in effects.values()]
    # In shares of the contrast, so that models whose cosines lie closer together can be compared.
    shares = [[of.differences / abs(of.contrast) for of in pair] for pair in kinds]
    most = max(np.nanmax(np.abs(share)) for pair in shares for share in pair)
    for (model, effect), row, pair, of_pair in zip(effects.items(), panels, shares, kinds):
        for panel, share, of, kind in zip(row, pair, of_pair, (patches, "pooled embedding")):
            shown = panel.imshow(100 * share, cmap="RdBu", vmin=-100 * most, vmax=100 * most, aspect="auto")
            panel.set_title(f"{model}\n{kind}: effect {100 * of.effect:.1f} %", fontsize="medium")
            panel.set_xticks(range(len(effect.places)), effect.places)
            panel.set_yticks(range(len(effect.names)), effect.names)
            for (name, place), value in np.ndenumerate(100 * share):
                if not np.isnan(value):
                    colour = "white" if abs(value) > 60 * most else "black"
                    panel.text(place, name, f"{value:+.1f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(shown, ax=panels, shrink=0.6, label="difference from the mean over backgrounds, % of the contrast")
    return figure
