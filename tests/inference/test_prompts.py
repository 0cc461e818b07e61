import numpy as np

from clippy_jax.inference.prompts import PROMPTS_PER_CALL, class_embeddings
from tests.evaluators.fake_model import FakeModel, drawn


def test_a_class_is_the_normalised_mean_of_its_unit_vectors():
    prompts = [["one", "two", "two"], ["three"], ["one", "four"]]
    ours = class_embeddings(FakeModel().encode_text, prompts)
    for vector, of_class in zip(ours, prompts):
        mean = np.mean([drawn(prompt) for prompt in of_class], axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_each_distinct_prompt_is_embedded_once_with_others_of_its_length():
    model = FakeModel()
    words = ["x" * (1 + index % 97) + str(index) for index in range(700)]
    class_embeddings(model.encode_text, [words, words[::-1]])
    assert sorted(text for call in model.encoded for text in call) == sorted(words)
    lengths = [[len(text) for text in call] for call in model.encoded]
    assert max(map(len, lengths)) == PROMPTS_PER_CALL
    assert all(max(shorter) <= min(longer) for shorter, longer in zip(lengths, lengths[1:]))
