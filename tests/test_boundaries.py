"""Whatever a library raises about a file or flag of the user's, one line names it, or the sample is counted.

Each row names a library's function, what calls it on something of the user's, and what must be named. In its place
stands one that raises, in turn, what libraries are known to raise. A new boundary is one row.
"""

# ruff: noqa: F401, F811 (fixtures are imported and then named as arguments)

import dataclasses
import json
import pathlib
import shutil
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import fsspec
import huggingface_hub
import numpy as np
import PIL.Image
import pytest

import clippy_jax
from clippy_jax import compare, main
from clippy_jax.datasets import (
    image_file,
    image_folder,
    label_layouts,
    masks,
    retrieval_pairs,
    segmentation_tree,
    vocabulary,
    waterbirds_tree,
)
from clippy_jax.datasets.sample import BadSample, StorageAway
from clippy_jax.datasets.sources import open_source
from clippy_jax.datasets.tfds.split import TFDSSplit
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.evaluators.protocols import records
from clippy_jax.export import onnxruntime_web, web
from clippy_jax.inference.image import open_image
from clippy_jax.input_pipeline import captions, images
from clippy_jax.input_pipeline.pipeline import TrainingInput
from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.towers import read_weights
from tests.evaluators import trees
from tests.weights.conftest import clippy_file, dino_file, text_folder, weights_folder

RAISED = (
    RuntimeError("the decoder\nsays two lines"),
    struct.error("unpack requires a buffer of 4 bytes"),
    zipfile.BadZipFile("File is not a zip file"),
    KeyError("name"),
    PIL.Image.DecompressionBombError("Image size exceeds limit"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    OSError(5, "Input/output error"),
    AssertionError(),
)


@dataclasses.dataclass(frozen=True)
class Place:
    """Files of every kind, all sound."""

    folder: pathlib.Path
    clippy: str
    text: str
    config: Callable[..., Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory, clippy_file, text_folder, input_config, write_shard, photo) -> Place:
    folder = tmp_path_factory.mktemp("sound")
    write_shard(folder / "0.tar", 0, 3)
    for name in ("a.jpg", "a.png"):
        photo(0).save(folder / name)
    PIL.Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "mask.png")
    (folder / "pairs.csv").write_text('image,caption\na.jpg,"a, photo"\n')
    (folder / "birds").mkdir()
    (folder / "birds" / "metadata.csv").write_text("img_filename,y,place,split\na.jpg,0,0,2\n")
    shutil.copy(folder / "a.jpg", folder / "birds")
    (folder / "classes" / "x").mkdir(parents=True)
    (folder / "classes" / "vocabulary.json").write_text('{"classes": {"x": "x"}, "templates": ["{c}"]}')
    shutil.copy(folder / "a.jpg", folder / "classes" / "x")
    sentences = [{"raw": "a photo"}]
    (folder / "karpathy.json").write_text(
        json.dumps({"images": [{"filename": "a.jpg", "split": "test", "sentences": sentences}]})
    )
    (folder / "results_20130124.token").write_text("a.jpg#0\ta photo\n")
    (folder / "own.json").write_text('{"based_on": "standard"}')
    (folder / "words.txt").write_text("cat\ndog\n")
    (folder / "results.json").write_text('{"voc": {"counts": {"figure": ["right", "all"]}, "figure": 1}}')
    np.savez(
        folder / "results.counts.npz", **{"voc/names": np.array(["a"]), "voc/right": np.ones(1), "voc/all": np.ones(1)}
    )
    for name in ("package.tgz", "config.py"):
        (folder / name).write_bytes(b"def get_config():\n    raise ValueError('two\\nlines')\n")
    trees.voc_tree(folder / "voc", [(20, 30)])
    records.names()  # the packaged ones are read once
    shutil.copytree(pathlib.Path(__file__).parent / "run" / "old_workdir", folder / "run")
    return Place(folder, clippy_file, text_folder, input_config)


def sample(place: Place) -> Any:
    return open_source(place.config(place.folder / "pairs.csv"))[0]


