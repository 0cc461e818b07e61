"""`clippy_jax.load` on converted weights beside `SentenceTransformer.encode` on the folder that they came from."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import clippy_jax
from clippy_jax.weights.converted_folder import write_converted_folder
from clippy_jax.weights.load import from_towers

TEXTS = [
    "",
    "cat",
    "  a \t photo\n of   a cat  ",
    "An APPLE 🍎, a zebra 🦓 and “curly quotes” – ﬁne",
    *(" ".join(["zebra near grass"] * count) for count in (1, 5, 20, 40, 84, 85, 86, 100)),
]


@pytest.mark.parametrize("whole", [True, False])
def test_text_embeddings_equal_sentence_transformers(tmp_path, dino_file, text_folder, whole):
    theirs = SentenceTransformer(text_folder, device="cpu")
    lengths = [len(ids) for ids in theirs.tokenizer([text.strip() for text in TEXTS])["input_ids"]]
    assert min(lengths) == 1 and sum(length > 256 for length in lengths) >= 2
    write_converted_folder(str(tmp_path / "init"), from_towers(dino_file, text_folder)[0])
    model = clippy_jax.load(str(tmp_path / "init"))
    ours = model.encode_text(TEXTS) if whole else np.concatenate([model.encode_text([text]) for text in TEXTS])
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=1e-5)
