"""Damaged weights: PyTorch's files, safetensors, folders of both, tokenizers and a run's checkpoints."""

import functools
import io
import json
import pathlib
import shutil
import zipfile

import jax
import numpy as np
import torch

from clippy_jax.config import CheckpointConfig
from clippy_jax.input_pipeline.tokenizer import TOKENIZER_FILES, load_tokenizer
from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from clippy_jax.training.state import init_params
from clippy_jax.weights.checkpoint import Checkpoint
from clippy_jax.weights.clippy_file import write_clippy, write_clippy_safetensors
from clippy_jax.weights.converted_folder import write_converted_folder
from clippy_jax.weights.inspection import inspect
from clippy_jax.weights.load import load_checkpoint
from clippy_jax.weights.safetensors_file import read_safetensors
from clippy_jax.weights.sentence_t5 import write_sentence_t5
from clippy_jax.weights.torch_file import read_torch_file
from tests.fuzz.damage import damaged, damaged_json
from tests.fuzz.faults import Target
from tests.models import configurations

_PICKLED = (
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"cnumpy\nzeros\n",
    b"(S'x'\n",
    b"tR",
    b"R",
    b"b",
    b"\x93",
    b"\x8c\xff",
)
_STEPS = (3, 5)


@functools.cache
def _model() -> Checkpoint:
    image = configurations.image_tower(width=16, depth=1, heads=2, mlp_width=16, patch_size=8, image_size=16)
    text = configurations.text_tower(
        vocabulary_size=40, width=16, depth=1, heads=2, head_width=8, mlp_width=16, embedding_width=16
    )
    model = configurations.model(image, text)
    params = jax.tree.map(np.asarray, init_params(model, 16, jax.random.key(0)))
    return Checkpoint(params, model, 16)


@functools.cache
def _file(folder: pathlib.Path, kind: str) -> bytes:
    """A whole CLIPpy in a file of a kind."""
    path = folder / f"whole.{kind}"
    if kind == "safetensors":
        write_clippy_safetensors(str(path), _model())
    else:
        write_clippy(str(path), _model())
    if kind == "legacy":
        torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


def _torch(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    """Either format of PyTorch's, most often with damage in the pickle, which says what is in the file."""
    content = _file(folder, ("pt", "legacy")[random.integers(2)])
    if not content.startswith(b"PK"):
        head = int(random.choice([300, 20_000]))
        return _damaged_pickle(content[:head], random) + content[head:]
    if random.random() < 0.3:
        return damaged(content, random)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for member in whole.namelist():
            part = whole.read(member)
            archive.writestr(member, _damaged_pickle(part, random) if member.endswith("data.pkl") else part)
    return out.getvalue()


def _damaged_pickle(content: bytes, random: np.random.Generator) -> bytes:
    place = random.integers(len(content))
    if random.random() < 0.5:
        return content[:place] + _PICKLED[random.integers(len(_PICKLED))] + content[place:]
    return damaged(content, random)


def _safetensors(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    content = _file(folder, "safetensors")
    length = int.from_bytes(content[:8], "little")
    if random.random() < 0.5:
        header = damaged_json(json.loads(content[8 : 8 + length]), random)
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return damaged(content[: 8 + length], random) + content[8 + length :]


def _written(content: bytes, folder: pathlib.Path) -> str:
    path = folder / "damaged.pt"
    path.write_bytes(content)
    return str(path)


def _read_whole(content: bytes, folder: pathlib.Path) -> None:
    path = _written(content, folder)
    inspect(path)
    load_checkpoint(path)


def _whole(random: np.random.Generator, folder: pathlib.Path) -> bytes:
    return (_torch, _safetensors)[random.integers(2)](random, folder)


@functools.cache
def _folder(folder: pathlib.Path, kind: str) -> pathlib.Path:
    root = folder / kind
    if kind == "converted":
        write_converted_folder(str(root), _model())
    else:
        write_sentence_t5(str(root), _model().params["text"], _model().config.text, str(_tokenizer(folder)))
    return root


def _file_in_folder(random: np.random.Generator, folder: pathlib.Path) -> tuple[str, str, bytes]:
    kind = ("converted", "sentence-t5")[random.integers(2)]
    root = _folder(folder, kind)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name not in TOKENIZER_FILES[:1])
    file = files[random.integers(len(files))]
    return kind, str(file.relative_to(root)), _damaged_file(file, random)


def _damaged_file(file: pathlib.Path, random: np.random.Generator) -> bytes:
    if file.suffix == ".json":
        return damaged_json(json.loads(file.read_text()), random)
    return damaged(file.read_bytes(), random)


def _read_folder(damage: tuple[str, str, bytes], folder: pathlib.Path) -> None:
    kind, name, content = damage
    path = _folder(folder, kind) / name
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        inspect(str(_folder(folder, kind)))
    finally:
        path.write_bytes(whole)


@functools.cache
def _tokenizer(folder: pathlib.Path) -> pathlib.Path:
    """A tokenizer's folder with a file of each kind."""
    import sentencepiece
    import transformers

    root = folder / "tokenizer"
    root.mkdir()
    words = "a photo of an apple zebra lemon grass water".split()
    with open(root / "spiece.model", "wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(words)] * 50),
            model_writer=model,
            vocab_size=40,
            hard_vocab_limit=False,
            **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2},
        )
    transformers.T5Tokenizer.from_pretrained(root).save_pretrained(root)
    (root / "sentence_bert_config.json").write_text('{"max_seq_length": 256, "do_lower_case": false}')
    return root


