import numpy as np
import pytest
import scipy.stats

from clippy_jax.evaluators import intervals


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[:, 1:] / sums[:, :1]


def right_answers(probability: float, images: int, seed: int) -> np.ndarray:
    right = np.random.default_rng(seed).random(images) < probability
    return np.stack([np.ones(images), right], axis=1)


@pytest.mark.parametrize("probability", [0.5, 0.9])
def test_intervals_of_a_share_hold_it_as_often_as_they_say(probability, monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 300)
    held = 0
    for seed in range(400):
        ((low, high),) = intervals.bootstrap(right_answers(probability, 150, seed), mean, seed)
        held += low <= probability <= high
    assert 0.93 <= held / 400 <= 0.97


def test_an_interval_of_a_share_is_that_of_scipy():
    counts = right_answers(0.3, 500, 0)
    ((low, high),) = intervals.bootstrap(counts, mean)
    reference = scipy.stats.bootstrap((counts[:, 1],), np.mean, n_resamples=5000, method="percentile", rng=1)
    np.testing.assert_allclose((low, high), reference.confidence_interval, atol=0.008)


def test_the_miou_is_that_of_the_whole_and_its_interval_holds_it():
    random = np.random.default_rng(0)
    confusions = random.poisson(3, (40, 5, 5)) + 20 * np.eye(5, dtype=int) * random.integers(0, 2, (40, 1, 1))
    diagonals, labelled, predicted = np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(2), confusions.sum(1)
    of = {"intersection": diagonals, "union": labelled + predicted - diagonals}
    counts = intervals.Counts(tuple("abcd" * 10), of, {"miou": intervals.Ratio("intersection", "union", "mean")})
    whole = confusions.sum(axis=0)
    ious = np.diag(whole) / (whole.sum(0) + whole.sum(1) - np.diag(whole))
    np.testing.assert_allclose(counts.statistic(counts.columns().sum(axis=0, keepdims=True)), [[ious.mean()]])
    low, high = counts.intervals()["miou"]
    assert low < ious.mean() < high and high - low < 0.2


@pytest.mark.parametrize(
    "how, expected",
    [("pooled", 4 / 12), ("mean", 0.375), ("mean_with_absent", 0.25), ("lowest", 0.25), ("difference", -0.25)],
)
def test_classes_are_put_together_as_said(how, expected):
    numerators, denominators = np.array([[2.0, 2, 0]]), np.array([[8.0, 4, 0]])
    assert intervals.Ratio("a", "b", how).of(numerators, denominators) == pytest.approx([expected])


def test_a_figure_that_no_image_has_has_no_interval():
    counts = intervals.Counts(("a", "b"), {"x": np.zeros((2, 1))}, {"share": intervals.Ratio("x", "x")})
    assert np.isnan(counts.intervals()["share"]).all()


def test_equal_models_differ_by_chance_only_one_time_in_twenty(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 400)
    real = 0
    for seed in range(300):
        first, second = right_answers(0.6, 200, 2 * seed), right_answers(0.6, 200, 2 * seed + 1)
        real += intervals.compare(first, second, mean, seed)[0].is_real
    assert 0.02 <= real / 300 <= 0.085


def test_pairing_finds_a_small_difference_that_two_intervals_would_hide():
    random = np.random.default_rng(0)
    hard = random.random(1000)
    first, second = (np.stack([np.ones(1000), hard < bound], axis=1).astype(float) for bound in (0.60, 0.615))
    (difference,) = intervals.compare(first, second, mean)
    assert difference.is_real and difference.interval.low > 0
    (one,), (other,) = (intervals.bootstrap(counts, mean) for counts in (first, second))
    assert one.high > other.low


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="are not of the same images"):
        intervals.compare(right_answers(0.5, 10, 0), right_answers(0.5, 11, 0), mean)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (3, 9), (9, 3), (5, 5), (400, 520), (0, 30)])
def test_mcnemar_is_scipys_binomial_test(only_first, only_second):
    first = np.array([True] * only_first + [False] * only_second + [True] * 7 + [False] * 4)
    second = np.array([False] * only_first + [True] * only_second + [True] * 7 + [False] * 4)
    tosses = only_first + only_second
    wanted = scipy.stats.binomtest(only_first, tosses, 0.5).pvalue if tosses else 1.0
    np.testing.assert_allclose(intervals.mcnemar(first, second), wanted, rtol=1e-9)


def test_draws_are_the_same_in_parts_and_stay_small(monkeypatch):
    counts = right_answers(0.4, 50, 0)
    whole = intervals.bootstrap(counts, mean)
    monkeypatch.setattr(intervals, "_COUNTS_AT_ONCE", 500)
    assert intervals.bootstrap(counts, mean) == whole


def test_draws_without_the_figure_make_no_difference_real():
    counts = np.array([[1.0, 1.0], [0.0, 0.0]])  # every fourth draw lacks the only image that counts
    (difference,) = intervals.compare(
        counts, counts, lambda sums: sums[:, 1:] / np.where(sums[:, :1], sums[:, :1], np.nan)
    )
    assert difference.value == 0 and difference.p_value == 1 and not difference.is_real
