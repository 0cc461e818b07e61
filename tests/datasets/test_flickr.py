"""Flickr30k in the forms in which it is handed out."""

import json

import pytest

from clippy_jax.datasets import retrieval_pairs
from clippy_jax.errors import InputError

CAPTIONS = {f"{number}.jpg": [f"Photo {number},\u2028said {i} times ." for i in range(5)] for number in range(3)}


def token(folder):
    """The archive of the University of Illinois."""
    rows = [f"{name}#{i}\t{caption}" for name, captions in CAPTIONS.items() for i, caption in enumerate(captions)]
    (folder / "results_20130124.token").write_text("\n".join(rows) + "\n")


def csv(folder):
    """Kaggle's, in which one row lacks a bar."""
    rows = [f"{name}| {i}| {caption}" for name, captions in CAPTIONS.items() for i, caption in enumerate(captions)]
    rows[7] = rows[7].replace("| 2| ", "| 2   ")
    (folder / "results.csv").write_text("\n".join(["image_name| comment_number| comment", *rows]) + "\n")


def karpathy(folder):
    images = [
        {"filename": name, "split": "test", "sentences": [{"raw": caption} for caption in captions]}
        for name, captions in CAPTIONS.items()
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    token(folder)  # it comes first where both are there


@pytest.mark.parametrize("images", [".", "flickr30k-images", "flickr30k_images/flickr30k_images", "Images"])
@pytest.mark.parametrize("form", [token, csv, karpathy])
def test_a_folder_as_it_unpacks(tmp_path, photo, form, images):
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(CAPTIONS):
        photo(number).save(tmp_path / images / name)
    form(tmp_path)
    file = next(path for path in tmp_path.iterdir() if path.is_file() and path.suffix != ".jpg")
    for source in (tmp_path, file):
        pairs = retrieval_pairs.read(str(source))
        assert list(pairs.captions) == [caption for captions in CAPTIONS.values() for caption in captions]
        assert pairs.image_of_caption.tolist() == [0] * 5 + [1] * 5 + [2] * 5
        assert pairs.open_image(2).size == (80, 60)


@pytest.mark.parametrize(
    "content, says",
    [
        ("a.jpg#0\tone\nb.jpg two\n", "line 2 is no image with a number and a caption: 'b.jpg two'"),
        ("a.jpg#0\tone\n", "names the image .*a.jpg, which does not exist, nor does it in flickr30k-images"),
    ],
)
def test_damaged_files_end_in_one_line(tmp_path, content, says):
    (tmp_path / "results_20130124.token").write_text(content)
    with pytest.raises(InputError, match=says) as error:
        retrieval_pairs.read(str(tmp_path))
    assert "\n" not in str(error.value)