def _file_of_tokenizer(random: np.random.Generator, folder: pathlib.Path) -> tuple[str, bytes, bool]:
    """The file, its damaged content, and whether the other model file is taken away."""
    files = sorted(path for path in _tokenizer(folder).iterdir() if path.name in TOKENIZER_FILES)
    file = files[random.integers(len(files))]
    return file.name, _damaged_file(file, random), bool(random.integers(2))


def _read_tokenizer(damage: tuple[str, bytes, bool], folder: pathlib.Path) -> None:
    name, content, alone = damage
    root = folder / "damaged-tokenizer"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(_tokenizer(folder), root)
    if alone:
        (root / {"spiece.model": "tokenizer.json"}.get(name, "spiece.model")).unlink()
    (root / name).write_bytes(content)
    load_tokenizer(root).encode(["a photo of an apple", "", "\0"], 8)


@functools.cache
def _run(folder: pathlib.Path) -> pathlib.Path:
    """A workdir with two checkpoints."""
    never = CheckpointConfig(every_steps=0, every_minutes=0.0, keep=3, keep_every_steps=0)
    with Checkpointer(folder / "run", never, clock_every_steps=1) as checkpointer:
        for step in _STEPS:
            checkpointer.save(step, {"params": {"kernel": jax.random.normal(jax.random.key(step), (4, 64))}})
    return folder / "run"


def _file_of_checkpoint(random: np.random.Generator, folder: pathlib.Path) -> tuple[pathlib.Path, bytes | None]:
    """A file of the newest checkpoint with its damaged content; None where it is taken away."""
    root = _run(folder) / "checkpoints" / str(_STEPS[-1])
    files = sorted(path for path in root.rglob("*") if path.is_file())
    file = files[random.integers(len(files))]
    return file, None if random.random() < 0.1 else damaged(file.read_bytes(), random)


def _read_checkpoint(damage: tuple[pathlib.Path, bytes | None], folder: pathlib.Path) -> None:
    file, content = damage
    whole = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    try:
        (params,) = restore_arrays(_run(folder), ("params",))
        saved = [np.asarray(jax.random.normal(jax.random.key(step), (4, 64))) for step in _STEPS]
        assert any(np.array_equal(params["kernel"], kernel) for kernel in saved), "other values than were saved"
    finally:
        file.write_bytes(whole)


TARGETS = (
    Target("PyTorch file", _torch, lambda content, folder: read_torch_file(_written(content, folder))),
    Target("safetensors", _safetensors, lambda content, folder: read_safetensors(_written(content, folder))),
    Target("whole CLIPpy", _whole, _read_whole),
    Target("folder of weights", _file_in_folder, _read_folder),
    Target("tokenizer", _file_of_tokenizer, _read_tokenizer),
    Target("checkpoint", _file_of_checkpoint, _read_checkpoint),
)
