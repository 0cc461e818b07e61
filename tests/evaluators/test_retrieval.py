import json
import tarfile

import numpy as np
import PIL.Image
import pytest

from clippy_jax.datasets import retrieval_pairs
from clippy_jax.errors import InputError
from clippy_jax.evaluators import retrieval
from clippy_jax.evaluators.retrieval import Retrieval
from clippy_jax.input_pipeline.evaluation_image import centre_crop
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel, drawn

SETTINGS = dict(batch_size=8, image_size=32, progress=False)


def brute_force(queries, query_groups, answers, answer_groups) -> list[int]:
    """The rank of each query's best own answer in a list sorted with strangers first among equals."""
    ranks = []
    for query, group in zip(queries, query_groups):
        listed = sorted((-float(query @ answer), of == group) for answer, of in zip(answers, answer_groups))
        ranks.append(1 + next(place for place, (_, own) in enumerate(listed) if own))
    return ranks


def test_ranks_equal_brute_force_in_chunks(monkeypatch):
    random = np.random.default_rng(0)
    images = random.normal(size=(23, 16)).round(1).astype(np.float64)
    groups = np.repeat(np.arange(23), random.integers(1, 6, 23))
    texts = (images[groups] + random.normal(size=(len(groups), 16))).round(1)
    monkeypatch.setattr(retrieval, "SIMILARITIES_AT_ONCE", 3 * len(groups))
    for query, answer in (((images, np.arange(23)), (texts, groups)), ((texts, groups), (images, np.arange(23)))):
        assert retrieval.ranks(*query, *answer).tolist() == brute_force(*query, *answer)


def test_equals_stand_in_front_and_so_does_nan():
    alike, number = np.ones((4, 2), np.float32), np.arange(4)
    assert retrieval.ranks(alike, number, alike, number).tolist() == [4, 4, 4, 4]
    assert retrieval.ranks(alike * np.nan, number, alike, number).tolist() == [4, 4, 4, 4]
    apart = np.eye(4, dtype=np.float32)
    assert retrieval.ranks(apart, number, apart, number).tolist() == [1, 1, 1, 1]


def test_summary_by_hand():
    summary = retrieval.summary(np.array([1, 2, 5, 6, 10, 11]))
    assert summary.recall == {"1": 1 / 6, "5": 3 / 6, "10": 5 / 6}
    assert (summary.mean_rank, summary.median_rank) == (35 / 6, 5.5)


def caption(image, number):
    return f"caption {number}\u2028of {image}"  # what `str.splitlines` takes for the end of a line


def folder_of_images(root, count):
    random = np.random.default_rng(1)
    root.mkdir(parents=True)
    paths = [root / f"{index:03d}.jpg" for index in range(count)]
    for path in paths:
        trees.picture(random, 40, 36).save(path, quality=95)
    return paths


def write_table(root, paths, counts):
    rows = [
        f"{path.relative_to(root)}\t{caption(i, n)}" for n in range(5) for i, path in enumerate(paths) if n < counts[i]
    ]
    (root / "pairs.tsv").write_text("\n".join(["filepath\ttitle", *rows]))
    return root / "pairs.tsv"


def write_rows(root, paths, counts):
    """As `write_table`, in JSON."""
    rows = [{"file": path.name, "captions": [caption(i, n) for n in range(counts[i])]} for i, path in enumerate(paths)]
    (paths[0].parent / "pairs.json").write_text("\n".join(map(json.dumps, rows)))
    return paths[0].parent / "pairs.json"


def write_tar(root, paths, counts):
    with tarfile.open(root / "00000.tar", "w") as tar:
        for i, path in enumerate(paths):
            (root / "x.txt").write_text("\n".join(caption(i, n) for n in range(counts[i])))
            tar.add(path, f"{i:05d}.jpg")
            tar.add(root / "x.txt", f"{i:05d}.txt")
    return root / "00000.tar"


