import json

import numpy as np
import PIL.Image
import pytest

import clippy_jax.inference
from clippy_jax import segment
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WORDS = {"rose": RED, "olive": GREEN, "sky": BLUE}


@pytest.fixture(autouse=True)
def checkpoint(monkeypatch):
    """A model that tells red, green and blue apart."""
    model = FakeModel(8)
    model.params = {"logit_scale": np.log(50.0)}
    colours = np.array(list(WORDS.values()), np.uint8)[:, None, None]
    _, vectors = model.encode_image(np.broadcast_to(colours, (len(WORDS), 8, 8, 3)))
    for template in ("a photo of {}", "a drawing of {}"):
        for word, vector in zip(WORDS, np.asarray(vectors)):
            model.texts[template.format(f"{'an' if word == 'olive' else 'a'} {word}")] = vector
    monkeypatch.setattr(clippy_jax.inference, "load_model", lambda checkpoint, tokenizer: model)
    return model


def stripes(*colours, width=160, height=96) -> PIL.Image.Image:
    """A photo of vertical stripes of equal width."""
    pixels = np.repeat(np.array([colours], np.uint8), width // len(colours), axis=1)
    return PIL.Image.fromarray(np.repeat(pixels, height, axis=0))


def read(folder, stem) -> tuple[PIL.Image.Image, np.ndarray, dict]:
    """The files of an image."""
    mask = PIL.Image.open(folder / f"{stem}_mask.png")
    assert mask.mode == "P"
    figures = json.loads((folder / f"{stem}_segments.json").read_text("utf-8"))
    return PIL.Image.open(folder / f"{stem}_overlay.png"), np.asarray(mask), figures


def shares(figures) -> dict[str, float]:
    return {word["word"]: word["share"] for word in figures["words"]}


def test_a_picture_colours_each_half_of_a_photo(tmp_path):
    stripes(RED, GREEN).save(tmp_path / "photo.png")
    flags = [f"--image={tmp_path}/photo.png", "--labels=rose, olive", f"--output={tmp_path}/overlay.png"]
    segment.main(["--checkpoint=model", *flags])
    sheet = np.asarray(PIL.Image.open(tmp_path / "overlay.png")).astype(int)
    colours = {tuple(pixel) for pixel in sheet.reshape(-1, 3)}
    assert RED in colours and GREEN in colours  # the photo itself
    shown = sheet[sheet.shape[0] // 2, sheet.shape[1] // 2 :]
    left, right = shown[len(shown) // 4], shown[-len(shown) // 4]
    assert left[0] > left[2] + 60 and right[2] > right[0] + 60  # orange beside blue
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.png", "photo.png"]


def test_several_photos_make_rows(tmp_path):
    images = []
    for index, size in enumerate([(30, 20), (400, 1300), (64, 64), (1, 1), (17, 900)]):
        PIL.Image.new("RGB", size, RED).save(tmp_path / f"{index}.jpg")
        images.append(f"--image={tmp_path}/{index}.jpg")
    segment.main(["--checkpoint=model", *images, "--labels=rose,olive", f"--output={tmp_path}/overlay.jpg"])
    width, height = PIL.Image.open(tmp_path / "overlay.jpg").size
    assert 300 < width < 2000 and 300 < height < 2000


def test_a_folder_gets_files_for_every_image(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    stripes(RED, GREEN, GREEN, GREEN).save(photos / "turned.jpg", quality=95, exif=exif)
    stripes(RED, BLUE).save(photos / "same.jpg", quality=95)
    clear = stripes(GREEN, RED).convert("RGBA")
    clear.paste((0, 0, 0, 0), (80, 0, 160, 96))  # black that nobody sees
    clear.save(photos / "same.png")
    (photos / "text.png").write_text("no image")
    flags = ["--labels=rose,olive", "--background=sky", "--heatmaps", f"--output={tmp_path}/segments"]
    segment.main(["--checkpoint=model", f"--image={photos}", *flags])
    printed = capsys.readouterr()
    assert printed.out == f"written: {tmp_path}/segments, the files of 3 images\n"
    assert printed.err == f"left out: {photos}/text.png cannot be read as an image\n"  # and no progress where piped

    overlay, mask, figures = read(tmp_path / "segments", "turned")
    assert mask.shape == (160, 96) and mask[10, 50] == 0 and mask[150, 50] == 1
    assert shares(figures) == {
        "rose": pytest.approx(0.25, abs=0.03),
        "olive": pytest.approx(0.75, abs=0.03),
        "background": 0,
    }
    rose, _, background = figures["words"]
    assert 0.9 < rose["mean_confidence"] <= 1 and background["mean_confidence"] is None
    assert figures["image"] == str(photos / "turned.jpg") and figures["checkpoint"] == "model"
    assert overlay.size[0] < overlay.size[1] and overlay.getpixel((5, overlay.height - 5)) == (
        255,
        255,
        255,
    )  # a legend

    _, mask, figures = read(tmp_path / "segments", "same.jpg")
    assert mask[50, 10] == 0 and mask[50, 150] == 2  # the sky counts as background
    assert figures["words"][2]["share"] == pytest.approx(0.5, abs=0.03)
    heat = np.asarray(PIL.Image.open(tmp_path / "segments" / "same.jpg_heatmap_sky.png")).astype(int).sum(axis=2)
    assert heat[200, 700] > heat[200, 100] + 100

    white = PIL.Image.open(tmp_path / "segments" / "same.png_overlay.png").getpixel((800, 200))
    assert min(white) > 90  # the paper, tinted; not black
    assert len(list((tmp_path / "segments").iterdir())) == 3 * (3 + 3)


def test_words_of_one_file_name_keep_their_heat_maps(tmp_path, checkpoint):
    """Signs are no part of a file's name, and some disks do not tell "C" from "c"."""
    words = ("c#", "c+", "c__0", "sky", "Sky")
    checkpoint.texts |= {f"a photo of a {word}": checkpoint.texts["a photo of a sky"] for word in words}
    stripes(RED, BLUE).save(tmp_path / "x.png")
    flags = [f"--labels={','.join(words)}", "--heatmaps", f"--output={tmp_path}/segments"]
    segment.main(["--checkpoint=model", f"--image={tmp_path}/x.png", *flags])
    names = {path.name.casefold() for path in (tmp_path / "segments").glob("*_heatmap_*")}
    assert len(names) == len(words) and any("sky" in name for name in names)


def test_templates_are_averaged(tmp_path, checkpoint):
    stripes(RED, GREEN).save(tmp_path / "photo.png")
    (tmp_path / "templates.txt").write_text("a photo of {a} {c}\n\na drawing of {a} {c}\n")
    flags = ["--labels=rose,olive", f"--templates={tmp_path}/templates.txt", f"--output={tmp_path}/out"]
    segment.main(["--checkpoint=model", f"--image={tmp_path}/photo.png", *flags])
    assert {text for texts in checkpoint.encoded for text in texts} >= {"a photo of an olive", "a drawing of an olive"}
    assert shares(read(tmp_path / "out", "photo")[2])["rose"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("flags", [["--windows"], []])
def test_large_images_are_fed_by_windows(tmp_path, checkpoint, monkeypatch, flags):
    """Of the training size, also where the resolution would make too many patches at once."""
    monkeypatch.setattr("clippy_jax.analysis.embedder.MOST_PATCHES", 100)
    sizes = []
    encode = checkpoint.encode_image
    monkeypatch.setattr(checkpoint, "encode_image", lambda images: sizes.append(images.shape) or encode(images))
    stripes(*[RED, GREEN] * 4).save(tmp_path / "photo.png")
    flags = [*flags, "--labels=rose,olive", "--resolution=3", f"--output={tmp_path}/out"]
    segment.main(["--checkpoint=model", f"--image={tmp_path}/photo.png", *flags])
    assert {shape[1:3] for shape in sizes} == {(32, 32)}
    _, mask, figures = read(tmp_path / "out", "photo")
    assert (figures["fed_width"], figures["fed_height"]) == (160, 96)
    expected = np.repeat([0, 1] * 4, 20)
    assert (mask == expected).mean() > 0.95


def test_groups_need_no_words(tmp_path):
    stripes(RED, GREEN, GREEN, GREEN, width=96, height=32).save(tmp_path / "photo.png")
    flags = ["--checkpoint=model", f"--image={tmp_path}/photo.png", "--groups=8"]
    segment.main([*flags, f"--output={tmp_path}/out"])
    _, mask, figures = read(tmp_path / "out", "photo")
    assert shares(figures) == {"group 1": pytest.approx(0.75, abs=0.03), "group 2": pytest.approx(0.25, abs=0.03)}
    assert mask[10, 90] == 0 and mask[10, 5] == 1
    segment.main([*flags, f"--output={tmp_path}/groups.png"])
    assert PIL.Image.open(tmp_path / "groups.png").size[0] > 600


def test_shows_scenes_beside_their_ground_truth(tmp_path):
    trees.voc_tree(tmp_path / "voc", [(64, 64)] * 7)
    segment.main(["--checkpoint=model", f"--voc={tmp_path}/voc", "--count=3", f"--output={tmp_path}/segments.png"])
    width, height = PIL.Image.open(tmp_path / "segments.png").size
    assert width > 3 * 320 and height > 3 * 320


MANY = ",".join(map(str, range(500)))


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "add either --image=PATH (with --labels or --groups) or --voc=DIR"),
        (["--image=nowhere.jpg", "--labels=a,b"], "nowhere.jpg cannot be read as an image: it does not exist"),
        (["--image=TREE/vocabulary.json", "--labels=a,b"], "vocabulary.json cannot be read as an image"),
        (["--image=TREE", "--labels=a,b"], "holds no image (.jpg, .jpeg, "),
        (["--image=PHOTO", "--labels=a"], "--labels needs 2 to 255 words"),
        (["--image=PHOTO"], "--labels needs 2 to 255 words"),
        (["--image=PHOTO", "--labels= , ,"], "--labels needs 2 to 255 words"),
        (["--image=PHOTO", f"--labels={MANY}"], "not 500"),
        (["--image=PHOTO", "--labels=a,b,a"], "'a' is among the words more than once"),
        (["--image=PHOTO", "--labels=a,b", "--background=b"], "'b' is among the words more than once"),
        (["--image=PHOTO", "--labels=a,b", "--templates=nowhere"], "--templates=nowhere cannot be read as text"),
        (["--image=PHOTO", "--labels=a,b", "--templates=TREE/vocabulary.json"], "must hold a prompt a line"),
        (["--image=PHOTO", "--labels=a,b", "--resolution=0"], "--resolution=0 must be above 0"),
        (["--image=PHOTO", "--labels=a,b", "--heatmaps"], "--heatmaps makes many files"),
        (["--image=PHOTO", "--labels=a,b", "--groups=8"], "--groups is without words"),
        (["--image=PHOTO", "--groups=0"], "--groups=0 must be from 1 to 64"),
        (["--image=PHOTO", "--labels=a,b", "--output=nowhere/x.png"], "nowhere is not a folder that can be written to"),
        (["--image=PHOTO", "--labels=a,b", "--output=PHOTO/x"], "is not a folder that can be written to"),
        (["--image=PHOTO", "--labels=a,b", "--output=x.txt"], "x.txt must end in .png, .jpg or .webp, or be a folder"),
        (["--voc=TREE", "--count=3"], "--count=3: val of"),
        (["--voc=TREE", "--labels=a,b"], "--voc has words of its own"),
    ],
)
def test_wrong_commands_end_in_one_line(tmp_path, capsys, flags, message):
    trees.voc_tree(tmp_path / "voc", [(40, 40)] * 2)
    photo = str(tmp_path / "voc" / "JPEGImages" / "scene_000.jpg")
    flags = [flag.replace("TREE", str(tmp_path / "voc")).replace("PHOTO", photo) for flag in flags]
    with pytest.raises(SystemExit) as exit:
        segment.main(["--checkpoint=model", f"--output={tmp_path}/x.png", *flags])
    error = capsys.readouterr().err
    assert exit.value.code == 1 and error.count("\n") == 1 and error.startswith("error: ") and message in error
    assert not (tmp_path / "x.png").exists()
