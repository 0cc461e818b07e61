"""Nothing is taken for something else in silence: it is used as it was meant, counted where it is left out, or refused.

Each row makes its input and runs the real program, reader or function on it; a new case is one line.
"""

import gzip
import json
import pathlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import clippy_jax.inference
from clippy_jax import convert, evaluate, segment
from clippy_jax.datasets.sources import open_source
from clippy_jax.errors import InputError
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tests.inputs import encode, make_photo, make_shard, make_tar
from tests.weights import public_files

PROGRAMS = {"evaluate": evaluate.main, "segment": segment.main, "convert": convert.main}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys, caplog) -> Callable[[Sequence[str]], tuple[int, str]]:
    """Runs a program in `tmp_path`, with a small model for every checkpoint: its exit status and all that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = FakeModel(8)
    model.params = {"matrix": model.matrix, "logit_scale": np.log(50.0)}
    model.tokenizer = SimpleNamespace(digest=lambda: "words")
    for place in (evaluate, clippy_jax.inference):
        monkeypatch.setattr(place, "load_model", lambda checkpoint, tokenizer: model)

    def run(command: Sequence[str]) -> tuple[int, str]:
        program, *arguments = command
        checkpoint = ["--checkpoint=model"] * (program != "convert") + ["--batch_size=8"] * (program == "evaluate")
        status = 0
        try:
            PROGRAMS[program]([*arguments, *checkpoint])
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return status, said.out + said.err + caplog.text

    return run


def classes(folder: pathlib.Path, change: Callable[[list[pathlib.Path]], Any]) -> list[str]:
    change(sorted(trees.image_folder(folder / "tree", 8).rglob("*.jpg")))
    return ["evaluate", "--imagenet=tree"]


def saved_as(format: str, ending: str) -> Callable[[list[pathlib.Path]], None]:
    """Saves every other image anew, with another ending."""

    def change(images: list[pathlib.Path]) -> None:
        for path in images[::2]:
            PIL.Image.open(path).save(path.with_suffix(ending), format)
            path.unlink()

    return change


def heic(images: list[pathlib.Path]) -> None:
    for path in images[::2]:
        path.rename(path.with_suffix(".heic")).write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))


def thousand_classes(folder: pathlib.Path) -> list[str]:
    for number in range(1, 1001):
        (folder / "tree" / str(number)).mkdir(parents=True)
    return ["evaluate", "--imagenet=tree"]


def scene_twice(folder: pathlib.Path) -> list[str]:
    names = trees.voc_tree(folder / "tree", [(40, 40)] * 3) / "ImageSets/Segmentation/val.txt"
    names.write_text(names.read_text() + "scene_001\n")
    return ["evaluate", "--voc=tree"]


def retrieval(folder: pathlib.Path, rows: str, name: str = "pairs.csv") -> list[str]:
    for number in range(2):
        make_photo(number).save(folder / f"{number}.jpg")
    (folder / name).write_text(rows)
    return ["evaluate", f"--retrieval={name}"]


def voc_into(folder: pathlib.Path, output: str) -> list[str]:
    trees.voc_tree(folder / "tree", [(40, 40)])
    return ["evaluate", "--voc=tree", f"--output={output}"]


def photos(folder: pathlib.Path, *flags: str) -> list[str]:
    (folder / "photos").mkdir()
    make_photo(0).save(folder / "photos" / "a.jpg")
    make_photo(1).save(folder / "photos" / "b.avif")
    (folder / "photos" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    return ["segment", "--labels=cat,dog", *flags]


def photo_named(name: str, folder: pathlib.Path) -> list[str]:
    command = photos(folder, "--image=photos/a.jpg", f"--image={name}", "--heatmaps", "--output=./")
    make_photo(2).save(folder / name)
    return command


def towers(folder: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> list[str]:
    tensors = public_files.dino()
    torch.save(change(tensors), folder / "dino.pth")
    return ["convert", "inspect", "dino.pth"]


# What makes the input and gives the command; the exit status; what is said.
COMMANDS = {
    "half of the images are TIFF": (lambda f: classes(f, saved_as("TIFF", ".tif")), 0, "tree: 8 images of tree"),
    "half of the images are AVIF": (lambda f: classes(f, saved_as("AVIF", ".AVIF")), 0, "tree: 8 images of tree"),
    "half of the images are JPEG by another name": (lambda f: classes(f, saved_as("JPEG", ".jfif")), 0, "8 images"),
    "half of the images are HEIC": (lambda f: classes(f, heic), 1, "4 of 8 images cannot be read, more than 1%"),
    "folders are numbered from 1": (thousand_classes, 1, "'1' is none of its classes"),
    "a list names a scene twice": (scene_twice, 1, "val.txt names scene_001 more than once"),
    "rows without a caption": (
        lambda f: retrieval(f, "image,caption\n0.jpg,a dog\n1.jpg,\n"),
        0,
        "1 images of all rows (left out: 1 captionless; the first: pairs.csv, row 3)",
    ),
    "several captions in a field": (
        lambda f: retrieval(f, "image;caption\n0.jpg;['a dog', 'a cat']\n1.jpg;a fish\n"),
        0,
        "prompts: 3 captions as they are",
    ),
    "a table as JSON": (
        lambda f: retrieval(f, '[{"image": "0.jpg", "caption": ["a dog", "a cat"]}]', "pairs.json"),
        0,
        "prompts: 2 captions as they are",
    ),
    "results go to a folder": (lambda f: voc_into(f, "tree"), 1, "--output=tree is a folder; give the name of a JSON"),
    "results go where nothing is": (lambda f: voc_into(f, "no/r.json"), 1, "no is not a folder that can be written to"),
    "a picture goes where the photo is": (
        lambda f: photos(f, "--image=photos/a.jpg", "--output=photos/../photos/a.jpg"),
        1,
        "is among the images, which would be lost",
    ),
    "files go among the photos": (lambda f: photos(f, "--image=photos", "--output=photos"), 1, "is among the images"),
    "a photo has the name of a mask": (
        lambda f: photo_named("a_mask.png", f),
        1,
        "a_mask.png is among the images, which would be lost",
    ),
    "a photo has the name of a heat map": (
        lambda f: photo_named("a_heatmap_cat.png", f),
        1,
        "a_heatmap_cat.png is among the images, which would be lost",
    ),
    "a folder of every kind of photo": (
        lambda f: photos(f, "--image=photos", "--output=files/"),
        0,
        "left out: photos/c.heic cannot be read as an image",
    ),
    "an address": (
        lambda f: photos(f, "--image=https://a.org/b.jpg", "--output=o.png"),
        1,
        "is an address, not a file",
    ),
    "words with semicolons": (
        lambda f: photos(f, "--image=photos/a.jpg", "--labels=a;b", "--output=o.png"),
        1,
        "not 1",
    ),
    "a flag with a dash": (lambda f: voc_into(f, "r.json") + ["--image-size=8"], 1, "did you mean --image_size?"),
    "an empty path of weights": (
        lambda f: ["convert", "inspect", ""],
        1,
        "is empty; give a path, or a name on the hub",
    ),
    "weights that hold NaN": (
        lambda f: towers(f, lambda tensors: tensors | {"norm.bias": tensors["norm.bias"] * np.nan}),
        0,
        "norm.bias",
    ),
    "weights beside their average": (
        lambda f: towers(f, lambda tensors: {"state_dict_ema": tensors, "state_dict": tensors}),
        0,
        "dino.pth holds 'state_dict' and 'state_dict_ema': 'state_dict' is taken",
    ),
    "weights that are a module": (lambda f: towers(f, lambda tensors: torch.nn.Linear(2, 2)), 1, "not a state dict"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_uses_counts_or_refuses(name, run, tmp_path):
    make, status, says = COMMANDS[name]
    ended, said = run(make(tmp_path))
    assert says in said and ended == status, said
    assert "Traceback" not in said


def test_what_was_there_is_left_where_a_command_is_refused(run, tmp_path):
    for make in (lambda f: voc_into(f, "tree"), lambda f: photos(f, "--image=photos", "--output=photos")):
        run(make(tmp_path))
    assert (tmp_path / "tree" / "JPEGImages" / "scene_000.jpg").exists()
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["a.jpg", "b.avif", "c.heic"]


def table(folder: pathlib.Path, content: str | bytes, name: str = "pairs.csv") -> pathlib.Path:
    for number in range(2):
        make_photo(number).save(folder / f"{number}.jpg")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def tar(folder: pathlib.Path, name: str = "0.tar", **members: str | bytes) -> pathlib.Path:
    """A tar of members by name, with "_" for the dots; text where it is text, else a photo."""
    made = {
        key.replace("_", "."): text.encode() if isinstance(text, str) else text or encode(make_photo(0))
        for key, text in members.items()
    }
    return make_tar(folder / name, made)


def listed(folder: pathlib.Path) -> pathlib.Path:
    for number in range(2):
        make_shard(folder / f"{number}.tar", number, 1)
    (folder / "tars.txt").write_text(f"0.tar\r\n{folder}/1.tar\r\n\r\n")
    return folder / "tars.txt"


def brackets(folder: pathlib.Path) -> str:
    (folder / "cc[12] m").mkdir()
    make_shard(folder / "cc[12] m" / "0.tar", 0, 2)
    return f"{folder}/cc[12] m/*.tar"


RECORDS = "".join(json.dumps({"Image": f"{i}.jpg", "text": caption}) + "\n" for i, caption in enumerate(("one", "two")))
ONE_TWO, PHOTOS = ["one", "two"], ["photo 0", "photo 1"]
ROWS = "image,caption\n0.jpg,one\n1.jpg,two\n"

# What makes the data and names it; the captions that are read ("" is counted as it is read); what is left out, why.
DATA = {
    "a quote that nobody closes": (lambda f: table(f, 'image,caption\n0.jpg,"one\n1.jpg,two\n'), ['"one', "two"], {}),
    "a gzipped table": (lambda f: table(f, gzip.compress(ROWS.encode()), "pairs.csv.gz"), ONE_TWO, {}),
    "a gzipped table without the ending": (lambda f: table(f, gzip.compress(ROWS.encode()), "pairs.tsv"), ONE_TWO, {}),
    "Windows-1252": (
        lambda f: table(f, "image,caption\n0.jpg,café\n1.jpg,a – b\n".encode("cp1252")),
        ["café", "a – b"],
        {},
    ),
    "UTF-8 and Windows-1252": (lambda f: table(f, b"image,caption\n0.jpg,\xe9\n1.jpg,\xc3\xa9\n"), ["é", "é"], {}),
    "bars between the columns": (lambda f: table(f, ROWS.replace(",", "|")), ONE_TWO, {}),
    "empty lines before the columns": (lambda f: table(f, "\r\n\n" + ROWS), ONE_TWO, {}),
    "addresses of files": (lambda f: table(f, ROWS.replace("0.jpg", f"file://{f}/0.jpg")), ONE_TWO, {}),
    "captions in a list": (lambda f: table(f, ROWS.replace("one", "\"['one', 'uno']\"")), ONE_TWO, {}),
    "captions that begin like a list": (lambda f: table(f, ROWS.replace("one", "[one] [1]")), ["[one] [1]", "two"], {}),
    "a JSON object a line": (lambda f: table(f, RECORDS, "metadata.jsonl"), ONE_TWO, {}),
    "a JSON object a line, one without a caption": (
        lambda f: table(f, RECORDS.replace('"one"', "null"), "metadata.jsonl"),
        ["two"],
        {"captionless": 1},
    ),
    "a list of JSON objects": (lambda f: table(f, f"[{RECORDS.strip().replace(chr(10), ',')}]", "x.json"), ONE_TWO, {}),
    "the same key twice": (lambda f: tar(f, a_jpg=b"", a_txt="one", b_jpg=b"", b_txt="two"), ONE_TWO, {}),
    "GIF, TIFF and AVIF in a tar": (
        lambda f: tar(f, a_gif=b"1", a_txt="one", b_TIF=b"2", b_txt="two", c_avif=b"3", c_txt="three"),
        ["one", "two", "three"],
        {},
    ),
    "captions in JSON alone": (
        lambda f: tar(
            f, a_jpg=b"", a_json='{"caption": "one"}', b_jpg=b"", b_json='{"url": "x", "text": ["two", "2"]}'
        ),
        ONE_TWO,
        {},
    ),
    "JSON without a caption": (
        lambda f: tar(f, a_jpg=b"", a_json='{"caption": null}', b_jpg=b"", b_txt="b"),
        ["", "b"],
        {},
    ),
    "JSON that is cut": (lambda f: tar(f, a_jpg=b"", a_json='{"caption": "on', b_jpg=b"", b_json="{}"), ["", ""], {}),
    "text before JSON": (lambda f: tar(f, a_jpg=b"", a_json='{"caption": "x"}', a_txt="one"), ["one"], {}),
    "a caption in braces": (lambda f: tar(f, a_jpg=b"", a_txt="{one}"), ["{one}"], {}),
    "a list of tars": (listed, PHOTOS, {}),
    "brackets in a folder's name": (brackets, PHOTOS, {}),
    "the address of a local tar": (lambda f: f"file://{make_shard(f / '0.tar', 0, 2)}", PHOTOS, {}),
}


@pytest.mark.parametrize("name", DATA)
def test_training_reads_all_or_counts(name, input_config, tmp_path):
    make, captions, left_out = DATA[name]
    source = open_source(input_config(make(tmp_path), index_folder=str(tmp_path / "index")))
    assert ([source[index].caption for index in range(len(source))], source.left_out) == (captions, left_out)


REFUSED = {
    "a command": (lambda f: "pipe:cat 0.tar", "'pipe:cat 0.tar' is a command, and none is run"),
    "a gzipped tar": (
        lambda f: table(f, gzip.compress(tar(f, a_jpg=b"").read_bytes()), "x.tar.gz"),
        "but a tar archive",
    ),
    "a gzipped tar by another name": (
        lambda f: table(f, gzip.compress(tar(f, a_jpg=b"").read_bytes()), "x.tar"),
        "no tar file but compressed with gzip: unpack it first",
    ),
    "Parquet": (lambda f: table(f, b"PAR1\x15\x04" + bytes(99), "x.parquet"), "is no table but a Parquet file"),
    "a spreadsheet": (lambda f: table(f, b"PK\3\4" + bytes(99), "x.xlsx"), "a zip archive or a spreadsheet"),
    "addresses in a table": (lambda f: table(f, "url\tcaption\nhttp://a/b.jpg\tone\n"), "fetch the images first"),
    "JSON of something else": (lambda f: table(f, '{"annotations": [\n', "x.json"), "x.json cannot be read"),
    "JSON with other names": (lambda f: table(f, '[{"photo": "a", "caption": "b"}]', "x.json"), "it has 'photo', 'cap"),
    "JSON without objects": (lambda f: table(f, '["a", "b"]', "x.json"), "row 1 .* is no JSON object"),
    "files beside folders": (lambda f: (table(f, ROWS), (f / "sub").mkdir(), f"{f}/*")[-1], "names the folder .*/sub"),
    "tars here and elsewhere": (
        lambda f: table(f, "0.tar\ns3://a/1.tar\n", "tars.txt"),
        "lists addresses and paths",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_training_refuses_what_it_does_not_read(name, input_config, tmp_path):
    make, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as error:
        open_source(input_config(make(tmp_path), index_folder=str(tmp_path / "index")))
    assert "\n" not in str(error.value)