def write_karpathy(root, paths, counts):
    entries = [
        {
            "filepath": "val2014",
            "filename": path.name,
            "split": "test",
            "sentences": [{"raw": caption(i, n)} for n in range(counts[i])] + [{"raw": "a sixth"}] * (counts[i] == 5),
        }
        for i, path in enumerate(paths)
    ]
    entries.insert(3, {"filename": "other.jpg", "split": "train", "sentences": [{"raw": "another"}]})
    (root / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    return root / "dataset_coco.json"


@pytest.mark.parametrize("write", [write_table, write_rows, write_tar, write_karpathy])
def test_every_source_gives_what_brute_force_gives(tmp_path, write):
    paths = folder_of_images(tmp_path / "val2014", 19)
    counts = [1 + index % 5 for index in range(19)]
    source = write(tmp_path, paths, counts)
    before = sorted(tmp_path.iterdir())
    one, eight = (Retrieval(str(source)).run(FakeModel(devices), **SETTINGS) for devices in (1, 8))
    assert sorted(tmp_path.iterdir()) == before
    images = np.asarray(FakeModel().encode_image(np.stack([centre_crop(PIL.Image.open(p), 32) for p in paths]))[1])
    groups = np.repeat(np.arange(19), counts)
    texts = np.stack([drawn(caption(i, n)) for i in range(19) for n in range(counts[i])])
    expected = retrieval.summary(np.array(brute_force(images, np.arange(19), texts, groups)))
    assert one.image_to_text == expected
    assert one.text_to_image == retrieval.summary(np.array(brute_force(texts, groups, images, np.arange(19))))
    assert (one.image_to_text, one.text_to_image) == (eight.image_to_text, eight.text_to_image)
    assert (one.images, one.captions, one.unreadable) == (19, sum(counts), ())
    table = one.report()
    assert f"{100 * expected.recall['5']:.1f} [" in table and "image to text" in table
    assert one.figures()["text_to_image_recall_10"] == one.text_to_image.recall["10"]


@pytest.mark.parametrize("write", [write_table, write_tar])
def test_unreadable_images_are_left_out_with_their_captions(tmp_path, write):
    paths = folder_of_images(tmp_path / "images", 101)
    paths[40].write_bytes(b"no image")
    result = Retrieval(str(write(tmp_path, paths, [2] * 101))).run(FakeModel(8), **SETTINGS)
    assert (result.images, result.captions, len(result.unreadable)) == (100, 200, 1)
    assert "40" in result.unreadable[0]


def test_wrong_sources_are_one_line(tmp_path):
    def refused(source, split="test") -> str:
        with pytest.raises(InputError) as error:
            retrieval_pairs.read(str(source), split)
        assert "\n" not in str(error.value) and "config." not in str(error.value)
        return str(error.value)

    assert "names no file; give a folder of tars" in refused(tmp_path)
    (tmp_path / "photo.jpg").touch()
    assert "is no retrieval set; name a .csv or .tsv table" in refused(tmp_path / "photo.jpg")
    assert "do not exist" in refused(tmp_path / "pairs.csv")
    (tmp_path / "pairs.csv").write_text("filepath,words\na.jpg,b")
    assert "has no column 'caption'" in refused(tmp_path / "pairs.csv")
    (tmp_path / "pairs.csv").write_text("filepath,caption\n")
    assert "holds no image with a caption" in refused(tmp_path / "pairs.csv")
    (tmp_path / "0.tar").write_bytes(b"no tar")
    assert "is no tar file" in refused(tmp_path / "0.tar")
    file = tmp_path / "dataset.json"
    assert "dataset.json cannot be read as JSON (No such file" in refused(file)
    file.write_text("{")
    assert "cannot be read as JSON" in refused(file)
    file.write_text('{"images": [{"filename": "a.jpg", "split": "test"}]}')
    assert "is no Karpathy split" in refused(file)
    file.write_text('{"images": [{"filename": "a.jpg", "split": "test", "sentences": [{"raw": "b"}]}]}')
    assert "a.jpg, which does not exist" in refused(file)
    assert "has no split 'val'; it has test" in refused(file, "val")
