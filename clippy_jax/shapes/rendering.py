"""The picture of a scene, with its exact mask."""

import dataclasses
import io
import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter

from clippy_jax.datasets.vocabulary import IGNORED_LABEL
from clippy_jax.shapes import drawing
from clippy_jax.shapes.backgrounds import PLACES
from clippy_jax.shapes.drawing import Colours, Field
from clippy_jax.shapes.objects import OBJECTS, UNFAMILIAR, Look
from clippy_jax.shapes.scenes import CLASSES, PlacedObject, Scene

SUPERSAMPLING = 2  # drawn pixels along each side of an image pixel
JPEG_QUALITY = 92


@dataclasses.dataclass(frozen=True)
class Picture:
    """A rendered scene; the mask holds 0 for the place, 1 + the position in `CLASSES` for objects, 255 on borders."""

    image: UInt8[np.ndarray, "H W 3"]
    mask: UInt8[np.ndarray, "H W"]

    def jpeg(self) -> bytes:
        """The image as the bytes of a JPEG file."""
        file = io.BytesIO()
        Image.fromarray(self.image).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
        return file.getvalue()


def render(
    scene: Scene, image_size: int, rng: np.random.Generator, place_rng: np.random.Generator | None = None
) -> Picture:
    """Draws `scene` as an image of `image_size` pixels a side.

    Args:
      scene: what to draw.
      image_size: pixels along each side.
      rng: decides on looks, light and noise.
      place_rng: decides on the place instead, so that `rng` gives the same objects and light on every place.
    """
    light = rng.uniform(-1, 1), rng.uniform(-1, -0.3)  # where the light comes from: left or right, always above
    canvas = PLACES[scene.place](image_size, rng if place_rng is None else place_rng)
    mask = np.zeros((image_size, image_size), np.uint8)
    for placed in scene.objects:
        colours, cover = _draw(placed, image_size, light, rng)
        shift = [round(-direction * 0.03 * image_size) for direction in light]
        shadow = np.roll(_blurred(cover, image_size * 0.025), (shift[1], shift[0]), (0, 1))
        canvas = canvas * ((1 - 0.5 * shadow) * (1 - cover)) + colours
        mask[cover > 0.25] = IGNORED_LABEL  # shared with what is behind the object
        mask[cover > 0.75] = 1 + CLASSES.index(placed.name)
    return Picture(_photographed(canvas, light, rng), mask)


def _draw(
    placed: PlacedObject, image_size: int, light: tuple[float, float], rng: np.random.Generator
) -> tuple[Colours, Field]:
    """The object alone on the image's canvas: its colours times its cover, and its cover in [0, 1]."""
    box = min(math.ceil(placed.size * image_size) + 1, image_size)  # side, in pixels, of a square around the circle
    left, top = (
        min(max(math.floor((centre - placed.size / 2) * image_size), 0), image_size - box)
        for centre in (placed.x, placed.y)
    )
    x, y = drawing.centred_grid(box * SUPERSAMPLING, box / image_size / placed.size)
    x = x - (placed.x - (left + box / 2) / image_size) * 2 / placed.size
    y = y - (placed.y - (top + box / 2) / image_size) * 2 / placed.size
    object_class = (UNFAMILIAR if placed.is_unfamiliar else OBJECTS)[placed.name]
    object_x, object_y = drawing.turned(x, y, rng.uniform(-object_class.turn, object_class.turn))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    look = object_class.draw(object_class.reach * mirror * object_x, object_class.reach * object_y, rng)

    inside = (look.depth > 0).astype(np.float32)
    cover, colours = _reduced(inside), _reduced(_lit(look, x, y, light) * inside)
    whole_cover = np.zeros((image_size, image_size), np.float32)
    whole_colours = np.zeros((3, image_size, image_size), np.float32)
    whole_cover[top : top + box, left : left + box] = cover
    whole_colours[:, top : top + box, left : left + box] = colours
    return whole_colours, whole_cover


def _lit(look: Look, x: Field, y: Field, light: tuple[float, float]) -> Colours:
    """The look's colours under the light: its surface bulges from the border inwards."""
    inwards = np.clip(look.depth / look.roundness, 0, 1)
    height = look.roundness * np.sqrt(inwards * (2 - inwards))
    slope_y, slope_x = np.gradient(height, float(x[0, 1] - x[0, 0]))
    towards = 1 - 0.6 * (slope_x * light[0] + slope_y * light[1])
    shade = np.clip(0.45 + 0.55 * towards / np.sqrt(slope_x * slope_x + slope_y * slope_y + 1), 0.3, 1.25)
    colours = look.colours * shade
    if look.gloss:
        spot_x, spot_y = x - 0.35 * light[0], y - 0.4 * light[1]
        colours = colours + look.gloss * np.exp((spot_x * spot_x + spot_y * spot_y) * (-1 / 0.035))
    return np.clip(colours, 0, 1)


def _reduced(values: Float[np.ndarray, "... H W"]) -> Float[np.ndarray, "... h w"]:
    """The mean over each image pixel's drawn pixels."""
    rows = sum(values[..., start::SUPERSAMPLING, :] for start in range(SUPERSAMPLING))
    return sum(rows[..., start::SUPERSAMPLING] for start in range(SUPERSAMPLING)) / SUPERSAMPLING**2


def _blurred(cover: Field, radius: float) -> Field:
    grey = Image.fromarray((cover * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius))
    return np.asarray(grey, np.float32) / 255


def _photographed(canvas: Colours, light: tuple[float, float], rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """What a camera makes of it: light that falls off, a colour cast, exposure and sensor noise."""
    x, y = drawing.centred_grid(canvas.shape[1], 1)
    falloff = 1 + rng.uniform(0.02, 0.16) * (x * light[0] + y * light[1]) - rng.uniform(0, 0.08) * (x * x + y * y)
    cast = (rng.uniform(0.86, 1.1) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    grain = rng.standard_normal(canvas.shape, np.float32) * rng.uniform(2, 8)
    seen = np.clip(canvas * (255 * falloff) * cast[:, None, None] + grain, 0, 255) + 0.5
    return np.ascontiguousarray(seen.astype(np.uint8).transpose(1, 2, 0))
