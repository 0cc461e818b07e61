import numpy as np
import PIL.Image
import pytest

from clippy_jax.datasets import image_file
from clippy_jax.input_pipeline import evaluation_image

SIZE = 32


def torchvision_pipeline(image: PIL.Image.Image) -> np.ndarray:
    """`Resize(bicubic)`, `CenterCrop`, convert to RGB, by torchvision's documented rules."""
    width, height = image.size
    short, long = sorted((width, height))
    if short != SIZE:
        new_long = int(SIZE * long / short)
        image = image.resize((SIZE, new_long) if width <= height else (new_long, SIZE), PIL.Image.BICUBIC)
    top, left = int(round((image.height - SIZE) / 2.0)), int(round((image.width - SIZE) / 2.0))
    pixels = np.asarray(image.convert("RGB"))
    return pixels[top : top + SIZE, left : left + SIZE]


def stored(kind: str, width: int, height: int, folder) -> PIL.Image.Image:
    """A picture of a kind, written to a file and opened again."""
    random = np.random.default_rng(width * height)
    rgb = PIL.Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    path = folder / f"picture.{'jpg' if kind in ('RGB', 'CMYK', 'EXIF') else 'png'}"
    if kind == "I;16":
        PIL.Image.fromarray(random.integers(0, 65536, (height, width)).astype(np.uint16)).save(path)
    elif kind == "RGBA":
        rgb.putalpha(PIL.Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8)))
        rgb.save(path)
    elif kind == "P":
        rgb.quantize(17).save(path)
    elif kind == "EXIF":
        exif = PIL.Image.Exif()
        exif[0x0112] = 6  # stored on its side
        rgb.save(path, exif=exif)
    else:
        rgb.convert(kind).save(path)
    return image_file.open_image(path)


@pytest.mark.parametrize("kind", ["RGB", "P", "L", "1", "LA", "CMYK", "I;16", "RGBA", "EXIF"])
@pytest.mark.parametrize("size", [(47, 61), (61, 46), (32, 45), (20, 21), (33, 33), (32, 32), (301, 40)])
def test_centre_crop_equals_the_public_pipeline(kind, size, tmp_path):
    image = stored(kind, *size, tmp_path)
    ours = evaluation_image.centre_crop(image, SIZE)
    assert ours.shape == (SIZE, SIZE, 3) and ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, torchvision_pipeline(image))


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1)])
def test_a_long_strip_takes_little_memory_and_gives_the_same(size, monkeypatch):
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, size[::-1], dtype=np.uint8))
    expected, resize, pixels = torchvision_pipeline(image), PIL.Image.Image.resize, []
    monkeypatch.setattr(PIL.Image.Image, "resize", lambda *given: (pixels.append(np.prod(given[1])), resize(*given))[1])
    np.testing.assert_array_equal(evaluation_image.centre_crop(image, SIZE), expected)
    assert max(pixels) <= 64 * SIZE**2


def test_palette_pictures_are_resized_to_the_nearest_colour(tmp_path):
    image = stored("P", 50, 70, tmp_path)
    colours = {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}
    assert {tuple(pixel) for pixel in evaluation_image.centre_crop(image, SIZE).reshape(-1, 3)} <= colours


@pytest.mark.parametrize(
    "size, fed",
    [((500, 375), (304, 224)), ((375, 500), (224, 304)), ((64, 64), (224, 224)), ((2000, 10), (896, 224))],
)
def test_whole_image_covers_the_photo_in_whole_patches(size, fed):
    assert evaluation_image.whole_image_size(*size, 224, 16) == fed
    pixels = evaluation_image.whole_image(PIL.Image.new("RGB", size, (10, 20, 30)), 224, 16)
    assert pixels.shape == (fed[1], fed[0], 3) and (pixels == (10, 20, 30)).all()


def test_unreadable_images_raise_one_kind_of_error(tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(OSError):
        image_file.open_image(path)
    PIL.Image.effect_noise((80, 80), 50).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(OSError):
        image_file.open_image(path)
