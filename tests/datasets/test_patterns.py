import pytest

from clippy_jax.datasets.patterns import expand_files
from clippy_jax.errors import InputError


def test_braces_name_files_in_order(tmp_path):
    for name in ("00008.tar", "00009.tar", "00010.tar", "b.tar"):
        (tmp_path / name).touch()
    assert [file.name for file in expand_files(f"{tmp_path}/{{00008..00010}}.tar")] == [
        "00008.tar",
        "00009.tar",
        "00010.tar",
    ]
    assert [file.name for file in expand_files(f"{tmp_path}/{{b,00009}}.tar")] == ["b.tar", "00009.tar"]


@pytest.mark.parametrize(
    "pattern",
    [
        "{folder}",
        "{folder}/",
        "{folder}/*.tar",
        "{folder}/[ab].tar",
        "{folder}/**.tar",
        "~",
        "~/?.tar",
    ],
)
def test_globs_and_folders_name_files_by_name_but_those_that_start_with_a_dot(tmp_path, monkeypatch, pattern):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("b.tar", "a.tar", "._a.tar", "a.tar.index.npz", "notes.txt"):
        (tmp_path / name).touch()
    assert expand_files(pattern.format(folder=tmp_path)) == [tmp_path / "a.tar", tmp_path / "b.tar"]


def test_a_file_with_brackets_in_its_name_is_that_file(tmp_path):
    (tmp_path / "pairs[1].csv").touch()
    assert expand_files(f"{tmp_path}/pairs[1].csv") == [tmp_path / "pairs[1].csv"]


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("{folder}/{{00003..00001}}.tar", r"the range \{00003..00001\} .* is empty"),
        ("{folder}/{{}}.tar", "hold no range"),
        ("{folder}/{{00000..}}.tar", "hold no range"),
        ("{folder}/{{00000..00003.tar", "hold no range"),
        ("{folder}/nowhere/{{00000..00001}}.tar", r"the folder .*/nowhere does not exist"),
        ("{folder}/{{00000..00003}}.tar", r"3 of the 4 files .* do not exist, the first is .*/00001.tar"),
        ("{folder}/empty", "empty names no file"),
        ("{folder}/*.csv", r"\*.csv names no file"),
        ("{folder}/{{0..999999999}}.tar", r"the range \{0..999999999\} .* names more than 1,000,000 files"),
        ("{folder}/{{0..999}}{{0..999}}{{0..999}}.tar", "names more than 1,000,000 files"),
        ("{folder}/" + "{{" * 9999 + "}}" * 9999, "hold no range"),
        ("{folder}/\0.tar", "is no path"),
        ("~no one/0.tar", "~no one does not exist"),
    ],
)
def test_bad_patterns_end_in_one_line(tmp_path, pattern, message):
    (tmp_path / "00000.tar").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message) as error:
        expand_files(pattern.format(folder=tmp_path))
    assert str(error.value).startswith("config.input.train") and "\n" not in str(error.value)
