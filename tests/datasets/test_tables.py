import pytest

from clippy_jax.datasets.sample import BadSample
from clippy_jax.datasets.tables import TableSource
from clippy_jax.errors import InputError


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / "images" / f"{i}.jpg").write_bytes(b"image %d" % i)
    return tmp_path / "images"


def test_csv_with_quotes_relative_and_absolute_paths(tmp_path, images):
    table = tmp_path / "pairs.csv"
    table.write_text(f'\ufeffid,Caption,filepath\n7,"a dog, a ""cat""",images/0.jpg\n8,two,{images}/1.jpg\n', "utf-8")
    source = TableSource(table)
    assert [source[i] for i in range(len(source))] == [(b"image 0", 'a dog, a "cat"'), (b"image 1", "two")]
    assert source.left_out == {}


@pytest.mark.parametrize("image_column", ["filepath", "image", "path"])
@pytest.mark.parametrize("caption_column", ["caption", "title", "text"])
def test_tsv_with_every_name_of_a_column(tmp_path, images, image_column, caption_column):
    table = tmp_path / "pairs.tsv"
    table.write_text(f"{caption_column}\t{image_column}\none, two\timages/2.jpg\n")
    assert TableSource(table)[0] == (b"image 2", "one, two")


def test_incomplete_rows_are_left_out_by_cause(tmp_path, images):
    table = tmp_path / "pairs.csv"
    table.write_text("filepath,caption\nimages/0.jpg,good\nimages/1.jpg, \nimages/1.jpg\n,no image\n\n")
    source = TableSource(table)
    assert len(source) == 1 and source.left_out == {"captionless": 2, "imageless": 1}


def test_a_missing_image_is_a_bad_sample(tmp_path, images):
    table = tmp_path / "pairs.csv"
    table.write_text("filepath,caption\nimages/0.jpg,good\nimages/9.jpg,gone\n")
    with pytest.raises(BadSample, match="unreadable"):
        TableSource(table)[1]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "has no column 'filepath' or 'image' or 'path'; it has nothing"),
        ("file,caption\na.jpg,b\n", "has no column 'filepath' or 'image' or 'path'; it has 'file', 'caption'"),
        ("image,label\na.jpg,b\n", "has no column 'caption' or 'title' or 'text'"),
        ("image,caption\nnowhere/0.jpg,b\n", "names the image nowhere/0.jpg, which does not exist"),
        ("image,caption\na.jpg," + "b" * 200_000 + "\n", "line 2: field larger than field limit"),
    ],
)
def test_bad_tables_end_in_one_line(tmp_path, content, message):
    table = tmp_path / "pairs.csv"
    table.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        TableSource(table)
    assert "pairs.csv" in str(error.value) and "\n" not in str(error.value)
