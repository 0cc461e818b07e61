import numpy as np
import pytest

from clippy_jax.analysis.similar_patches import patch_at, similarity_to_patch


@pytest.mark.parametrize(
    "point, patch",
    [((0, 0), (0, 0)), ((0.99, 0.01), (0, 4)), ((0.5, 0.5), (2, 2)), ((1, 1), (3, 4)), ((-0.1, 1.1), (3, 0))],
)
def test_the_patch_under_a_point(point, patch):
    assert patch_at(point, (4, 5)) == patch


def test_similarity_is_the_cosine_with_the_patch(embedder, red_and_lime):
    patches = embedder.image(red_and_lime, 1).patches
    similar = similarity_to_patch(patches, (1, 0))
    assert similar.shape == patches.shape[:2]
    np.testing.assert_allclose(similar[:, 0], 1, rtol=1e-5)
    assert (similar[:, -1] < 0.5).all()
