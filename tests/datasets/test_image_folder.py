import pytest

from clippy_jax.datasets import image_folder
from clippy_jax.errors import InputError
from tests.evaluators import trees

SYNSETS = [f"n{number:08d}" for number in range(1000)]
NUMBERS = [str(number) for number in range(1000)]


@pytest.mark.parametrize(
    "folders, outcome",
    [
        (SYNSETS, "ImageNet"),
        ([*SYNSETS, ".cache"], "ImageNet"),
        (NUMBERS, "ImageNet-v2"),
        ([*SYNSETS, "__MACOSX"], "holds 1001 class folders where ImageNet has 1000, and '__MACOSX' is none of its"),
        ([*NUMBERS, "extra"], "holds 1001 class folders where ImageNet has 1000, and 'extra' is none of its classes"),
        (SYNSETS[:-1], "holds 999 class folders where ImageNet has 1000; for other classes put a vocabulary.json"),
        ([str(number) for number in range(1, 1001)], "and '1' is none of its classes; for other classes put"),
        ([f"{number:04d}" for number in range(1000)], "and '0000' is none of its classes"),
        ([f"word {number}" for number in range(1000)], "and 'word 0' is none of its classes"),
        (["val"], "and 'val' is none of its classes"),  # one level too high
    ],
)
def test_only_imagenets_folders_are_imagenet(tmp_path, folders, outcome):
    for name in folders:
        (tmp_path / name).mkdir()
    (tmp_path / folders[0] / "a.jpg").touch()
    if outcome.startswith("ImageNet"):
        assert image_folder.read(str(tmp_path)).data_set == outcome
        return
    with pytest.raises(InputError, match=outcome):
        image_folder.read(str(tmp_path))


def test_names_that_start_with_a_dot_are_no_data_and_a_tilde_is_home(tmp_path, monkeypatch):
    for part in ("train", "val"):
        trees.image_folder(tmp_path / part, 6)
        (tmp_path / part / "class_a" / "._000.jpg").touch()
        (tmp_path / part / "._class_a").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    tree = image_folder.read_train_and_val("~")
    assert len(tree.train.paths) == len(tree.val.paths) == len(image_folder.read("~/val").names) == 6
