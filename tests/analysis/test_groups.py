import numpy as np

from clippy_jax.analysis.groups import group_pixels


def test_groups_are_the_largest_first_and_none_is_empty(embedder, red_and_lime):
    patches = embedder.image(red_and_lime, 1).patches
    groups = group_pixels(patches, 8, 32, 96)
    assert len(groups.shares) == 2  # as many as there are kinds of patches, not as many as were asked for
    np.testing.assert_allclose(groups.shares, [0.75, 0.25], atol=0.05)
    assert groups.labels[0, 0] == 1 and groups.labels[-1, -1] == 0


def test_an_image_of_one_colour_is_one_group(embedder):
    patches = np.broadcast_to(embedder.words(["red"])[0], (4, 4, 4))
    assert group_pixels(patches, 5, 64, 64).shares.tolist() == [1.0]
