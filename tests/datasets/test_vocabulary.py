import json

import pytest

from clippy_jax.datasets import vocabulary
from clippy_jax.datasets.label_layouts import VOC as VOC_LAYOUT
from clippy_jax.errors import InputError

VOC = VOC_LAYOUT.vocabulary


def test_imagenet_has_1000_names_in_80_templates_with_the_case_kept():
    prompts = vocabulary.imagenet().prompts()
    assert len(prompts) == 1000 and {len(of_class) for of_class in prompts} == {80}
    assert prompts[0][0] == "a bad photo of a tench." and prompts[999][79] == "a tattoo of the toilet paper."
    assert "a origami tench." in prompts[0]  # the templates' own article stays, as CLIP wrote them
    assert any(prompt != prompt.lower() for of_class in prompts for prompt in of_class)


def test_voc_prompts_60_names_with_their_article():
    words = VOC
    assert len(words.classes) == 21 and len(words.prompts) == 60 and words.prompt_set == "VOC, 21 names + 39 folded"
    assert words.prompts[:2] == ("a photo of a background", "a photo of an aeroplane")
    assert words.prompts[11] == "a photo of a table" and words.prompts[20] == "a photo of a television monitor"
    assert words.prompts[21] == "a photo of a bag" and words.prompts[59] == "a photo of a wood"


@pytest.mark.parametrize(
    "name, prompt",
    [("Apple", "a photo of an apple"), ("umbrella", "a photo of an umbrella"), ("Yak", "a photo of a yak")],
)
def test_photo_prompt(name, prompt):
    assert vocabulary.photo_prompt(name) == prompt


def test_a_tree_brings_its_own_words(tmp_path):
    (tmp_path / "vocabulary.json").write_text(
        json.dumps({"classes": {"x": "Orange", "y": "zebra"}, "templates": ["{a} {c}", "many {c}s"]})
    )
    words = vocabulary.classification_vocabulary(tmp_path)
    assert words.prompts() == [["an Orange", "many Oranges"], ["a zebra", "many zebras"]]
    assert words.folders == ("x", "y") and not words.is_imagenet

    (tmp_path / "vocabulary.json").write_text(
        json.dumps({"classes": ["background", "ant"], "folded_into_background": ["sand"], "prompts": ["p", "q", "r"]})
    )
    words = vocabulary.segmentation_vocabulary(tmp_path, VOC)
    assert words.prompts == ("p", "q", "r") and words.folded == ("sand",) and not words.is_packaged
    (tmp_path / "vocabulary.json").write_text(json.dumps({"classes": ["background", "ant"]}))
    words = vocabulary.segmentation_vocabulary(tmp_path, VOC)
    assert words.prompts == ("a photo of a background", "a photo of an ant")


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a JSON object"),
        ('{"classes": {"x": "y"}}', 'has no "templates"'),
        ('{"classes": {"x": "y"}, "templates": ["a photo"]}', "where the class name goes"),
        ('{"classes": ["x"], "templates": ["{c}"]}', "must map every class folder to a class name"),
        ('{"classes": {"x": "y"}, "templates": ["{c}"], "colour": 1}', '"colour" is not known'),
    ],
)
def test_a_wrong_classification_vocabulary_is_one_line(tmp_path, text, message):
    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(InputError, match="vocabulary.json") as error:
        vocabulary.classification_vocabulary(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{}", 'has no "classes"'),
        ('{"classes": ["background"]}', "must be a list of 2 to 255 names"),
        ('{"classes": ["background", 1]}', "must be a list of 2 to 255 names"),
        ('{"classes": ["a", "b"], "folded_into_background": "c"}', "must be a list of names"),
        ('{"classes": ["a", "b"], "folded_into_background": ["c"], "prompts": ["p", "q"]}', "must be a list of 3"),
    ],
)
def test_a_wrong_segmentation_vocabulary_is_one_line(tmp_path, text, message):
    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(InputError, match="vocabulary.json") as error:
        vocabulary.segmentation_vocabulary(tmp_path, VOC)
    assert message in str(error.value) and "\n" not in str(error.value)
