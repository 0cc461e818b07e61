import importlib.util
import types

import numpy as np
import PIL.Image

from clippy_jax.demo.examples import write_examples
from clippy_jax.demo.words import parse_words


def test_scenes_are_rendered_with_the_words_that_they_show(tmp_path):
    examples = write_examples(tmp_path, photographs=False)
    assert len(examples) == 6
    for example in examples:
        assert PIL.Image.open(example.path).size == (480, 480)
        assert len(parse_words(example.words)) >= 3
    assert "zebra, tiger, grass" in [example.words for example in examples]


def test_photographs_come_first_where_scikit_image_is_installed(tmp_path, monkeypatch):
    (tmp_path / "skimage" / "data").mkdir(parents=True)
    PIL.Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "skimage/data/coffee.png")
    spec = types.SimpleNamespace(origin=str(tmp_path / "skimage" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    (tmp_path / "examples").mkdir()
    first = write_examples(tmp_path / "examples", photographs=True)[0]
    assert first.words.startswith("cup of coffee") and first.path == str(tmp_path / "examples" / "coffee.png")


def test_without_scikit_image_there_are_the_scenes(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert len(write_examples(tmp_path, photographs=True)) == 6
