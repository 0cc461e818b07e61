import numpy as np
import pytest
import sklearn.metrics

from clippy_jax.evaluators.confusion_matrix import confusion_matrix, intersection_over_union


def test_absent_classes_have_the_iou_asked_for():
    confusion = np.array([[6, 2, 0], [1, 1, 0], [0, 0, 0]])
    public = intersection_over_union(confusion, without_pixels=0, eps=1e-15)
    standard = intersection_over_union(confusion, without_pixels=np.nan)
    np.testing.assert_allclose(public, [6 / 9, 1 / 4, 0], atol=1e-12)
    np.testing.assert_array_equal(standard, [6 / 9, 1 / 4, np.nan])
    predicted_only = intersection_over_union(np.array([[3, 1], [0, 0]]), without_pixels=np.nan)
    np.testing.assert_array_equal(predicted_only, [3 / 4, 0])


@pytest.mark.parametrize("shape", [(1, 1), (37, 61)])
def test_confusion_matrix_equals_scikit_learn(shape):
    random = np.random.default_rng(3)
    labels = random.choice(np.array([0, 1, 2, 4, 255], np.uint8), shape)
    labels.flat[0] = 2
    predicted = random.integers(0, 4, shape).astype(np.int32)
    ours = confusion_matrix(labels, predicted, 6)
    kept = labels != 255
    np.testing.assert_array_equal(
        ours, sklearn.metrics.confusion_matrix(labels[kept], predicted[kept], labels=range(6))
    )
