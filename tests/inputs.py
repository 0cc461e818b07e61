"""Real parts to test on: photos, encoded in every way; tars as img2dataset writes them; a trained tokenizer; a run."""

import dataclasses
import io
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from clippy_jax.config import InputConfig


def make_photo(seed: int, width: int = 80, height: int = 60) -> Image.Image:
    """Smooth colour gradients with a little noise, different for every seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height), Image.BICUBIC)
    noisy = np.asarray(coarse).astype(float) + random.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def make_tar(path: pathlib.Path, members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> pathlib.Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def make_shard(path: pathlib.Path, first: int, samples: int) -> pathlib.Path:
    """A good shard; sample i has photo i and the caption "photo i"."""
    members = {}
    for i in range(first, first + samples):
        members[f"{i:09d}.jpg"] = encode(make_photo(i), quality=90)
        members[f"{i:09d}.json"] = b'{"status": "success"}'
        members[f"{i:09d}.txt"] = f"photo {i}".encode()
    return make_tar(path, members)


@pytest.fixture(scope="session")
def photo():
    return make_photo


@pytest.fixture(scope="session")
def encoded():
    return encode


@pytest.fixture(scope="session")
def write_tar():
    return make_tar


@pytest.fixture(scope="session")
def write_shard():
    return make_shard


@pytest.fixture(scope="session")
def spiece_folder(tmp_path_factory) -> pathlib.Path:
    """A folder with a `spiece.model` of T5's layout (pad 0, EOS 1, unknown 2, NFKC) that knows a few words."""
    import sentencepiece  # here and below: most tests need no tokenizer

    random = np.random.default_rng(0)
    words = "a photo of an apple zebra lemon grass water brick star dog cat over under near big small red blue".split()
    sentences = [" ".join(random.choice(words, random.integers(2, 12))) + f", {i}!" for i in range(1000)]
    folder = tmp_path_factory.mktemp("spiece")
    with open(folder / "spiece.model", "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=200,
            hard_vocab_limit=False,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    return folder


@pytest.fixture(scope="session")
def tokenizer_json_folder(spiece_folder, tmp_path_factory) -> pathlib.Path:
    """The same tokenizer as transformers saves it: a `tokenizer.json` and no `spiece.model`."""
    from transformers import T5Tokenizer

    folder = tmp_path_factory.mktemp("tokenizer_json")
    T5Tokenizer.from_pretrained(spiece_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def input_config(spiece_folder, tmp_path_factory):
    """Makes an InputConfig for the given data; any other field can be set."""
    base = InputConfig(
        train="",
        tokenizer=str(spiece_folder),
        batch_size=6,
        image_size=32,
        crop_scale=(0.9, 1.0),
        crop_ratio=(3 / 4, 4 / 3),
        flip=True,
        text_length=16,
        texts_per_pack=1,
        clean_captions=True,
        index_folder=str(tmp_path_factory.mktemp("indexes")),
        seed=0,
    )
    return lambda train, **fields: dataclasses.replace(base, train=str(train), **fields)


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> str:
    """The pattern of three uneven shards with 23 samples together."""
    folder = tmp_path_factory.mktemp("shards")
    for number, (first, samples) in enumerate(((0, 11), (11, 3), (14, 9))):
        make_shard(folder / f"{number:05d}.tar", first, samples)
    return f"{folder}/{{00000..00002}}.tar"


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> pathlib.Path:
    """A folder as `make demo` leaves it, small: the data set in `data/shapes`, a run of two steps in `runs/shapes`."""
    from clippy_jax.train import train_and_evaluate  # here: most tests train nothing
    from tests import small_run

    folder = tmp_path_factory.mktemp("demo")
    config = small_run.config(folder / "data" / "shapes", schedule__stop_step=2)
    train_and_evaluate(config, folder / "runs" / "shapes")
    return folder
