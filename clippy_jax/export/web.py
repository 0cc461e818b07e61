"""`export web`: a page that segments images in the browser, the image tower and the words' embeddings beside it."""

import collections
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from clippy_jax.analysis.palette import MOST, colour
from clippy_jax.datasets.vocabulary import photo_prompt
from clippy_jax.errors import InputError, reading
from clippy_jax.export.onnx_folder import write_image_tower
from clippy_jax.input_pipeline.evaluation_image import LONGEST_ASPECT

if TYPE_CHECKING:
    from clippy_jax.inference import Model

PAGE = pathlib.Path(__file__).with_name("page")
MOST_WORDS = 10_000  # with more, the browser takes long to find the words of a patch
WORDS_PER_CALL = 256

README = """\
# Segments in the browser

Serve this folder with any web server and open its address; nothing leaves the browser, and no network is needed:

    python -m http.server --bind 127.0.0.1 8000     # in this folder, then open http://127.0.0.1:8000

- `index.html`, `page.css`, `*.js`: the page. Its label maps are those of `Model.segment` with the same words.
- `image.onnx`: the image tower, {megabytes:.0f} MB, which the browser loads once.
- `words.json`, `words.bin`: the words and their embeddings ({count} x {features} float32).
- `ort*`: onnxruntime-web (https://www.npmjs.com/package/onnxruntime-web, Microsoft, MIT License).

With the headers `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`, the browser
lets the page compute on several cores.
"""


def read_words(path: str) -> list[str]:
    """The words of a text file, one a line; empty lines are left out.

    Raises:
      InputError: it cannot be read, holds no word, too many, or one twice.
    """
    with reading(f"--words={path}", "write one word a line", "is not a text file in UTF-8"):
        lines = pathlib.Path(path).read_text("utf-8-sig").splitlines()
    words = [" ".join(line.split()) for line in lines if line.strip()]
    if not 2 <= len(words) <= MOST_WORDS:
        raise InputError(f"--words={path} has {len(words)} words; write 2 to {MOST_WORDS:,}, one a line")
    for word, count in collections.Counter(words).items():
        if count > 1:
            raise InputError(f"--words={path} has {word!r} more than once; write each word once")
    return words


def write_web(folder: pathlib.Path, model: "Model", words: Sequence[str], runtime: Mapping[str, bytes]) -> None:
    """Fills a folder with the page and what it reads.

    Args:
      folder: exists and is empty.
      model: embeds the words, and gives its image tower.
      words: that the page knows; each is asked for as "a photo of a(n) {word}", as `Model.segment` does.
      runtime: the files of onnxruntime-web, by their names.
    """
    write_image_tower(folder / "image.onnx", jax.device_get(model.params), model.config, model.image_size)
    prompts = [photo_prompt(word) for word in words]
    calls = [prompts[start : start + WORDS_PER_CALL] for start in range(0, len(prompts), WORDS_PER_CALL)]
    vectors = np.concatenate([model.encode_text(call, for_patches=True) for call in calls]).astype("<f4")
    (folder / "words.bin").write_bytes(vectors.tobytes())
    settings = {
        "words": list(words),
        "features": vectors.shape[1],
        "image_size": model.image_size,
        "patch_size": model.config.image.patch_size,
        "longest_aspect": LONGEST_ASPECT,
        "colours": [colour(index) for index in range(MOST - 1)],
    }
    (folder / "words.json").write_text(json.dumps(settings, ensure_ascii=False) + "\n", "utf-8")
    for file in PAGE.iterdir():
        shutil.copyfile(file, folder / file.name)
    for name, contents in runtime.items():
        (folder / name).write_bytes(contents)
    megabytes = (folder / "image.onnx").stat().st_size / 1e6
    readme = README.format(megabytes=megabytes, count=len(words), features=vectors.shape[1])
    (folder / "README.md").write_text(readme)
