"""The words an evaluation uses: class names and the prompts they are put into.

With the package come ImageNet's 1000 names in 80 templates, PASCAL VOC's 21 names with the 39 more that are prompted
and then folded into background, the classes of the other segmentation data sets with the values that stand for them in
masks, and Waterbirds' two birds and background. A tree with classes of its own brings a `vocabulary.json`.
"""

import dataclasses
import importlib.resources
import json
import pathlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

from clippy_jax.errors import InputError, reading

FILE_NAME = "vocabulary.json"
BACKGROUND = "background"
IGNORED_LABEL = 255


@dataclasses.dataclass(frozen=True)
class ClassificationVocabulary:
    """Names and templates of a folder-per-class tree.

    In a template `{c}` stands for the class name and `{a}` for its article.
    """

    folders: tuple[str, ...]  # class folder of every class; empty for ImageNet, whose sorted folders are the classes
    names: tuple[str, ...]
    templates: tuple[str, ...]
    prompt_set: str  # how a result calls these prompts
    is_imagenet: bool  # the packaged vocabulary, for which published numbers exist

    def prompts(self) -> list[list[str]]:
        """Every template filled in with every name: C lists of prompts, case kept."""
        return fill_in(self.templates, self.names)


@dataclasses.dataclass(frozen=True)
class SegmentationVocabulary:
    """Names and prompts of a segmentation data set; class 0 is background where it has one."""

    classes: tuple[str, ...]
    values: tuple[int, ...]  # what stands for each class in the masks
    folded: tuple[str, ...]  # prompted too; a pixel named so counts as background
    prompts: tuple[str, ...]  # one per name, classes first
    prompt_set: str  # how a result calls these prompts
    is_packaged: bool  # the data set's own words, for which published numbers exist


@dataclasses.dataclass(frozen=True)
class WaterbirdsVocabulary:
    """Names and templates of a Waterbirds tree; templates as in `ClassificationVocabulary`."""

    birds: tuple[str, str]  # in the order of the column `y`
    places: tuple[str, str]  # in the order of the column `place`; each bird's own place has the bird's position
    background: str  # what is neither bird
    templates: tuple[str, ...]
    prompt_set: str  # how a result calls these prompts
    is_waterbirds: bool  # the packaged vocabulary, for which published numbers exist


