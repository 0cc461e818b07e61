import numpy as np
import PIL.Image
import pytest

import clippy_jax.inference
from clippy_jax import segment
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel


@pytest.fixture(autouse=True)
def checkpoint(monkeypatch):
    """A model that tells red from green."""
    model = FakeModel(8)
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)[:, None, None]
    _, vectors = model.encode_image(np.broadcast_to(colours, (2, 8, 8, 3)))
    model.texts = {"a photo of a rose": np.asarray(vectors[0]), "a photo of an olive": np.asarray(vectors[1])}
    monkeypatch.setattr(clippy_jax.inference, "load_model", lambda checkpoint, tokenizer: model)


def test_colours_each_half_of_a_photo(tmp_path):
    photo = np.zeros((100, 160, 3), np.uint8)
    photo[:, :80, 0] = photo[:, 80:, 1] = 255
    PIL.Image.fromarray(photo).save(tmp_path / "photo.png")
    flags = [f"--image={tmp_path}/photo.png", "--labels=rose, Olive", f"--output={tmp_path}/overlay.png"]
    segment.main(["--checkpoint=model", *flags])
    sheet = np.asarray(PIL.Image.open(tmp_path / "overlay.png")).astype(int)
    colours = {tuple(pixel) for pixel in sheet.reshape(-1, 3)}
    assert (255, 0, 0) in colours and (0, 255, 0) in colours  # the photo itself
    shown = sheet[sheet.shape[0] // 2, sheet.shape[1] // 2 :]
    left, right = shown[len(shown) // 4], shown[-len(shown) // 4]
    assert left[0] > left[2] + 60 and right[2] > right[0] + 60  # orange beside blue
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.png", "photo.png"]


def test_several_photos_make_rows(tmp_path):
    images = []
    for index, size in enumerate([(30, 20), (400, 1300), (64, 64), (1, 1), (17, 900)]):
        PIL.Image.new("RGB", size, (255, 0, 0)).save(tmp_path / f"{index}.jpg")
        images.append(f"--image={tmp_path}/{index}.jpg")
    segment.main(["--checkpoint=model", *images, "--labels=rose,olive", f"--output={tmp_path}/overlay.jpg"])
    width, height = PIL.Image.open(tmp_path / "overlay.jpg").size
    assert 300 < width < 2000 and 300 < height < 2000


def test_shows_scenes_beside_their_ground_truth(tmp_path):
    trees.voc_tree(tmp_path / "voc", [(64, 64)] * 7)
    segment.main(["--checkpoint=model", f"--voc={tmp_path}/voc", "--count=3", f"--output={tmp_path}/segments.png"])
    width, height = PIL.Image.open(tmp_path / "segments.png").size
    assert width > 3 * 320 and height > 3 * 320


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "add either --image=FILE (with --labels) or --voc=DIR"),
        (["--image=nowhere.jpg", "--labels=a,b"], "nowhere.jpg cannot be read as an image"),
        (["--image=PHOTO", "--labels=a"], "--labels needs 2 to 255 words"),
        (["--image=PHOTO"], "--labels needs 2 to 255 words"),
        (["--image=PHOTO", "--labels=a,b,a"], "--labels names 'a' more than once"),
        (["--image=PHOTO", "--labels=a,b", "--image_size=20"], "--image_size is 20, which patches of"),
        (["--image=PHOTO", "--labels=a,b", "--output=nowhere/x.png"], "nowhere is not a folder that can be written to"),
        (["--image=PHOTO", "--labels=a,b", "--output=x.txt"], "x.txt must end in .png, .jpg or .webp"),
        (["--voc=TREE", "--count=3"], "--count=3: val of"),
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
