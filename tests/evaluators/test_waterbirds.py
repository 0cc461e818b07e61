import csv

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics

from clippy_jax.errors import InputError
from clippy_jax.evaluators.waterbirds import Waterbirds
from clippy_jax.input_pipeline.evaluation_image import centre_crop
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel, drawn

NAMES = ("landbird", "waterbird", "background")
SETTINGS = dict(batch_size=8, image_size=32, progress=False)


@pytest.fixture
def tree(tmp_path):
    random = np.random.default_rng(4)
    birds, places = ("".join(map(str, random.integers(0, 2, 61))) for _ in range(2))
    return trees.waterbirds_tree(tmp_path / "waterbirds", birds, places, "012" * 5 + "2" * 46)


def photos(tree, size=32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bird, place and image embedding of the test photos, one by one."""
    rows = [row for row in csv.DictReader(open(tree / "metadata.csv")) if row["split"] == "2"]
    pixels = np.stack([centre_crop(PIL.Image.open(tree / row["img_filename"]), size) for row in rows])
    birds, places = (np.array([int(row[column]) for row in rows]) for column in ("y", "place"))
    return birds, places, np.asarray(FakeModel().encode_image(pixels)[1])


def undecided_model(tree, devices=1) -> FakeModel:
    """Each name's prompt looks like one of the photos, so every name is some photos' answer."""
    vectors = photos(tree)[2][[5, 9, 2]]
    return FakeModel(devices, {f"a photo of a {name}": vector for name, vector in zip(NAMES, vectors, strict=True)})


def answers(tree, names, size=32) -> np.ndarray:
    texts = undecided_model(tree).encode_text([f"a photo of a {name}" for name in names])
    return (photos(tree, size)[2] @ texts.T).argmax(1)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("choices", ["two-way", "three-way"])
def test_equals_scikit_learn_by_bird_and_place(tree, devices, choices):
    result = Waterbirds(str(tree), choices=choices).run(undecided_model(tree, devices), **SETTINGS)
    names = NAMES[: 2 if choices == "two-way" else 3]
    (birds, places, _), predicted = photos(tree), answers(tree, names)
    assert result.images == 51 and set(predicted) == set(range(len(names)))
    assert result.average == sklearn.metrics.accuracy_score(birds, predicted)
    expected = {}
    for cell in result.cells:
        bird, place = NAMES.index(cell.bird), ("land", "water").index(cell.place)
        chosen = (birds == bird) & (places == place)
        expected[bird, place] = sklearn.metrics.accuracy_score(birds[chosen], predicted[chosen])
        assert cell.accuracy == expected[bird, place] and cell.images == chosen.sum()
        assert cell.own_place == (bird == place)
    assert len(expected) == 4 and result.worst_group == min(expected.values())
    assert result.domain_gap["landbird"] == expected[0, 0] - expected[0, 1]
    assert result.domain_gap["waterbird"] == expected[1, 1] - expected[1, 0]
    assert result.figures().keys() == {"average", "worst_group", "gap_landbird", "gap_waterbird"}


def test_any_resolution(tree):
    result = Waterbirds(str(tree)).run(undecided_model(tree), **SETTINGS | dict(image_size=56))
    assert result.average == (photos(tree)[0] == answers(tree, NAMES, size=56)).mean() and result.resolution.startswith(
        "56x56"
    )
    with pytest.raises(InputError, match="image_size is 30, which patches of 8"):
        Waterbirds(str(tree)).run(FakeModel(), **SETTINGS | dict(image_size=30))


def test_a_cell_without_photos_has_no_accuracy(tmp_path):
    tree = trees.waterbirds_tree(tmp_path, "000111", "000110", "222222")
    result = Waterbirds(str(tree)).run(FakeModel(), **SETTINGS)
    assert [cell.images for cell in result.cells] == [3, 0, 2, 1]
    assert result.cells[1].accuracy is None and result.domain_gap["landbird"] is None
    assert result.figures().keys() == {"average", "worst_group", "gap_waterbird"}
    assert "landbird" in result.report()


def test_a_model_that_cannot_tell_is_never_right(tree):
    model = FakeModel()
    model.texts = {f"a photo of a {name}": drawn("the same") for name in NAMES}
    assert Waterbirds(str(tree)).run(model, **SETTINGS).average == 0
    model.matrix = np.full_like(model.matrix, np.nan)
    assert Waterbirds(str(tree)).run(model, **SETTINGS).average == 0


def test_unreadable_photos_stop(tree):
    (tree / "002.Species/photo_0020.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 51 images cannot be read, more than 1%; the first is .*photo_0020.jpg"):
        Waterbirds(str(tree)).run(FakeModel(8), **SETTINGS)


def test_the_table_stands_beside_the_published_numbers(tree):
    at_448 = SETTINGS | dict(image_size=448)
    result = Waterbirds(str(tree)).run(undecided_model(tree), **at_448)
    table = result.report()
    own, other = result.cells[2:]
    row = next(line for line in table.splitlines() if line.startswith("| waterbird "))
    shown = [float(cell.split("[")[0]) for cell in row.split("|")[2:-1]]
    expected = [100 * own.accuracy, 100 * other.accuracy, 100 * (own.accuracy - other.accuracy)]
    np.testing.assert_allclose(shown, expected, atol=0.051)
    assert "paper, waterbird" in table and "32.1" in table
    for options, settings in (({"split": "val"}, at_448), ({"choices": "two-way"}, at_448), ({}, SETTINGS)):
        assert "paper" not in Waterbirds(str(tree), **options).run(FakeModel(), **settings).report()