# The library's function; what is done; what is raised (None: nothing, the library can be done without); what is named.
BOUNDARIES = {
    "safetensors": ("safetensors.safe_open", lambda p: read_safetensors(p), InputError, "x.safetensors"),
    "PyTorch's file": ("torch.load", lambda p: load_checkpoint(p.clippy), InputError, "clippy_5k.pt"),
    "a module of Sentence-T5": ("json.load", lambda p: read_weights(p.text), InputError, "modules.json"),
    "a checkpoint": (
        "orbax.checkpoint.PyTreeCheckpointHandler.restore",
        lambda p: load_checkpoint(str(p.folder / "run")),
        InputError,
        "run/checkpoints",
    ),
    "a run's configuration": (
        "json.loads",
        lambda p: load_checkpoint(str(p.folder / "run")),
        InputError,
        "config.json",
    ),
    "a name on the hub": ("huggingface_hub.HfApi.model_info", lambda p: read_weights("a/b"), InputError, "a/b"),
    "a file on the hub": (
        "huggingface_hub.hf_hub_download",
        lambda p: read_weights("hf-hub:a/b/c"),
        InputError,
        "a/b/c",
    ),
    "a tokenizer": (
        "transformers.T5Tokenizer.from_pretrained",
        lambda p: load_tokenizer(p.text),
        InputError,
        "spiece.model",
    ),
    "a tokenizer's settings": ("json.loads", lambda p: longest(p), InputError, "sentence_bert_config.json"),
    "braces": ("clippy_jax.datasets.patterns.braceexpand", lambda p: sample(p), None, ""),
    "a tar's headers": (
        "tarfile.TarInfo.frombuf",
        lambda p: open_source(p.config(p.folder / "0.tar", index_folder=str(p.folder / "none"))),
        InputError,
        "0.tar",
    ),
    "a kept index": ("numpy.load", lambda p: open_source(p.config(p.folder / "0.tar")), None, ""),
    "a table": ("csv.reader", lambda p: open_source(p.config(p.folder / "pairs.csv")), InputError, "pairs.csv"),
    "TFDS": ("tensorflow_datasets.builder", lambda p: TFDSSplit("tfds:voc", "train"), InputError, "tfds:voc"),
    "an address": (
        "fsspec.core.url_to_fs",
        lambda p: open_source(p.config("memory://0.tar")),
        InputError,
        "memory://0.tar",
    ),
    "a remote file": ("fsspec.implementations.memory.MemoryFileSystem.info", lambda p: remote(p), InputError, "0.tar"),
    "a remote folder": ("fsspec.spec.AbstractFileSystem.glob", lambda p: remote(p, "/*.tar"), InputError, "*.tar"),
    "a remote shard": ("fsspec.spec.AbstractFileSystem.cat_ranges", lambda p: remote(p), InputError, "0.tar"),
    "an image in training": (
        "PIL.Image.open",
        lambda p: images.decode((p.folder / "a.png").read_bytes()),
        BadSample,
        "",
    ),
    "a JPEG's shortcut": ("simplejpeg.decode_jpeg", lambda p: images.decode(sample(p).image), None, ""),
    "a JPEG's header": ("simplejpeg.decode_jpeg_header", lambda p: images.decode(sample(p).image), None, ""),
    "a caption": ("ftfy.fix_text", lambda p: captions.clean("café"), BadSample, ""),
    "an image in evaluation": (
        "PIL.Image.open",
        lambda p: image_folder.read(str(p.folder / "classes")).read(0),
        OSError,
        "",  # the evaluation names it where it counts it
    ),
    "an image to use": ("PIL.Image.open", lambda p: open_image(p.folder / "a.jpg"), InputError, "a.jpg"),
    "an image's orientation": ("PIL.ImageOps.exif_transpose", lambda p: open_image(p.folder / "a.jpg"), None, ""),
    "a mask": (
        "PIL.Image.open",
        lambda p: masks.open_mask(p.folder / "mask.png", masks.VALUES),
        InputError,
        "mask.png",
    ),
    "a mask's pixels": ("PIL.ImageFile.ImageFile.load", lambda p: voc(p).labels(0), InputError, "scene_000.png"),
    "a list of a split": ("pathlib.Path.read_text", lambda p: voc(p), InputError, "/voc/"),
    "a vocabulary": (
        "json.loads",
        lambda p: vocabulary.classification_vocabulary(p.folder / "classes"),
        InputError,
        "vocabulary.json",
    ),
    "Waterbirds": (
        "csv.DictReader",
        lambda p: waterbirds_tree.read(str(p.folder / "birds")),
        InputError,
        "metadata.csv",
    ),
    "a Karpathy split": (
        "json.JSONDecoder.raw_decode",
        lambda p: retrieval_pairs.read(str(p.folder / "karpathy.json")),
        InputError,
        "karpathy",
    ),
    "Flickr30k": ("pathlib.Path.read_text", lambda p: retrieval_pairs.read(str(p.folder)), InputError, ".token"),
    "a protocol": ("json.loads", lambda p: protocol(p), InputError, "own.json"),
    "counts": (
        "numpy.load",
        lambda p: compare.compared(*2 * [p.folder / "results.json"]),
        InputError,
        "results.counts.npz",
    ),
    "results": ("json.loads", lambda p: compare.compared(*2 * [p.folder / "results.json"]), InputError, "results.json"),
    "words": ("pathlib.Path.read_text", lambda p: web.read_words(str(p.folder / "words.txt")), InputError, "words.txt"),
    "a runtime": (
        "tarfile.open",
        lambda p: onnxruntime_web.read_runtime(str(p.folder / "package.tgz")),
        InputError,
        ".tgz",
    ),
    "a configuration file": ("importlib.util.spec_from_loader", lambda p: configuration(p), InputError, "--config"),
}


