import re

import numpy as np
import pytest

from clippy_jax.demo import views


def percentages(figures: str) -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+) %", figures)]


def test_words_name_their_colours(embedder, red_and_lime):
    view = views.segments(embedder, red_and_lime, ["blue", "red", "lime"], 1.0, 0.6)
    assert view.figures.index("lime") < view.figures.index("red") < view.figures.index("blue")
    shares = [word["share"] for word in view.summary["words"]]
    assert shares == pytest.approx([0, 0.25, 0.75], abs=0.02)
    assert "not found" in view.figures
    mask = np.asarray(view.mask)
    assert mask.shape == (32, 96) and mask[0, 0] == 1 and mask[0, -1] == 2


def test_background_is_not_tinted(embedder, red_and_lime):
    view = views.segments(embedder, red_and_lime, ["red", "background"], 1.0, 0.6)
    assert view.image.getpixel((800, 200)) == (0, 255, 0)
    assert view.image.getpixel((50, 200)) != (255, 0, 0)


def test_a_patch_is_called_by_its_colour_and_is_like_those_of_its_colour(embedder, red_and_lime):
    words = ["blue", "lime", "red", "white", "black", "yellow", "magenta"]
    view = views.patch(embedder, red_and_lime, words, 1.0, (0.1, 0.5))
    likely = percentages(view.figures)
    assert len(likely) == 5 and likely == sorted(likely, reverse=True)
    assert view.figures.index("red") < view.figures.index("magenta") and "lime" not in view.figures
    heat = np.asarray(view.image).astype(int).sum(axis=2)
    assert heat[50, 40] > heat[50, 800]


def test_an_image_is_classified_as_a_whole(embedder, red_and_lime):
    figures = views.classification(embedder, red_and_lime, ["red", "lime"], 1.0)
    assert figures.index("lime") < figures.index("red")
    assert sum(percentages(figures)) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize("words, named", [([], []), (["red", "lime"], ["lime", "red"])])
def test_groups_need_no_words_and_take_their_names_where_there_are_some(embedder, red_and_lime, words, named):
    figures = views.groups(embedder, red_and_lime, words, 1.0, 0.6, 4).figures
    assert re.findall(r"<td>(red|lime)</td>", figures) == named
    assert percentages(figures) == pytest.approx([75, 25], abs=5)


def test_what_a_visitor_typed_is_no_markup(embedder, red_and_lime):
    words = ["<script>alert(1)</script>", "red & lime"]
    for figures in (
        views.segments(embedder, red_and_lime, words, 1.0, 0.6).figures,
        views.classification(embedder, red_and_lime, words, 1.0),
        views.patch(embedder, red_and_lime, words, 1.0, (0, 0)).figures,
        views.groups(embedder, red_and_lime, words, 1.0, 0.6, 2).figures,
    ):
        assert "<script>" not in figures and "red & lime" not in figures
