"""Words to tell apart, and the prompts that ask for them."""

import dataclasses
import pathlib
from collections.abc import Sequence

from clippy_jax.datasets import vocabulary
from clippy_jax.datasets.vocabulary import BACKGROUND, IGNORED_LABEL, SegmentationVocabulary, photo_prompt
from clippy_jax.errors import InputError, reading

IMAGENET = "imagenet"  # in the place of a file of templates: the 80 of ImageNet


@dataclasses.dataclass(frozen=True)
class PromptedWords:
    """What an image is segmented by.

    Attributes:
      words: the labels of a label map, by their index.
      names: what is asked for: the words, and names whose pixels count as background.
      prompts: of each name; the mean of their embeddings stands for it.
      word_of_name: the index of the word that a pixel of each name gets.
    """

    words: tuple[str, ...]
    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    word_of_name: tuple[int, ...]


def of_vocabulary(vocabulary: SegmentationVocabulary) -> PromptedWords:
    """Those of a segmentation data set; what is folded counts as class 0."""
    names = (*vocabulary.classes, *vocabulary.folded)
    prompts = tuple((prompt,) for prompt in vocabulary.prompts)
    classes = len(vocabulary.classes)
    return PromptedWords(vocabulary.classes, names, prompts, tuple(i if i < classes else 0 for i in range(len(names))))


def read(labels: str | None, background: str | None = None, templates: str | None = None) -> PromptedWords:
    """Those of the flags --labels, --background and --templates.

    Where names count as background and the word itself is not among the labels, it becomes the last of them, without
    a prompt of its own.

    Raises:
      InputError: there are too few or too many words, one comes twice, or the templates cannot be used.
    """
    words, folded = split(labels), split(background)
    names = (*words, *folded)
    if folded and BACKGROUND not in words:
        words.append(BACKGROUND)
    if not 2 <= len(words) <= IGNORED_LABEL:
        raise InputError(
            f'--labels needs 2 to {IGNORED_LABEL} words to tell apart, for example --labels="cat,dog,background", '
            f"not {len(words)}"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{repeated[0]!r} is among the words more than once; name each once")
    prompts = [[photo_prompt(name)] for name in names]
    if templates:
        prompts = vocabulary.fill_in(read_templates(templates), names)
    word_of_name = tuple(words.index(name if name in words else BACKGROUND) for name in names)
    return PromptedWords(tuple(words), names, tuple(map(tuple, prompts)), word_of_name)


def split(words: str | None) -> list[str]:
    """The words between commas, trimmed."""
    return [" ".join(word.split()) for word in (words or "").split(",") if word.strip()]


def read_templates(path: str) -> Sequence[str]:
    """ImageNet's templates by their name, or the lines of a text file.

    Raises:
      InputError: it is no such file.
    """
    if path == IMAGENET:
        return vocabulary.imagenet().templates
    with reading(f"--templates={path}", wrong="cannot be read as text"):
        lines = pathlib.Path(path).read_text("utf-8-sig").splitlines()
    templates = [line.strip() for line in lines if line.strip()]
    if not templates or not all("{c}" in template for template in templates):
        raise InputError(f"--templates={path} must hold a prompt a line, with {{c}} where the word goes")
    return templates