def read_safetensors(place: Place) -> Any:
    path = place.folder / "x.safetensors"
    path.write_bytes(b"\2\0\0\0\0\0\0\0{}")
    return read_weights(str(path))


def longest(place: Place) -> Any:
    from clippy_jax.input_pipeline import tokenizer

    return tokenizer._longest_text(pathlib.Path(place.text))


def remote(place: Place, what: str = "/0.tar") -> Any:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pipe_file("/shards/0.tar", (place.folder / "0.tar").read_bytes())
    return open_source(place.config(f"memory://shards{what}", index_folder=str(place.folder / "remote")))


def voc(place: Place) -> Any:
    return segmentation_tree.read(str(place.folder / "voc"), label_layouts.VOC)


def protocol(place: Place) -> Any:
    return records.read(str(place.folder / "own.json"), label_layouts.VOC)


def configuration(place: Place) -> Any:
    return main._check_overrides(["main", f"--config={place.folder}/config.py"])


@pytest.mark.parametrize("name", BOUNDARIES)
def test_whatever_is_raised_is_one_line_or_counted(name, place, monkeypatch):
    target, call, outcome, named = BOUNDARIES[name]
    monkeypatch.setattr("clippy_jax.datasets.remote_files._SECONDS_TO_FIND", 0.01)
    monkeypatch.setattr("clippy_jax.datasets.remote_files._SECONDS_TO_INDEX", 0.01)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", raises(huggingface_hub.errors.LocalEntryNotFoundError(""))
    )
    for error in RAISED:
        with monkeypatch.context() as patch:
            patch.setattr(target, raises(error))
            if outcome is None:
                call(place)
                continue
            with pytest.raises(outcome) as caught:
                call(place)
        message = str(caught.value)
        assert named in message and "\n" not in message, (name, error)
        assert len(message) < 600, message


def raises(error: Exception) -> Callable[..., Any]:
    """A function that raises whatever it is given."""

    def function(*_: Any, **__: Any) -> Any:
        raise error

    return function


def test_an_interruption_passes(place, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("torch.load", raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            load_checkpoint(place.clippy)


@pytest.mark.parametrize(
    "error, says",
    [
        (InputError("photo.jpg is no image"), "error: photo.jpg is no image\n"),
        (MemoryError(), "error: out of memory (not enough memory); use a smaller batch or smaller images\n"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
            "error: out of memory (RESOURCE_EXHAUSTED",
        ),
        (OSError(28, "No space left on device", "/data/x"), "error: /data/x: No space left on device\n"),
    ],
)
def test_a_program_ends_in_one_line(capsys, error, says):
    with pytest.raises(SystemExit) as end:
        exit_with_one_line(raises(error))()
    told = capsys.readouterr().err
    assert end.value.code == 1 and told.startswith(says) and told.count("\n") == 1


@pytest.mark.parametrize("error", [KeyError("ours"), ValueError("ours"), OSError("ours")])
def test_a_bug_of_ours_says_that_it_is(error):
    with pytest.raises(type(error)) as caught:
        exit_with_one_line(exit_with_one_line(raises(error)))()
    (note,) = caught.value.__notes__
    assert note.startswith("This is a bug of clippy_jax") and "please report" in note and "jax" in note
