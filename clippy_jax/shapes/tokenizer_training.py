"""A small SentencePiece model for the captions, with T5's conventions: pad 0, end of sentence 1, unknown 2."""

import io
import re
import string
from pathlib import Path

import sentencepiece

from clippy_jax.shapes.scenes import sample_scene, scene_rng

CAPTIONS = 2000  # captions it learns from: the first of the training split, however many of them are written
LARGEST_VOCABULARY = 128  # pieces; so few words need about half of them


def write_tokenizer(folder: Path, seed: int) -> None:
    """Writes `folder/spiece.model`, a unigram model in which every lower-case word can be spelled."""
    captions = [sample_scene(scene_rng(seed, "train", index)).caption for index in range(CAPTIONS)]
    words = sorted(set(re.findall(r"\w+", " ".join(captions))))
    # The trainer weighs a piece only if it is met in two different strings between spaces: "word" and "word,".
    captions.append(", ".join(words))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_writer=model,
        model_type="unigram",
        vocab_size=LARGEST_VOCABULARY,
        hard_vocab_limit=False,
        required_chars=string.ascii_lowercase,
        normalization_rule_name="nmt_nfkc",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        shuffle_input_sentence=False,
        num_threads=1,  # the same sums in the same order
        minloglevel=2,
    )
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
