import pytest

from clippy_jax.datasets.sample import BadSample, StorageAway
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


def read(tmp_path, content, name="pairs.csv", **columns):
    """The image number and the caption of every row that is kept, and the counts of the others."""
    table = tmp_path / name
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = TableSource(table, **columns)
    return [(path[-5], caption) for path, caption in zip(source.paths, source.captions)], source.left_out


GOOD = [("0", "one"), ("1", "two")]


@pytest.mark.parametrize(
    "name, content, columns",
    [
        ("pairs.csv", "filepath,title\nimages/0.jpg,one\nimages/1.jpg,two\n", {}),
        ("pairs.csv", "filepath\ttitle\nimages/0.jpg\tone\nimages/1.jpg\ttwo\n", {}),
        ("pairs.tsv", "image_path,caption\r\nimages/0.jpg,one\r\nimages/1.jpg,two\r\n", {}),
        ("pairs.txt", "file_name;text\nimages/0.jpg;one\nimages/1.jpg;two", {}),
        ("pairs", "id;file_name;text\n1;images/0.jpg;one\n2;images/1.jpg;two", {}),
        ("pairs.csv", "file,what\nimages/0.jpg,one\nimages/1.jpg,two\n", {"caption_column": "What"}),
        ("pairs.csv", "image,src,text\n7,images/0.jpg,one\n7,images/1.jpg,two\n", {"image_column": "src"}),
        ("pairs.tsv", "one\timages/0.jpg\ntwo\timages/1.jpg\n", {}),  # CC3M's order, and no header
        ("pairs.csv", "images/0.jpg,one\nimages/1.jpg,two\n", {}),
        ("pairs.csv", "\ufefffilepath,title\nimages/0.jpg,one\nimages/1.jpg,two\n", {}),
        ("pairs.csv", "filepath,title\nimages/0.jpg,one\nimages/1.jpg,two\n".encode("utf-16"), {}),
        ("pairs.csv", '"filepath","title"\n"images/0.jpg","one"\n"images/1.jpg","two"\n', {}),
        ("pairs.tsv", '"filepath"\t"title"\n"images/0.jpg"\t"one"\n"images/1.jpg"\t"two"\n', {}),
        ("pairs.tsv", "filepath\ttitle\t\nimages/0.jpg\tone\t\t\nimages/1.jpg\ttwo\t\n", {}),
    ],
)
def test_tables_as_people_keep_them(tmp_path, images, name, content, columns):
    assert read(tmp_path, content, name, **columns) == (GOOD, {})


HEAD = {"csv": "filepath,title\n", "tsv": "filepath\ttitle\n"}


@pytest.mark.parametrize(
    "ending, rows, kept, left_out",
    [
        ("tsv", '0.jpg\t"one\n1.jpg\ttwo\n', [("0", '"one'), ("1", "two")], {}),
        ("tsv", '0.jpg\t"one\n1.jpg\ttwo"\n', [("0", '"one'), ("1", 'two"')], {}),
        ("tsv", '0.jpg\t6" pipe\n1.jpg\t"a ""b"""\n', [("0", '6" pipe'), ("1", 'a "b"')], {}),
        ("csv", '0.jpg,"one\n1.jpg,two\n', [("0", '"one'), ("1", "two")], {}),
        ("csv", '0.jpg,"one\n1.jpg,"two"\n', [("0", '"one'), ("1", "two")], {}),
        ("csv", '0.jpg,"one, and\n1.jpg,two\n', [("1", "two")], {"of too many columns": 1}),
        ("csv", '0.jpg,"one\nmore"\n1.jpg,two\n', [("0", "one\nmore"), ("1", "two")], {}),
        ("csv", '0.jpg,"one' + "\n1.jpg,two" * 150, [("0", '"one')] + [("1", "two")] * 150, {}),
        ("csv", "0.jpg,one, two\n1.jpg,two\n", [("1", "two")], {"of too many columns": 1}),
        ("csv", "0.jpg\n1.jpg, \n,three\n\n,\n0.jpg,one\n", [("0", "one")], {"captionless": 2, "imageless": 1}),
        ("csv", "0.jpg," + "b" * 140_000 + "\n1.jpg,two\n", [("0", "b" * 140_000), ("1", "two")], {}),
        ("csv", "0.jpg,o\0ne\n1.jpg,two\n", [("0", "o\0ne"), ("1", "two")], {}),
        ("csv", b"0.jpg,caf\xe9\n1.jpg,two\n", [("0", "café"), ("1", "two")], {}),
    ],
)
def test_no_row_is_lost_without_a_count(tmp_path, ending, rows, kept, left_out):
    (tmp_path / "0.jpg").touch()
    (tmp_path / "1.jpg").touch()
    content = HEAD[ending].encode() + (rows if isinstance(rows, bytes) else rows.encode())
    assert read(tmp_path, content, f"pairs.{ending}") == (kept, left_out)


def test_a_missing_image_is_a_bad_sample(tmp_path, images):
    table = tmp_path / "pairs.csv"
    table.write_text(
        "filepath,caption\nimages/9.jpg,gone\nimages/0.jpg,good\nimages,folder\nimages/\0.jpg,no\n~\0,no\n"
    )
    source = TableSource(table)
    assert source[1] == (b"image 0", "good")
    for index in (0, 2, 3, 4):
        with pytest.raises(BadSample, match="missing"):
            source[index]


def test_images_are_waited_for_while_the_storage_is_away(tmp_path, images, monkeypatch):
    table = tmp_path / "data" / "pairs.csv"
    table.parent.mkdir()
    table.write_text(f"filepath,caption\n{images}/0.jpg,good\n~/images/1.jpg,home\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    source = TableSource(table)
    assert source[1] == (b"image 1", "home")
    for folder in (images, table.parent):
        folder.rename(tmp_path / "unmounted" if folder == images else tmp_path / "gone")
    with pytest.raises(StorageAway):
        source[0]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "has no column 'filepath' or 'image' or 'path'; it has nothing"),
        (
            "picture,caption\na.jpg,b\n",
            "has no column 'filepath' or 'image' or 'path'; it has 'picture', 'caption'; .* set input.image_column",
        ),
        ("image,label\na.jpg,b\n", "has no column 'caption' or 'title' or 'text'; .* set input.caption_column"),
        ("a dog\thttps://example.org/a.jpg\n", "has no column 'filepath' or 'image' or 'path'; it has 'a dog', 'https"),
        ("image,caption\nnowhere/0.jpg,b\n", "names the image nowhere/0.jpg, which does not exist; paths must"),
        ("image,caption\nn/0.jpg,b\nn/1.jpg,b", "names the image n/0.jpg, which .* nor do those of its first 2 rows"),
        ("PK\3\4\0\0" * 9, "is no table but a zip archive or a spreadsheet: .*; name .tar shards or a table of text"),
    ],
)
def test_bad_tables_end_in_one_line(tmp_path, content, message):
    table = tmp_path / "pairs.csv"
    table.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        TableSource(table)
    assert "pairs.csv" in str(error.value) and "\n" not in str(error.value)
