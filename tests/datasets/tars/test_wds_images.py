import io
import tarfile

import numpy as np
import PIL.Image
import pytest

from clippy_jax.datasets.tars import wds_images
from clippy_jax.errors import InputError
from clippy_jax.evaluators.wds import Wds
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tests.inputs import make_tar


def test_images_and_classes_are_those_of_tarfile(tmp_path):
    root = trees.wds(tmp_path / "wds_fruit", 7)
    images = wds_images.read(root)
    expected = []
    for number in range(2):
        with tarfile.open(root / f"test/{number}.tar") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for name, content in members.items():
            if not name.endswith(".cls"):
                label = int(members[f"{name.partition('.')[0]}.cls"])
                expected.append((f"test/{number}.tar: {name}", np.asarray(PIL.Image.open(io.BytesIO(content))), label))
    assert images.names == tuple(name for name, _, _ in expected) and len(expected) == 7
    for index, (_, pixels, label) in enumerate(expected):
        image, read = images.read(index)
        np.testing.assert_array_equal(np.asarray(image), pixels)
        assert read == label
    assert images.vocabulary.prompts()[1] == ["a photo of a Zebra.", "many Zebra."] and images.data_set == ""


def test_several_data_sets_stand_in_one_table_with_their_average(tmp_path, monkeypatch):
    trees.wds(tmp_path / "wds_a", 20)
    trees.wds(tmp_path / "wds_b", 11, seed=1)
    settings = dict(batch_size=8, image_size=32)
    result = Wds(str(tmp_path)).run(FakeModel(8), **settings)
    alone = {
        name: ZeroShotClassification(wds_images.read(tmp_path / name)).run(FakeModel(), **settings)
        for name in ("wds_a", "wds_b")
    }
    assert {name: part.top1 for name, part in result.parts.items()} == {name: of.top1 for name, of in alone.items()}
    assert result.images == 31 and result.figures()["average"] == np.mean([of.top1 for of in alone.values()])
    assert [line.split()[1] for line in result.report().splitlines()[-3:]] == ["wds_a", "wds_b", "average"]
    assert Wds(str(tmp_path / "wds_a")).run(FakeModel(8), **settings).images == 20
    monkeypatch.chdir(tmp_path / "wds_a")
    assert list(Wds(".").run(FakeModel(8), **settings).parts) == ["wds_a"]


def test_classes_of_one_name_are_counted_apart(tmp_path):
    """ImageNet has two of "missile" and two of "sunglasses"."""
    root = trees.wds(tmp_path / "wds_fruit", 20)
    (root / "classnames.txt").write_text("apple\nZebra\napple\n")
    result = ZeroShotClassification(wds_images.read(root)).run(FakeModel(8), batch_size=8, image_size=32)
    assert list(result.per_class_top1) == ["apple (0)", "Zebra", "apple (2)"]
    right = np.array(list(result.per_class_top1.values())) @ [7, 7, 6]
    assert right / 20 == pytest.approx(result.top1)


def _spoil_label(root):
    make_tar(root / "test/1.tar", {"s1.jpg": b"image", "s1.cls": b"3"})


def _spoil_tar(root):
    path = root / "test/0.tar"
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: (root / "classnames.txt").unlink(), "neither it nor a folder in it has a classnames.txt"),
        (lambda root: (root / "zeroshot_classification_templates.txt").write_text("a\n"), "has no {c} where"),
        (lambda root: (root / "zeroshot_classification_templates.txt").unlink(), "templates.txt cannot be read"),
        (lambda root: (root / "dataset_type.txt").write_text("multilabel"), "says 'multilabel'; only data sets of one"),
        (lambda root: (root / "test/nshards.txt").unlink(), "nshards.txt does not exist"),
        (lambda root: (root / "dataset_type.txt").write_bytes(b"\xff"), "dataset_type.txt cannot be read"),
        (
            lambda root: (root / "test/nshards.txt").write_text("\u00b2"),
            "holds '\u00b2'; it must be the number of tars",
        ),
        (
            lambda root: (root / "test/nshards.txt").write_text("1000000000"),
            "holds '1000000000'; it must be the number of tars",
        ),
        (lambda root: (root / "test/nshards.txt").write_text("many"), "holds 'many'; it must be the number of tars"),
        (lambda root: (root / "test/nshards.txt").write_text("3"), "2.tar does not exist; .* counts 3 tars"),
        (_spoil_label, "1.tar: s1.cls holds '3'; a class of classnames.txt is a number from 0 to 2"),
        (lambda root: make_tar(root / "test/1.tar", {"s1.jpg": b"image"}), "1.tar: sample s1 has no cls"),
        (lambda root: make_tar(root / "test/1.tar", {"s1.cls": b"0"}), "1.tar: sample s1 has no image"),
        (_spoil_tar, "0.tar is truncated; fetch it again"),
    ],
)
def test_what_is_not_complete_is_one_line(tmp_path, spoil, message):
    spoil(trees.wds(tmp_path / "wds_fruit", 7))
    with pytest.raises(InputError, match=message) as error:
        Wds(str(tmp_path))
    assert "\n" not in str(error.value)
