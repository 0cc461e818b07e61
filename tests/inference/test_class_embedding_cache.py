import numpy as np
import pytest

from clippy_jax.inference.class_embedding_cache import ClassEmbeddingCache
from tests.evaluators.fake_model import FakeModel

PROMPTS = [["one", "two"], ["three"]]


@pytest.fixture
def model(tmp_path):
    model = FakeModel()
    model.class_embedding_cache = ClassEmbeddingCache(tmp_path / "made" / "when needed", ("digest", 1))
    return model


def test_what_was_embedded_once_is_read(model):
    embedded = model.class_embeddings(PROMPTS)
    np.testing.assert_array_equal(model.class_embeddings(PROMPTS), embedded)
    assert len(model.encoded) == 1
    assert [path.suffix for path in model.class_embedding_cache.folder.iterdir()] == [".npz"]


def test_other_prompts_and_other_parameters_are_embedded_anew(model):
    model.class_embeddings(PROMPTS)
    model.class_embeddings([["one"], ["two", "three"]])
    assert len(model.encoded) == 2
    model.class_embedding_cache = ClassEmbeddingCache(model.class_embedding_cache.folder, ("digest", 2))
    model.class_embeddings(PROMPTS)
    assert len(model.encoded) == 3


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:200], lambda data: data[:250] + b"????" + data[254:]],
    ids=["empty", "cut short", "four bytes wrong"],
)
def test_a_damaged_file_is_made_again(model, damage):
    embedded = model.class_embeddings(PROMPTS)
    (file,) = model.class_embedding_cache.folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    np.testing.assert_array_equal(model.class_embeddings(PROMPTS), embedded)
    assert len(model.encoded) == 2
    model.class_embeddings(PROMPTS)
    assert len(model.encoded) == 2


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    model = FakeModel()
    model.class_embedding_cache = ClassEmbeddingCache(tmp_path / "file" / "cache", ())
    assert model.class_embeddings(PROMPTS).shape[0] == 2
    assert "class embeddings are not kept" in capsys.readouterr().out