def fill_in(templates: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """The prompts of each name."""
    return [[template.replace("{c}", name).replace("{a}", article(name)) for template in templates] for name in names]


def article(name: str) -> str:
    """ "an" before a vowel, else "a"."""
    return "an" if name[:1].lower() in tuple("aeiou") else "a"


def photo_prompt(name: str) -> str:
    """The single prompt of top-down segmentation: "a photo of a(n) {name}", lower case."""
    return f"a photo of {article(name)} {name}".lower()


def imagenet() -> ClassificationVocabulary:
    """ImageNet's 1000 names, in the order of the sorted synset folders, in 80 templates."""
    values = _packaged("imagenet.json")
    return ClassificationVocabulary(
        folders=(),
        names=tuple(values["classnames"]),
        templates=tuple(values["templates"]),
        prompt_set=f"ImageNet, {len(values['classnames'])} names x {len(values['templates'])} templates",
        is_imagenet=True,
    )


def segmentation_data_set(file: str, data_set: str, background_value: int | None = None) -> SegmentationVocabulary:
    """The classes of a packaged file, one prompt each.

    Args:
      file: in `vocabularies/`; maps the values in masks to official names and, where those are not English, to words.
      data_set: how a result calls it.
      background_value: what stands for background in the masks, as class 0 before those of the file; None for none.
    """
    packaged = _packaged(file)
    named = {int(value): name for value, name in packaged["classes"].items()}
    if background_value is not None:
        named = {background_value: BACKGROUND} | named
    folded = packaged.get("folded_into_background", ())
    prompted_as = packaged.get("prompted_as", {})
    return SegmentationVocabulary(
        classes=tuple(named.values()),
        values=tuple(named),
        folded=tuple(folded),
        prompts=tuple(photo_prompt(prompted_as.get(name, name)) for name in (*named.values(), *folded)),
        prompt_set=f"{data_set}, {len(named)} names" + (f" + {len(folded)} folded" if folded else ""),
        is_packaged=True,
    )


def restricted(whole: SegmentationVocabulary, values: Sequence[int], data_set: str) -> SegmentationVocabulary:
    """The classes that some of the values in the masks stand for, without what is folded into background."""
    kept = [whole.values.index(value) for value in values]
    return dataclasses.replace(
        whole,
        classes=tuple(whole.classes[index] for index in kept),
        values=tuple(values),
        folded=(),
        prompts=tuple(whole.prompts[index] for index in kept),
        prompt_set=f"{data_set}, {len(kept)} names",
    )


def classification_vocabulary(folder: pathlib.Path) -> ClassificationVocabulary:
    """The vocabulary of a folder-per-class tree: its own `vocabulary.json`, else ImageNet's.

    Raises:
      InputError: the file is not as documented.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return imagenet()
    values = _read(path, {"classes", "templates"})
    classes, templates = values["classes"], values["templates"]
    if not isinstance(classes, Mapping) or not classes or not _all_words([*classes, *classes.values()]):
        raise InputError(f'{path}: "classes" must map every class folder to a class name')
    _check_templates(templates, path)
    return ClassificationVocabulary(
        folders=tuple(classes),
        names=tuple(classes.values()),
        templates=tuple(templates),
        prompt_set=f"{FILE_NAME}, {len(classes)} names x {len(templates)} templates",
        is_imagenet=False,
    )


def segmentation_vocabulary(folder: pathlib.Path, packaged: SegmentationVocabulary) -> SegmentationVocabulary:
    """The vocabulary of a segmentation tree: its own `vocabulary.json`, else the data set's packaged one.

    A PASCAL-VOC-shaped tree may have any number of classes, labelled by their position; another data set's
    `vocabulary.json` puts other words in the place of its packaged ones.

    Raises:
      InputError: the file is not as documented.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return packaged
    values = _read(path, {"classes"}, optional={"folded_into_background", "prompts"})
    classes, folded = values["classes"], values.get("folded_into_background", [])
    if not _all_words(classes) or not 2 <= len(classes) <= IGNORED_LABEL:
        raise InputError(f'{path}: "classes" must be a list of 2 to {IGNORED_LABEL} names, background first')
    if not packaged.folded and len(classes) != len(packaged.classes):
        raise InputError(f'{path}: "classes" names {len(classes)} where {packaged.prompt_set} are expected')
    if not _all_words(folded):
        raise InputError(f'{path}: "folded_into_background" must be a list of names')
    if folded and packaged.classes[0] != BACKGROUND:
        raise InputError(f'{path}: "folded_into_background" needs a background; {packaged.prompt_set}, have none')
    names = [*classes, *folded]
    prompts = values.get("prompts", [photo_prompt(name) for name in names])
    if not _all_words(prompts) or len(prompts) != len(names):
        raise InputError(f'{path}: "prompts" must be a list of {len(names)}, one per name, classes before folded ones')
    return SegmentationVocabulary(
        classes=tuple(classes),
        values=tuple(range(len(classes))) if packaged.folded else packaged.values,
        folded=tuple(folded),
        prompts=tuple(prompts),
        prompt_set=f"{FILE_NAME}, {len(classes)} names + {len(folded)} folded",
        is_packaged=False,
    )


def waterbirds_vocabulary(folder: pathlib.Path) -> WaterbirdsVocabulary:
    """The vocabulary of a Waterbirds tree: its own `vocabulary.json`, else Waterbirds' packaged one.

    Raises:
      InputError: the file is not as documented.
    """
    path = folder / FILE_NAME
    is_own = path.exists()
    values = _read(path, {"birds", "places", "background", "templates"}) if is_own else _packaged("waterbirds.json")
    for key in ("birds", "places"):
        if not _all_words(values[key]) or len(values[key]) != 2:
            raise InputError(f'{path}: "{key}" must be a list of two names')
    if not _all_words([values["background"]]):
        raise InputError(f'{path}: "background" must be a name for what is neither bird')
    templates = values["templates"]
    _check_templates(templates, path)
    origin = FILE_NAME if is_own else "Waterbirds"
    return WaterbirdsVocabulary(
        birds=tuple(values["birds"]),
        places=tuple(values["places"]),
        background=values["background"],
        templates=tuple(templates),
        prompt_set=f"{origin}, {len(templates)} template{'s'[: len(templates) > 1]}",
        is_waterbirds=not is_own,
    )


def _check_templates(templates: Any, path: pathlib.Path) -> None:
    if not templates or not _all_words(templates) or not all("{c}" in template for template in templates):
        raise InputError(f'{path}: "templates" must be a list of prompts, each with {{c}} where the class name goes')


def _packaged(name: str) -> Mapping[str, Any]:
    text = importlib.resources.files("clippy_jax.datasets").joinpath("vocabularies", name).read_text("utf-8")
    return json.loads(text)


def _read(path: pathlib.Path, required: Set[str], optional: Set[str] = frozenset()) -> Mapping[str, Any]:
    with reading(path, wrong="cannot be read as JSON"):
        values = json.loads(path.read_text("utf-8-sig"))
    if not isinstance(values, Mapping):
        raise InputError(f"{path} must hold a JSON object")
    for key in required - values.keys():
        raise InputError(f'{path} has no "{key}"')
    for key in values.keys() - required - optional:
        raise InputError(f'{path}: "{key}" is not known; known here: {", ".join(sorted(required | optional))}')
    return values


def _all_words(values: Any) -> bool:
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    return is_list and all(isinstance(value, str) and value.strip() for value in values)
