"""A run's folder that an earlier version wrote loads, goes on and is exported."""

import json
import pathlib
import shutil

import absl.flags
import numpy as np
import pytest
from ml_collections import config_flags

import clippy_jax
from clippy_jax.config import parse
from clippy_jax.train import train_and_evaluate
from tests import programs, small_run

OLD = pathlib.Path(__file__).with_name("old_workdir")
TEXTS = ["a photo of an apple", "zebra on grass"]
FIELDS = dict(
    checkpoint__every_steps=6,
    checkpoint__keep=1,
    input__image_size=40,
    evals__image_size=40,
    model__image__width=16,
    model__image__mlp_width=32,
    model__image__depth=1,
    model__text__width=16,
    model__text__head_width=8,
    model__text__mlp_width=32,
    model__text__embedding_width=16,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("shapes") / "data"


@pytest.fixture(scope="module")
def flags(data) -> list[str]:
    return small_run.flags(data, **FIELDS, schedule__stop_step=9)


@pytest.fixture
def workdir(data, flags, tmp_path) -> pathlib.Path:
    shutil.copytree(OLD, tmp_path / "run")
    shutil.copytree(data / "tokenizer", tmp_path / "run" / "tokenizer")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def expected():
    return np.load(OLD / "expected.npz")


def assert_same_embeddings(model, expected):
    np.testing.assert_allclose(model.encode_image(expected["images"])[0], expected["patches"], atol=2e-6)
    np.testing.assert_allclose(model.encode_image(expected["images"])[1], expected["pooled"], atol=2e-6)
    np.testing.assert_allclose(model.encode_image(expected["wide"])[0], expected["wide_patches"], atol=2e-6)
    np.testing.assert_allclose(model.encode_text(TEXTS), expected["text"], atol=2e-6)


def test_it_loads_with_the_same_answers(workdir, expected):
    model = clippy_jax.load(str(workdir))
    assert_same_embeddings(model, expected)
    np.testing.assert_allclose(model.encode_image([expected["photo"]])[1], expected["photo_pooled"], atol=2e-6)
    labels = model.segment(expected["photo"], ["apple", "zebra", "grass"])
    assert (labels == expected["labels"]).mean() > 0.999


def test_it_goes_on_with_the_same_losses(workdir, flags, expected):
    """With those that the version which wrote it goes on with. But for dropout: its random numbers are others since."""
    saved = json.loads((workdir / "config.json").read_text())
    saved["model"]["text"]["dropout"] = 0.0
    (workdir / "config.json").write_text(json.dumps(saved))
    flags = [*flags, "--config.model.text.dropout=0.0"]
    values = absl.flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["main", *flags])
    values(["main", *flags])
    train_and_evaluate(parse(config.value), str(workdir))
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 10))
    np.testing.assert_allclose([line["loss"] for line in lines], expected["losses"], rtol=1e-5)


def test_it_is_exported(workdir, expected, tmp_path):
    tool = small_run.ROOT / "tools" / "convert_torch_weights.py"
    output = tmp_path / "exported.pt"
    done = programs.run([tool, "to-torch", f"--checkpoint={workdir}", f"--output={output}"])
    assert done.returncode == 0, done.stderr
    assert_same_embeddings(clippy_jax.load(str(output), tokenizer=str(workdir / "tokenizer")), expected)
