"""Images that strangers hand in: bounded before they are decoded, upright, opaque, in RGB."""

import os
import pathlib

import PIL.Image
import PIL.ImageOps

from clippy_jax.errors import InputError

MOST_BYTES = 20 * 2**20
MOST_PIXELS = 24_000_000
PAPER = (255, 255, 255)  # what shows through a transparent image


def open_upload(path: str | os.PathLike | None) -> PIL.Image.Image:
    """Decodes an uploaded file: the first frame, the way up that its camera noted, on white where it is transparent.

    Raises:
      InputError: there is none, it is no image, or it is larger than `MOST_BYTES` or `MOST_PIXELS`.
    """
    if not path:
        raise InputError("No image yet: drop one above, or choose an example")
    path = pathlib.Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path.name} is larger than {MOST_BYTES // 2**20} MB: choose a smaller file")
        with PIL.Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path.name} has {image.width} x {image.height} pixels: choose an image of at most "
                    f"{MOST_PIXELS // 10**6} megapixels"
                )
            image.load()
            return _opaque(PIL.ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError):
        raise InputError(f"{path.name} cannot be read as an image: choose a JPEG, PNG or WebP file") from None


def _opaque(image: PIL.Image.Image) -> PIL.Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    paper = PIL.Image.new("RGBA", image.size, PAPER)
    return PIL.Image.alpha_composite(paper, image).convert("RGB")
