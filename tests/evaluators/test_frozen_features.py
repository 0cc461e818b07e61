import numpy as np
import pytest
import sklearn.linear_model
import sklearn.neighbors

from clippy_jax.datasets import image_folder
from clippy_jax.errors import InputError
from clippy_jax.evaluators import frozen_features, knn, linear_probe
from clippy_jax.evaluators.classification import class_ranks, shares_right
from clippy_jax.evaluators.evaluator import Feeding
from clippy_jax.evaluators.knn import NearestNeighbours
from clippy_jax.evaluators.linear_probe import LinearProbe
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel

SETTINGS = dict(batch_size=8, image_size=32, progress=False)


def clusters(images: int, seed: int, classes: int = 4, width: int = 12):
    """Unit vectors around a centre for each class, near enough to each other that some are mistaken."""
    centres = np.random.default_rng(3).normal(size=(classes, width))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images).astype(np.int32)
    vectors = centres[labels] + 1.3 * random.normal(size=(images, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.fixture
def tree(tmp_path):
    trees.image_folder(tmp_path / "train", 45, seed=1)
    trees.image_folder(tmp_path / "val", 20, seed=2)
    return tmp_path


@pytest.mark.parametrize("strip", [7, 64, 16384])
def test_votes_are_those_of_scikit_learn(monkeypatch, strip):
    monkeypatch.setattr(knn, "KEYS_PER_STRIP", strip)
    (keys, labels), (queries, _) = clusters(150, 0), clusters(70, 1)
    reference = sklearn.neighbors.KNeighborsClassifier(
        knn.NEIGHBOURS, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / knn.TEMPERATURE)
    ).fit(keys, labels)
    votes = knn.neighbour_votes(queries, keys, labels, 4)
    shares = votes / votes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, reference.predict_proba(queries), atol=1e-5)


def test_fewer_images_than_neighbours_all_vote():
    keys, labels = clusters(6, 0)
    votes = knn.neighbour_votes(keys[:1], keys, labels, 4)
    expected = np.bincount(labels, np.exp(keys @ keys[0] / knn.TEMPERATURE), minlength=4)
    np.testing.assert_allclose(votes[0], expected, rtol=1e-5)


@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_the_probe_is_the_logistic_regression_of_scikit_learn(strength):
    (vectors, labels), (others, _) = clusters(150, 0), clusters(70, 1)
    reference = sklearn.linear_model.LogisticRegression(C=1 / (strength * len(labels)), tol=1e-8, max_iter=5000)
    reference.fit(vectors.astype(np.float64), labels)
    scores = linear_probe.scores(linear_probe.fit(vectors, labels, 4, strength), others)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, reference.predict_proba(others), atol=1e-4)


def test_the_strength_is_the_best_on_images_that_are_not_fitted():
    vectors, labels = clusters(200, 0)
    order = np.random.default_rng(0).permutation(200)
    held_out, fitted = order[:20], order[20:]
    accuracies = [
        sklearn.linear_model.LogisticRegression(C=1 / (strength * 180), max_iter=5000)
        .fit(vectors[fitted], labels[fitted])
        .score(vectors[held_out], labels[held_out])
        for strength in linear_probe.STRENGTHS[:5]
    ]
    chosen = linear_probe.choose_strength(vectors, labels, 4)
    assert accuracies[linear_probe.STRENGTHS[:5].index(chosen)] == max(accuracies)


def test_shares_right_break_ties_by_class_and_never_count_nan():
    scores = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [np.nan, np.nan, np.nan]])
    ranks = class_ranks(scores, np.array([0, 1, 2]))
    assert ranks.tolist() == [0, 1, 2] and shares_right(ranks, (1, 2)) == [1 / 3, 2 / 3]


@pytest.mark.parametrize("devices", [1, 8])
def test_features_are_those_of_each_image_in_order(tree, devices):
    images = image_folder.read_train_and_val(str(tree)).train
    features = frozen_features.embed(FakeModel(devices), images, Feeding(8, 32, False))
    one_by_one = frozen_features.embed(FakeModel(1), images, Feeding(1, 32, False))
    np.testing.assert_allclose(features.vectors, one_by_one.vectors, atol=1e-6)
    np.testing.assert_array_equal(features.labels, images.labels)


@pytest.mark.parametrize("evaluator", [NearestNeighbours, LinearProbe])
def test_evaluates_a_tree(tree, evaluator):
    result = evaluator(str(tree)).run(FakeModel(8), **SETTINGS)
    assert (result.images, result.train_images, result.top5) == (20, 45, 1.0)
    # The images have nothing to do with their class; learning them by heart is what `train` as `val` shows.
    (tree / "val").rename(tree / "other")
    (tree / "val").symlink_to(tree / "train")
    by_heart = evaluator(str(tree)).run(FakeModel(8), **SETTINGS)
    assert by_heart.top1 > result.top1


def test_wrong_trees_are_one_line(tree):
    def refused() -> str:
        with pytest.raises(InputError) as error:
            image_folder.read_train_and_val(str(tree))
        assert "\n" not in str(error.value)
        return str(error.value)

    (tree / "val" / "class_d").mkdir()
    assert "class_d is a class folder that" in refused()
    (tree / "val").rename(tree / "test")
    assert "val is not a folder; " in refused() and "must hold train and val" in refused()


def test_a_probe_needs_enough_images(tmp_path):
    trees.image_folder(tmp_path / "train", 9)
    trees.image_folder(tmp_path / "val", 9)
    with pytest.raises(InputError, match="9 images in train are too few; give 20"):
        LinearProbe(str(tmp_path))
