"""The page itself: what stands where, and what follows from what a visitor does."""

import pathlib
from collections.abc import Sequence

import gradio as gr

from clippy_jax.analysis.embedder import Embedder
from clippy_jax.analysis.painting import shown_size
from clippy_jax.demo import appearance, markup, views
from clippy_jax.demo.examples import Example
from clippy_jax.demo.tabs import ClassificationTab, GroupsTab, Request, SegmentsTab, TwoCheckpointsTab, Update
from clippy_jax.demo.uploads import MOST_BYTES, open_upload
from clippy_jax.demo.words import parse_words
from clippy_jax.errors import InputError

OPACITY, RESOLUTION = 0.6, 1.0  # to begin with
LOWEST_RESOLUTION, HIGHEST_RESOLUTION = 0.5, 3.0
WAITING_VISITORS = 20  # a request beyond them is refused at once
CLEANING_SECONDS, FILES_KEPT_SECONDS = 600, 3600  # how often, and how old files are that go
TITLE = (
    "<h1>CLIPpy: words for every patch</h1><p>Drop an image, type words, and see which part of it each word names.</p>"
)


def build(embedders: Sequence[Embedder], examples: Sequence[Example]) -> gr.Blocks:
    """The page of one checkpoint, or of two to compare.

    Args:
      embedders: the checkpoint of all tabs, then the one to compare it with, if any.
      examples: the first is there when the page opens.
    """
    _compile(embedders, examples[0])
    cleaning = (CLEANING_SECONDS, FILES_KEPT_SECONDS)
    with gr.Blocks(title="CLIPpy", analytics_enabled=False, fill_width=True, delete_cache=cleaning) as page:
        gr.HTML(TITLE, elem_id="title")
        with gr.Row():
            with gr.Column(scale=3, min_width=320, elem_classes="inputs"):
                image = _image_upload(examples[0].path)
                problem = gr.HTML(visible=False, elem_id="problem")
                words = _words(examples[0].words)
                find = gr.Button("Find these words", variant="primary", elem_id="find")
                with gr.Column(elem_classes="settings"):
                    opacity, resolution = _sliders(embedders[0].model.image_size)
                    _example_gallery(examples, image, words)
            with gr.Column(scale=8, min_width=320, elem_classes="results"), gr.Tabs():
                segments, classification = SegmentsTab(embedders[0]), ClassificationTab(embedders[0])
                groups, two_checkpoints = GroupsTab(embedders[0]), TwoCheckpointsTab(embedders)
        tabs = (segments, classification, groups, two_checkpoints)
        selected, point = gr.State(0), gr.State(None)

        def show(selected, path, text, resolution, opacity, group_count, point) -> Update:
            """The outputs of the selected tab, or a message where the visitor looks."""
            tab = tabs[selected]
            try:
                image = open_upload(path)
                wanted = parse_words(text) if tab.needs_words or (text or "").strip() else []
                name = pathlib.Path(path).stem
                update = tab.show(Request(name, image, wanted, resolution, opacity, int(group_count), point))
            except InputError as error:
                return tab.clear() | {problem: gr.update(value=markup.error(str(error)), visible=True)}
            return update | {problem: gr.update(visible=False)}

        show_it = {
            "fn": show,
            "inputs": [selected, image, words, resolution, opacity, groups.count, point],
            "outputs": [problem, *(component for tab in tabs for component in tab.outputs)],
            "show_progress": "minimal",
            "show_progress_on": [segments.overlay, *classification.outputs],
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        set_it = {"queue": False, "api_visibility": "private"}
        sliders = [slider.change for slider in (resolution, opacity, groups.count)]
        gr.on([page.load, words.submit, find.click, *sliders], **show_it)
        image.change(lambda: None, None, point, **set_it).then(**show_it)
        segments.overlay.select(_point, image, point, **set_it).then(**show_it)
        for index, tab in enumerate(tabs):
            tab.tab.select(lambda index=index: index, None, selected, **set_it).then(**show_it)
    return page


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serves the page until the process is interrupted; to this machine alone if the host is a loopback address."""
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


def _compile(embedders: Sequence[Embedder], example: Example) -> None:
    """Does what the first visitor would wait for."""
    for embedder in embedders:
        views.segments(embedder, open_upload(example.path), parse_words(example.words), RESOLUTION, OPACITY)


def _image_upload(path: str) -> gr.Image:
    """An input that hands on the uploaded file as it came: `open_upload` is who looks into it, and explains itself."""
    upload = gr.Image(
        path, label="Image", type="filepath", sources=["upload", "clipboard"], height=260, buttons=[], elem_id="image"
    )
    # By now Gradio has checked that the path is an upload's. Not a subclass: beside the module of one Gradio writes a
    # stub file.
    upload.preprocess = lambda payload: payload.path if payload else None
    return upload


def _words(text: str) -> gr.Textbox:
    # With more than one line to begin with, Enter would not submit.
    label = "Words, with commas between them"
    return gr.Textbox(text, label=label, placeholder="zebra, grass, sky", lines=1, max_lines=4, elem_id="words")


def _sliders(image_size: int) -> tuple[gr.Slider, gr.Slider]:
    opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity", elem_id="opacity")
    resolution = gr.Slider(
        LOWEST_RESOLUTION,
        HIGHEST_RESOLUTION,
        RESOLUTION,
        step=0.25,
        label="Resolution",
        info=f"1 is that of training: {image_size} pixels along the short side",
        elem_id="resolution",
    )
    return opacity, resolution


def _example_gallery(examples: Sequence[Example], image: gr.Image, words: gr.Textbox) -> None:
    rows = [[example.path, example.words] for example in examples]
    gr.Examples(rows, inputs=[image, words], examples_per_page=12, visible_columns=[0], elem_id="examples")


def _point(event: gr.SelectData, path: str) -> tuple[float, float]:
    """Where a click hit the image that the page shows, as shares of its width and height."""
    return tuple(place / length for place, length in zip(event.index, shown_size(open_upload(path).size)))
