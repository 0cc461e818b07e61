import json

import pytest

from clippy_jax.datasets import waterbirds_tree
from clippy_jax.errors import InputError
from tests.evaluators import trees


@pytest.fixture
def tree(tmp_path):
    return trees.waterbirds_tree(tmp_path / "waterbirds", "010110", "001101", "012222")


def test_reads_the_photos_of_a_split(tree):
    read = waterbirds_tree.read(str(tree))
    assert (read.split, read.birds.tolist(), read.places.tolist()) == ("test", [0, 1, 1, 0], [1, 1, 0, 1])
    assert [path.name for path in read.paths] == [f"photo_000{index}.jpg" for index in range(2, 6)]
    assert waterbirds_tree.read(str(tree), "val").birds.tolist() == [1]
    words = read.vocabulary
    assert words.birds == ("landbird", "waterbird") and words.places == ("land", "water") and words.is_waterbirds


def test_reads_a_table_with_other_columns_and_line_ends(tree):
    table = (tree / "metadata.csv").read_text().splitlines()
    name = table[3].split(",")[1]
    (tree / "metadata.csv").write_bytes(f"split,place,y,img_filename\r\n2,0,1,{name}\r\n".encode())
    read = waterbirds_tree.read(str(tree))
    assert read.birds.tolist() == [1] and read.places.tolist() == [0] and read.paths[0].samefile(tree / name)


def test_a_tree_may_bring_its_own_words(tree):
    own = {"birds": ["hen", "owl"], "places": ["yard", "wood"], "background": "nothing", "templates": ["{a} {c}"]}
    (tree / "vocabulary.json").write_text(json.dumps(own))
    words = waterbirds_tree.read(str(tree)).vocabulary
    assert words.birds == ("hen", "owl") and words.background == "nothing" and not words.is_waterbirds


def refused(folder, split="test") -> str:
    with pytest.raises(InputError) as error:
        waterbirds_tree.read(str(folder), split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("column", ["img_filename", "y", "place", "split"])
def test_names_a_missing_column(tree, column):
    table = tree / "metadata.csv"
    table.write_text(table.read_text().replace(f",{column},", ",other,"))
    assert f"metadata.csv has no column '{column}'; its columns are img_id, " in refused(tree)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (".jpg,1,2,0,", ".jpg,7,2,0,", "metadata.csv, line 6: y is '7'; it must be 0 or 1"),
        (".jpg,1,2,0,", ".jpg,1,2,,", "metadata.csv, line 6: place is ''; it must be 0 or 1"),
        (".jpg,1,2,0,", ".jpg,1,test,0,", "metadata.csv, line 6: split is 'test'; it must be 0 or 1 or 2"),
        (',1,2,0,"/a/place,0.jpg"', "", "metadata.csv, line 6: y is ''; it must be 0 or 1"),
        ("photo_0004.jpg", "gone.jpg", "line 6: img_filename is '001.Species/gone.jpg', but "),
        ("001.Species/photo_0004.jpg", "", "line 6: img_filename is '', but "),
    ],
)
def test_names_a_wrong_row(tree, old, new, message):
    table = tree / "metadata.csv"
    assert table.read_text().count(old) == 1
    table.write_text(table.read_text().replace(old, new))
    assert message in refused(tree)


def test_other_wrong_trees_are_one_line(tree, tmp_path):
    assert "nowhere/metadata.csv does not exist; " in refused(tmp_path / "nowhere")
    assert "'testing' is no split of Waterbirds; the splits are train, val, test" in refused(tree, "testing")
    words = {"birds": ["hen", "owl"], "places": ["yard"], "background": "nothing", "templates": ["{a} {c}"]}
    (tree / "vocabulary.json").write_text(json.dumps(words))
    assert '"places" must be a list of two names' in refused(tree)
    (tree / "vocabulary.json").write_text(json.dumps(words | {"places": ["yard", "wood"], "templates": ["{a}"]}))
    assert '"templates" must be a list of prompts' in refused(tree)
    (tree / "vocabulary.json").unlink()
    table = (tree / "metadata.csv").read_text()
    (tree / "metadata.csv").write_text(table[: table.index("\n") + 1])
    assert "has no row of the split test (column 'split' 2)" in refused(tree)
    (tree / "metadata.csv").write_text("")
    assert "has no column 'img_filename'; its columns are missing" in refused(tree)
    (tree / "metadata.csv").write_bytes(b"img_filename,y,place,split\n\xff\xfe,0,0,2\n")
    assert "metadata.csv cannot be read as a table" in refused(tree)
