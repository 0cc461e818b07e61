"""Features of a frozen tower in the place of images: the same batches, or a line that says why not."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest

from clippy_jax import encode_images, main
from clippy_jax.errors import InputError
from clippy_jax.input_pipeline import image_features
from clippy_jax.input_pipeline.image_features import describe_tower
from clippy_jax.input_pipeline.pipeline import TrainingInput
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.weights.load import load_checkpoint
from tests import small_run
from tests.input_pipeline.batches import bad_shard, collected

SQUARE = dict(input__crop_scale=(1.0, 1.0), input__crop_ratio=(1.0, 1.0), input__flip=False)
FIELDS = SQUARE | dict(optimizer__freeze=("image",), model__image__patch_dropout=0.0, input__batch_size=15)


@pytest.fixture(scope="module")
def flags(demo_folder, tmp_path_factory, write_tar, photo, encoded):
    """Flags of a run on odd, bad and good photos with the tower of another run, and the folder of its features, in
    files of four rows."""
    folder = tmp_path_factory.mktemp("features")
    shard = bad_shard(folder / "0.tar", write_tar, photo, encoded, good=6)
    fields = FIELDS | dict(input__image_features=str(folder / "float32"), input__image_features_dtype="float32")
    fields |= dict(init__image=str(demo_folder / "runs" / "shapes"), input__train=str(shard))
    flags = small_run.flags(demo_folder / "data" / "shapes", **fields)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(image_features, "MOST_ROWS", 4)
        encode_images.main(flags)
    return flags


@pytest.fixture(scope="module")
def config(flags):
    return main.parse_with_config(encode_images.flags(), flags)[2]


def with_input(config, **fields):
    return dataclasses.replace(config, input=dataclasses.replace(config.input, **fields))


def test_batches_hold_the_features_of_the_images_that_they_would_hold(flags, config, demo_folder):
    params = load_checkpoint(str(demo_folder / "runs" / "shapes")).params
    encode = jax.jit(lambda images: CLIPpy(config.model).apply({"params": params}, images, method="image_features"))
    from_images, from_features = (
        TrainingInput(with_input(config, image_features=folder).input) for folder in ("", config.input.image_features)
    )
    batches = list(from_features.batches(0, 5))
    for batch, images in zip(batches, from_images.batches(0, 5), strict=True):
        np.testing.assert_array_equal(batch.tokens, images.tokens)
        np.testing.assert_allclose(batch.images, encode(images.images), rtol=0, atol=1e-5)
    assert from_features.skipped == from_images.skipped and from_images.skipped["truncated"] >= 5
    for other, batch in zip(collected(config.input, 2, 3, process_count=3), batches[2:], strict=True):
        np.testing.assert_array_equal(other.images, batch.images)
        np.testing.assert_array_equal(other.tokens, batch.tokens)


def test_what_is_missing_is_made_and_the_rest_left_alone(flags, config, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(config.input.image_features, tmp_path / "copy")
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = [*flags, "--config.input.image_features=~/copy"]
    second = folder / "000001.safetensors"
    before = second.read_bytes()
    second.unlink()
    with pytest.raises(InputError, match="1 of 4 files of .*copy are not made yet; go on by python -m"):
        TrainingInput(with_input(config, image_features=str(folder)).input)
    others = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    encode_images.main(flags)
    assert "3 of 4 files are there" in capsys.readouterr().out
    assert second.read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in others} == others
    # The second of two processes, which looks when the first one has made its first file already.
    for path in ("000001", "000002", "000003"):
        (folder / f"{path}.safetensors").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(jax, "process_index", lambda: 1)
        patched.setattr(jax, "process_count", lambda: 2)
        encode_images.encode_images(with_input(config, image_features=str(folder)))
    made = sorted(path.name for path in folder.glob("*.safetensors"))
    assert made == [f"{number:06d}.safetensors" for number in (0, 1, 3)]
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".features.json.1.incomplete").touch()  # what the other one is writing
    image_features.begin_features(tmp_path / "new", {}, (1, 2), "float32")
    second.write_bytes(before[:-1])
    encode_images.main(flags)
    with pytest.raises(InputError, match="000001.safetensors is damaged .*remove it and make it anew"):
        TrainingInput(with_input(config, image_features=str(folder)).input)


def test_features_of_something_else_are_refused(flags, config, shards, capsys):
    for fields, says in (
        (dict(image_features="nowhere"), "nowhere has no features.json; make it by python -m clippy_jax.encode_images"),
        (dict(image_size=40), "config.input.image_size is 40, but 32 there"),
        (dict(train=shards), "number of samples is 23, but 15 there; digest of the images is"),
        (dict(image_features_dtype="bfloat16"), "image_features_dtype is bfloat16, but float32 there"),
    ):
        with pytest.raises(InputError, match=f"config.input.image_features: .*{says}"):
            TrainingInput(with_input(config, **fields).input)
    features = TrainingInput(config.input).features
    made_of = json.loads((features._folder / "features.json").read_text())["made of"]
    digest = made_of["digest of the image tower's weights"]
    features.check_tower(describe_tower(config.model, digest))
    for model, own, says in (
        (config.model, "sha256:0", "weights is sha256:0, but sha256:.* there"),
        (dataclasses.replace(config.model, pooling="avg"), digest, "tokens is pooled by avg, but pooled by max there"),
        (dataclasses.replace(config.model, precision="bfloat16"), digest, "precision is bfloat16, but float32 there"),
    ):
        with pytest.raises(InputError, match=says):
            features.check_tower(describe_tower(model, own))
    with pytest.raises(SystemExit):
        encode_images.main([*flags, "--config.model.pooling=cls"])
    assert "tokens is pooled by cls, but pooled by max there" in capsys.readouterr().err


@pytest.mark.parametrize(
    "field, says",
    [
        ("init.image=", "config.init.image is empty; name the weights of the frozen image tower"),
        ("input.image_features=", "image_features is empty; name the folder"),
        (
            "optimizer.freeze=('text',)",
            "features of an image tower that is trained would be old",
        ),
        ("input.flip=True", "cut out at random.*flip=False"),
        ("input.crop_scale=(0.9,1.0)", "cut out at random.*crop_scale=.1.0,1.0."),
        ("model.image.patch_dropout=0.5", "patches are left out at random; set config.model.image.patch_dropout=0.0"),
        ("input.image_features=tests", "tests is not empty and holds no features; choose another folder"),
    ],
)
def test_what_cannot_be_the_same_is_refused(flags, field, says, capsys):
    others = [flag for flag in flags if not flag.startswith(f"--config.{field.partition('=')[0]}=")]
    with pytest.raises(SystemExit):
        encode_images.main([*others, f"--config.{field}"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(says, error), error
