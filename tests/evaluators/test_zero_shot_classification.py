import json

import numpy as np
import PIL.Image
import pytest
import sklearn.metrics

from clippy_jax.datasets import image_folder
from clippy_jax.errors import InputError
from clippy_jax.evaluators.zero_shot_classification import ZeroShotClassification, ZeroShotResult
from clippy_jax.input_pipeline.evaluation_image import centre_crop
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel, drawn

SETTINGS = dict(batch_size=8, image_size=32, progress=False)


def image_vectors(paths) -> np.ndarray:
    pixels = np.stack([centre_crop(PIL.Image.open(path), 32) for path in paths])
    return np.asarray(FakeModel().encode_image(pixels)[1])


@pytest.mark.parametrize("devices", [1, 8])
def test_equals_scikit_learn_and_never_counts_padding(tmp_path, devices):
    tree = trees.image_folder(tmp_path, 43)
    result = ZeroShotClassification(str(tree)).run(FakeModel(devices), **SETTINGS)
    classes = {"class_a": "an apple", "class_b": "a Zebra", "class_c": "a car"}
    vectors = []
    for phrase in classes.values():
        name = phrase.split()[1]
        mean = (2 * drawn(f"a photo of {phrase}") + drawn(f"many {name}.")) / 3
        vectors.append(mean / np.linalg.norm(mean))
    paths = sorted(tree.glob("*/*.jpg"))
    labels = np.array([list(classes).index(path.parent.name) for path in paths])
    predicted = (image_vectors(paths) @ np.stack(vectors).T).argmax(1)
    assert result.images == 43
    assert result.top1 == sklearn.metrics.accuracy_score(labels, predicted)
    assert result.top5 == 1
    for index, name in enumerate(classes):
        assert result.per_class_top1[name] == pytest.approx((predicted == labels)[labels == index].mean())


def test_an_imagenet_tree_uses_the_packaged_words(tmp_path):
    synsets = [f"n{index:08d}" for index in range(1000)]
    for synset in synsets:
        (tmp_path / "val" / synset).mkdir(parents=True)
    random = np.random.default_rng(5)
    labels = random.choice(1000, 30)
    paths = [tmp_path / "val" / synsets[label] / f"{index}.JPEG" for index, label in enumerate(labels)]
    for path in paths:
        trees.picture(random, 40, 40).save(path)
    vectors = image_vectors(paths)
    near = [f"a photo of a {name}." for name in image_folder.read(str(tmp_path / "val")).vocabulary.names]
    # The right class's prompt comes near every second image, so that some ranks are within five and some are not.
    texts = {near[label]: 30 * vectors[index] for index, label in enumerate(labels) if index % 2}
    result = ZeroShotClassification(str(tmp_path / "val")).run(FakeModel(8, texts), **SETTINGS)
    words = image_folder.read(str(tmp_path / "val")).vocabulary.prompts()
    model = FakeModel(1, texts)
    classes = np.stack([model.encode_text(of_class).astype(np.float64).mean(0) for of_class in words])
    scores = vectors @ (classes / np.linalg.norm(classes, axis=-1, keepdims=True)).T
    kwargs = dict(labels=range(1000))
    assert result.top1 == pytest.approx(sklearn.metrics.top_k_accuracy_score(labels, scores, k=1, **kwargs))
    assert result.top5 == pytest.approx(sklearn.metrics.top_k_accuracy_score(labels, scores, k=5, **kwargs))
    assert 0 < result.top1 < result.top5 < 1
    assert (result.split, result.prompt_set) == ("val", "ImageNet, 1000 names x 80 templates")
    assert result.data_set == "ImageNet" and sum(value is None for value in result.per_class_top1.values()) > 900


def test_published_numbers_stand_beside_whole_validation_sets_only():
    def table(**fields) -> str:
        common = dict(
            task="t", folder="f", protocol="p", split="val", resolution="r", prompt_set="s", unreadable=("x",)
        )
        result = dict(images=49_999, image_size=224, top1=0.5, top5=0.75, per_class_top1={}, data_set="ImageNet")
        return ZeroShotResult(**common, **result | fields).report()

    assert "| public notebook, clippy_5k.pt " in table() and "| paper, CC-12M" in table() and "45.3" in table()
    of_v2 = table(data_set="ImageNet-v2", images=9_999)
    assert "40.0" in of_v2 and "45.3" not in of_v2
    for other in (dict(images=1_281_166), dict(image_size=336), dict(data_set=""), dict(data_set="ImageNet-v2")):
        assert "paper" not in table(**other)


def test_an_evaluator_reads_its_tree_once(tmp_path):
    tree = trees.image_folder(tmp_path, 20)
    evaluator = ZeroShotClassification(str(tree))
    trees.picture(np.random.default_rng(0), 40, 40).save(tree / "class_a" / "later.jpg")
    first, second = (evaluator.run(FakeModel(8), **SETTINGS) for _ in range(2))
    assert (first.images, first.top1) == (second.images, second.top1) and first.images == 20


def test_a_model_that_returns_nan_is_never_right(tmp_path):
    tree = trees.image_folder(tmp_path, 9)
    model = FakeModel()
    model.matrix = np.full_like(model.matrix, np.nan)
    assert ZeroShotClassification(str(tree)).run(model, **SETTINGS).top1 == 0


def test_unreadable_images_are_named_or_stop(tmp_path):
    tree = trees.image_folder(tmp_path, 200)
    broken = sorted(tree.glob("*/*.jpg"))
    broken[17].write_bytes(b"no image")
    result = ZeroShotClassification(str(tree)).run(FakeModel(8), **SETTINGS)
    assert result.images == 199 and result.unreadable == (str(broken[17]),)
    for path in broken[40:43]:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="4 of 200 images cannot be read, more than 1%; the first is .*jpg"):
        ZeroShotClassification(str(tree)).run(FakeModel(8), **SETTINGS)


def test_wrong_trees_are_one_line(tmp_path):
    def refused(folder) -> str:
        with pytest.raises(InputError) as error:
            image_folder.read(str(folder))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "missing is not a folder" in refused(tmp_path / "missing")
    assert "holds no class folders" in refused(tmp_path)
    (tmp_path / "cat").mkdir()
    assert "holds 1 class folders where ImageNet has 1000" in refused(tmp_path)
    words = {"classes": {"dog": "dog"}, "templates": ["a photo of a {c}"]}
    (tmp_path / "vocabulary.json").write_text(json.dumps(words))
    assert "cat is a class folder that" in refused(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "dog")
    assert "no class folder holds an image" in refused(tmp_path)


def test_numbered_folders_are_in_the_order_of_their_numbers(tmp_path):
    for number in range(1000):
        (tmp_path / str(number)).mkdir()
    for number in (2, 10, 999):
        trees.picture(np.random.default_rng(number), 40, 40).save(tmp_path / str(number) / "photo.jpeg")
    tree = image_folder.read(str(tmp_path))
    assert tree.data_set == "ImageNet-v2" and tree.class_folders == tuple(map(str, range(1000)))
    assert tree.labels.tolist() == [2, 10, 999]
    assert [int(path.parent.name) for path in tree.names] == [2, 10, 999]
