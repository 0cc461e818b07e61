"""The page itself: what stands where, and what follows from what a visitor does."""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import gradio as gr

from clippy_jax.demo import appearance, tables, views
from clippy_jax.demo.embedder import Embedder
from clippy_jax.demo.examples import Example
from clippy_jax.demo.uploads import MOST_BYTES, open_upload
from clippy_jax.demo.words import parse_words
from clippy_jax.errors import InputError

SEGMENTS, CLASSIFICATION, GROUPS, TWO_CHECKPOINTS = "segments", "classification", "groups", "two checkpoints"
OPACITY, RESOLUTION = 0.6, 1.0  # to begin with
WAITING_VISITORS = 20  # a request beyond them is refused at once
FILES_KEPT_SECONDS = 3600
PICTURE_PIXELS = 440  # the height of a picture on the page
HINT = "Click a patch of the image above: what would it be called, and which patches are like it?"


def build(embedders: Sequence[Embedder], examples: Sequence[Example], folder: pathlib.Path) -> gr.Blocks:
    """The page of one checkpoint, or of two to compare.

    Args:
      embedders: the checkpoint of all tabs, then the one to compare it with, if any.
      examples: the first is there when the page opens.
      folder: for the files that visitors download; they are removed after an hour.
    """
    first = embedders[0]
    # Compiles what the first visitor would wait for.
    for embedder in embedders:
        views.segments(embedder, open_upload(examples[0].path), parse_words(examples[0].words), RESOLUTION, OPACITY)
    with gr.Blocks(title="CLIPpy", analytics_enabled=False, delete_cache=(600, FILES_KEPT_SECONDS)) as page:
        tab, point = gr.State(SEGMENTS), gr.State(None)
        gr.HTML(
            "<h1>CLIPpy: words for every patch</h1>"
            "<p>Drop an image, type words, and see which part of it each word names.</p>",
            elem_id="title",
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=320, elem_classes="inputs"):
                image = _image_upload(examples[0].path)
                problem = gr.HTML(visible=False, elem_id="problem")
                words = gr.Textbox(
                    examples[0].words,
                    label="Words, with commas between them",
                    placeholder="zebra, grass, sky",
                    max_lines=4,
                    elem_id="words",
                )
                look = gr.Button("Find these words", variant="primary", elem_id="look")
                with gr.Column(elem_classes="settings"):
                    opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity of the colours", elem_id="opacity")
                    resolution = gr.Slider(
                        0.5,
                        3,
                        RESOLUTION,
                        step=0.25,
                        label="Resolution",
                        info=f"1 is that of training: {first.model.image_size} pixels along the short side",
                        elem_id="resolution",
                    )
                    gr.Examples(
                        [[example.path, example.words] for example in examples],
                        inputs=[image, words],
                        examples_per_page=12,
                        visible_columns=[0],
                        elem_id="examples",
                    )
            with gr.Column(scale=8, min_width=320, elem_classes="results"), gr.Tabs():
                with gr.Tab("Segments", elem_id="segments-tab") as segments_tab, gr.Row():
                    with gr.Column(scale=6, min_width=300):
                        overlay = _picture("segments", "The image, its segments tinted in the colours of the legend")
                        hint = gr.HTML(tables.note(HINT))
                        with gr.Column(visible=False) as patch_column:
                            heat = _picture("heat", "A heat map of the patches that are like the chosen one")
                    with gr.Column(scale=5, min_width=260):
                        legend = gr.HTML(elem_id="legend")
                        with gr.Row():
                            files = [
                                gr.DownloadButton(label, size="sm", min_width=80, elem_id=f"download-{kind}")
                                for label, kind in (("↓ Overlay", "overlay"), ("↓ Mask", "mask"), ("↓ JSON", "json"))
                            ]
                        names = gr.HTML(elem_id="patch-names")
                with gr.Tab("Classification", elem_id="classification-tab") as classification_tab:
                    probabilities = gr.HTML(elem_id="probabilities")
                with gr.Tab("Groups without words", elem_id="groups-tab") as groups_tab, gr.Row():
                    with gr.Column(scale=6, min_width=300):
                        grouped = _picture("groups", "The image, its groups tinted in the colours of the legend")
                    with gr.Column(scale=5, min_width=260):
                        group_legend = gr.HTML(elem_id="group-legend")
                        count = gr.Slider(2, 16, 5, step=1, label="At most so many groups", elem_id="count")
                with gr.Tab("Two checkpoints", elem_id="compare-tab") as compare_tab:
                    if len(embedders) == 1:
                        gr.HTML(tables.note("Start the page with --second_checkpoint=... to see two side by side."))
                    with gr.Row():
                        two = embedders if len(embedders) == 2 else ()
                        compared = [_compared(embedder, index) for index, embedder in enumerate(two)]
        shown = {
            SEGMENTS: [overlay, legend, *files, hint, patch_column, heat, names],
            CLASSIFICATION: [probabilities],
            GROUPS: [grouped, group_legend],
            TWO_CHECKPOINTS: [component for pair in compared for component in pair],
        }

        def show(tab, path, text, resolution, opacity, count, point) -> dict[gr.components.Component, Any]:
            """The outputs of the chosen tab, or a message where the visitor looks."""
            try:
                image = open_upload(path)
                # Groups need no words; they are told apart by them if there are any.
                words = [] if tab == GROUPS and not (text or "").strip() else parse_words(text)
                new = of_tab(tab, path, image, words, resolution, opacity, count, point)
            except InputError as error:
                cleared = {component: _cleared(component) for component in shown[tab]}
                return cleared | {problem: gr.update(value=tables.error(str(error)), visible=True)}
            return new | {problem: gr.update(visible=False)}

        def of_tab(tab, path, image, words, resolution, opacity, count, point):
            if tab == CLASSIFICATION:
                return {probabilities: views.classification(first, image, words, resolution)}
            if tab == GROUPS:
                view = views.groups(first, image, words, resolution, opacity, int(count))
                return {grouped: view.picture, group_legend: view.figures}
            if tab == TWO_CHECKPOINTS:
                new = {}
                for embedder, (picture, figures) in zip(embedders, compared):
                    view, _, _ = views.segments(embedder, image, words, resolution, opacity)
                    new |= {picture: view.picture, figures: view.figures}
                return new
            view, found, embedded = views.segments(first, image, words, resolution, opacity, point)
            request = pathlib.Path(tempfile.mkdtemp(dir=folder))
            paths = views.write_downloads(request, pathlib.Path(path).stem, first, words, view, found, embedded)
            new = {overlay: paths[0], legend: view.figures, **_offered(files, paths)}
            new |= {hint: gr.update(visible=point is None), patch_column: gr.update(visible=point is not None)}
            if point is not None:
                view = views.patch(first, image, words, resolution, point)
                new |= {heat: view.picture, names: tables.heading("The framed patch would be called") + view.figures}
            else:
                new |= {heat: None, names: None}
            return new

        def point_of(event: gr.SelectData, path: str | None) -> tuple[float, float]:
            """Where a click hit the image, as shares of its width and height."""
            width, height = views.painting.shown_size(open_upload(path).size)
            x, y = event.index
            return x / width, y / height

        listen = {
            "fn": show,
            "inputs": [tab, image, words, resolution, opacity, count, point],
            "outputs": [problem, *(component for components in shown.values() for component in components)],
            "show_progress": "minimal",
            "show_progress_on": [overlay, probabilities, grouped],
            "trigger_mode": "always_last",
        }
        private = {"api_visibility": "private"}
        gr.on([words.submit, look.click, resolution.release, opacity.release, count.release], **listen, **private)
        gr.on([page.load], **listen, **private)
        image.change(lambda: None, None, point, queue=False, **private).then(**listen, **private)
        overlay.select(point_of, [image], point, queue=False, **private).then(**listen, **private)
        tabs = (segments_tab, classification_tab, groups_tab, compare_tab)
        for one, name in zip(tabs, shown):
            one.select(lambda name=name: name, None, tab, queue=False, **private).then(**listen, **private)
    return page


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serves the page until the process is interrupted; to this machine alone if the host is 127.0.0.1."""
    page.queue(max_size=WAITING_VISITORS, default_concurrency_limit=1, api_open=False)
    theme = gr.themes.Soft(
        primary_hue="blue", neutral_hue="slate", font=appearance.SYSTEM_FONTS, font_mono=appearance.SYSTEM_MONO_FONTS
    )
    page.launch(
        server_name=host,
        server_port=port,
        theme=theme,
        css=appearance.CSS,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        max_file_size=MOST_BYTES,
        prevent_thread_lock=True,
        quiet=True,
    )
    print(f"The page is at http://{host}:{port}; Ctrl+C ends it", flush=True)
    page.block_thread()


def _image_upload(path: str) -> gr.Image:
    """An input that hands on the uploaded file as it came: `open_upload` is who looks into it, and explains itself."""
    upload = gr.Image(
        path, label="Image", type="filepath", sources=["upload", "clipboard"], height=260, buttons=[], elem_id="image"
    )
    # By now Gradio has checked that the path is an upload's. Not a subclass: beside the module of one Gradio writes a
    # stub file.
    upload.preprocess = lambda payload: payload.path if payload else None
    return upload


def _picture(name: str, alternative_text: str) -> gr.Image:
    return gr.Image(
        show_label=False,
        interactive=False,
        format="jpeg",
        height=PICTURE_PIXELS,
        buttons=["fullscreen"],
        alt_text=alternative_text,
        elem_id=name,
    )


def _compared(embedder: Embedder, index: int) -> tuple[gr.Image, gr.HTML]:
    with gr.Column(min_width=260):
        gr.HTML(tables.heading(embedder.name))
        picture = _picture(f"compared-{index}", f"The segments of {embedder.name}")
        return picture, gr.HTML(elem_id=f"compared-legend-{index}")


def _offered(buttons: Sequence[gr.DownloadButton], paths: Sequence[str]) -> dict[gr.DownloadButton, Any]:
    return {button: gr.update(value=path, interactive=True) for button, path in zip(buttons, paths)}


def _cleared(component: Any) -> Any:
    if isinstance(component, gr.DownloadButton):
        return gr.update(value=None, interactive=False)
    if isinstance(component, gr.Column):
        return gr.update(visible=False)
    return None
