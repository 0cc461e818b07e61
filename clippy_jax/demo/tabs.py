"""The tabs of the page: which components each holds, and what they show of a request."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import gradio as gr
import PIL.Image

from clippy_jax.analysis import segment_files
from clippy_jax.analysis.embedder import Embedder
from clippy_jax.demo import markup, views

GROUPS = 5  # to begin with
HINT = "Click a patch of the image above: what would it be called, and which patches are like it?"

Update = dict[gr.blocks.Block, Any]


@dataclasses.dataclass(frozen=True)
class Request:
    """What a visitor asks for.

    Attributes:
      name: of the image's file, without its ending.
      image: in RGB.
      words: to tell apart; empty only where the tab needs none.
      resolution: a multiple of the training images' side.
      opacity: of the colours, from 0 to 1.
      groups: at most so many.
      point: the last click on the image as shares of its width and height.
    """

    name: str
    image: PIL.Image.Image
    words: list[str]
    resolution: float
    opacity: float
    groups: int
    point: tuple[float, float] | None


class SegmentsTab:
    """The segments that words name, files to download, and what a chosen patch is like.

    Attributes (of all tabs):
      tab: the component that a visitor selects.
      outputs: the components that `show` and `clear` update.
      needs_words: whether there is something to show without words.
    """

    needs_words = True

    def __init__(self, embedder: Embedder):
        self._embedder = embedder
        with gr.Tab("Segments") as self.tab, gr.Row():
            with gr.Column(scale=6, min_width=300):
                self.overlay = _shown_image("segments", "The image, its segments tinted in the colours of the legend")
                self._hint = gr.HTML(markup.note(HINT))
                with gr.Column(visible=False) as self._patch:
                    self._heat_map = _shown_image("heat-map", "A heat map of the patches that are like the chosen one")
            with gr.Column(scale=5, min_width=260):
                self._legend = gr.HTML(elem_id="legend")
                with gr.Row():
                    self._files = [
                        gr.DownloadButton(f"↓ {label}", size="sm", min_width=80, elem_id=f"download-{label.lower()}")
                        for label in ("Overlay", "Mask", "JSON")
                    ]
                self._names = gr.HTML(elem_id="patch-names")
        self.outputs = [self.overlay, self._hint, self._patch, self._heat_map, self._legend, *self._files, self._names]

    def show(self, request: Request) -> Update:
        """Segments, legend and files; with a point also the patch under it."""
        view = views.segments(
            self._embedder, request.image, request.words, request.resolution, request.opacity, request.point
        )
        # In Gradio's own folder, which it serves from and clears of old files.
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.overlay.GRADIO_CACHE))
        paths = segment_files.write(folder, request.name, view.image, view.mask, view.summary)
        buttons = {file: gr.update(value=path, interactive=True) for file, path in zip(self._files, paths)}
        return {self.overlay: paths[0], self._legend: view.figures, **buttons, **self._show_patch(request)}

    def _show_patch(self, request: Request) -> Update:
        chosen = request.point is not None
        update = {self._hint: gr.update(visible=not chosen), self._patch: gr.update(visible=chosen)}
        if not chosen:
            return update | {self._heat_map: None, self._names: None}
        view = views.patch(self._embedder, request.image, request.words, request.resolution, request.point)
        heading = markup.heading("The framed patch would be called")
        return update | {self._heat_map: view.image, self._names: heading + view.figures}

    def clear(self) -> Update:
        """Nothing to see and nothing to download."""
        update = dict.fromkeys([self.overlay, self._legend, self._names, self._heat_map])
        update |= {file: gr.update(value=None, interactive=False) for file in self._files}
        return update | {self._hint: gr.update(visible=False), self._patch: gr.update(visible=False)}


class ClassificationTab:
    """The probability of each word for the image as a whole."""

    needs_words = True

    def __init__(self, embedder: Embedder):
        self._embedder = embedder
        with gr.Tab("Classification") as self.tab:
            self._probabilities = gr.HTML(elem_id="probabilities")
        self.outputs = [self._probabilities]

    def show(self, request: Request) -> Update:
        """The words, the likeliest first."""
        table = views.classification(self._embedder, request.image, request.words, request.resolution)
        return {self._probabilities: table}

    def clear(self) -> Update:
        """No words."""
        return {self._probabilities: None}


class GroupsTab:
    """The groups that patches form without words."""

    needs_words = False

    def __init__(self, embedder: Embedder):
        self._embedder = embedder
        with gr.Tab("Groups without words") as self.tab, gr.Row():
            with gr.Column(scale=6, min_width=300):
                self._overlay = _shown_image("groups", "The image, its groups tinted in the colours of the legend")
            with gr.Column(scale=5, min_width=260):
                self._legend = gr.HTML(elem_id="group-legend")
                self.count = gr.Slider(2, 16, GROUPS, step=1, label="At most so many groups", elem_id="group-count")
        self.outputs = [self._overlay, self._legend]

    def show(self, request: Request) -> Update:
        """The groups and their legend."""
        view = views.groups(
            self._embedder, request.image, request.words, request.resolution, request.opacity, request.groups
        )
        return {self._overlay: view.image, self._legend: view.figures}

    def clear(self) -> Update:
        """No groups."""
        return dict.fromkeys(self.outputs)


class TwoCheckpointsTab:
    """The segments of two checkpoints side by side; of a single one, how to start the page with two."""

    needs_words = True

    def __init__(self, embedders: Sequence[Embedder]):
        self._embedders = embedders if len(embedders) == 2 else ()
        with gr.Tab("Two checkpoints") as self.tab:
            if not self._embedders:
                gr.HTML(markup.note("Start the page with --second_checkpoint=... to see two side by side."))
            with gr.Row():
                self._sides = [self._side(*side) for side in enumerate(self._embedders)]
        self.outputs = [component for side in self._sides for component in side]

    @staticmethod
    def _side(index: int, embedder: Embedder) -> tuple[gr.Image, gr.HTML]:
        with gr.Column(min_width=260):
            gr.HTML(markup.heading(embedder.name))
            overlay = _shown_image(f"compared-{index}", f"The segments of {embedder.name}")
            return overlay, gr.HTML(elem_id=f"compared-legend-{index}")

    def show(self, request: Request) -> Update:
        """The segments of both."""
        update = {}
        for embedder, (overlay, legend) in zip(self._embedders, self._sides):
            view = views.segments(embedder, request.image, request.words, request.resolution, request.opacity)
            update |= {overlay: view.image, legend: view.figures}
        return update

    def clear(self) -> Update:
        """No segments."""
        return dict.fromkeys(self.outputs)


def _shown_image(name: str, alternative_text: str) -> gr.Image:
    return gr.Image(
        show_label=False,
        interactive=False,
        format="jpeg",
        buttons=["fullscreen"],
        alt_text=alternative_text,
        elem_id=name,
        elem_classes="shown",
    )
