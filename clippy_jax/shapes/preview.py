"""One picture that shows what is in the data set: scenes, their masks, and captions."""

import itertools
import textwrap
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clippy_jax.shapes.rendering import Picture, render
from clippy_jax.shapes.scenes import Scene, sample_scene, scene_rng
from clippy_jax.shapes.settings import Settings
from clippy_jax.shapes.voc_tree import palette_mask

COLUMNS, ROWS = 6, 2
SIDE, GAP, CAPTION_HEIGHT = 192, 8, 60  # pixels
CAPTION_WIDTH = 28  # letters


def write_preview(path: Path, settings: Settings) -> None:
    """Writes scenes of the VOC `val` list, each above its mask and its caption, as a PNG."""
    cell_width, cell_height = SIDE + GAP, 2 * SIDE + GAP + CAPTION_HEIGHT
    sheet = Image.new("RGB", (COLUMNS * cell_width + GAP, ROWS * cell_height + GAP), "white")
    write = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for cell, (scene, picture) in enumerate(itertools.islice(_scenes_with_objects(settings), COLUMNS * ROWS)):
        left, top = GAP + cell % COLUMNS * cell_width, GAP + cell // COLUMNS * cell_height
        sheet.paste(Image.fromarray(picture.image).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top))
        mask = palette_mask(picture).convert("RGB")
        sheet.paste(mask.resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top + SIDE))
        lines = textwrap.wrap(scene.caption, CAPTION_WIDTH)
        write.multiline_text((left, top + 2 * SIDE + 4), "\n".join(lines), "black", font, spacing=3)
    sheet.save(path)


def _scenes_with_objects(settings: Settings) -> Iterator[tuple[Scene, Picture]]:
    for index in itertools.count():
        rng = scene_rng(settings.seed, "voc_val", index)
        scene = sample_scene(rng)
        if scene.objects:
            yield scene, render(scene, settings.image_size, rng)
