import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from clippy_jax.errors import InputError
from clippy_jax.weights.clippy_file import write_clippy, write_clippy_safetensors
from clippy_jax.weights.converted_folder import write_converted_folder
from clippy_jax.weights.load import from_clippy, from_towers, initialise, load_checkpoint
from clippy_jax.weights.towers import parameter_shapes
from tests.models import configurations
from tests.weights import public_files


def same_tree(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def config(**image):
    return configurations.model(
        configurations.image_tower(**image), configurations.text_tower(vocabulary_size=public_files.VOCABULARY)
    )


def random_params(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), parameter_shapes(model))


@pytest.fixture(scope="module")
def params():
    return random_params(config())


def names(tree):
    return list(flatten_dict(tree, sep="/"))


@pytest.mark.parametrize("form", [".pt", ".safetensors", "folder"])
def test_every_form_gives_the_same_model(tmp_path, clippy_file, text_folder, form):
    original = load_checkpoint(clippy_file)
    # Things that weights do not tell must come through, too.
    model = dataclasses.replace(
        original.config, pooling="avg", image=dataclasses.replace(original.config.image, heads=4)
    )
    original = dataclasses.replace(original, config=model, tokenizer=text_folder)
    path = str(tmp_path / f"x{form}")
    {".pt": write_clippy, ".safetensors": write_clippy_safetensors, "folder": write_converted_folder}[form](
        path, original
    )
    read = load_checkpoint(path)
    same_tree(read.params, original.params)
    assert read.config == model
    assert read.tokenizer == (str(tmp_path / "xfolder" / "tokenizer") if form == "folder" else None)
    assert (read.epoch, read.name) == (5, "clippy")
    assert (read.moments is None) == (form == ".safetensors")


def test_the_training_image_size_of_files_that_do_not_tell_it(tmp_path, clippy_file):
    """The public code's, and ours from before it was noted: what the position embedding is made for."""
    checkpoint = load_checkpoint(clippy_file)
    assert checkpoint.image_size == 224
    checkpoint = dataclasses.replace(checkpoint, image_size=64)
    write_converted_folder(str(tmp_path / "folder"), checkpoint)
    write_clippy(str(tmp_path / "x.pt"), checkpoint)
    settings = json.loads((tmp_path / "folder" / "config.json").read_text())
    contents = torch.load(tmp_path / "x.pt", weights_only=True)
    for image_size, says in (
        ("gone", None),
        (50, "image_size is 50, which patches of 16"),
        ("x", "x.*describe|describe.*x"),
    ):
        for values in (settings, contents):
            values.pop("image_size", None)
            values |= {} if image_size == "gone" else {"image_size": image_size}
        (tmp_path / "folder" / "config.json").write_text(json.dumps(settings))
        torch.save(contents, tmp_path / "x.pt")
        for path in (str(tmp_path / "folder"), str(tmp_path / "x.pt")):
            if says is None:
                assert load_checkpoint(path).image_size == 224
            else:
                with pytest.raises(InputError, match=says):
                    load_checkpoint(path)


def test_a_model_with_a_projection_goes_out_and_in(tmp_path, text_folder):
    torch.save(public_files.dino(width=64), tmp_path / "dino.pth")
    joined, notes = from_towers(str(tmp_path / "dino.pth"), text_folder)
    assert sorted(note.split()[-1] for note in notes) == ["image_projection/kernel", "logit_scale"]
    assert joined.config.image_projection
    assert joined.params["image_projection"]["kernel"].shape == (64, 48)
    np.testing.assert_allclose(joined.params["logit_scale"], np.log(1 / 0.07))
    write_clippy(str(tmp_path / "x.pt"), joined)
    same_tree(load_checkpoint(str(tmp_path / "x.pt")).params, joined.params)
    del (contents := torch.load(tmp_path / "x.pt"))["model_config"]
    torch.save(contents, tmp_path / "y.pt")
    assert load_checkpoint(str(tmp_path / "y.pt")).config.image_projection


def test_what_is_not_there(tmp_path, clippy_file):
    with pytest.raises(InputError, match="nothing does not exist"):
        load_checkpoint(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="is a folder of something else"):
        load_checkpoint(str(tmp_path))
    with pytest.raises(InputError, match="--step=3: .* has no steps"):
        load_checkpoint(clippy_file, step=3)


def test_a_run_starts_from_an_image_tower(params, dino_file):
    before = jax.tree.map(np.copy, params)
    new, left = initialise(params, config(), image=dino_file)
    same_tree(params, before)
    np.testing.assert_array_equal(new["image"]["cls_token"], public_files.dino()["cls_token"])
    same_tree(new["text"], params["text"])
    assert left == [name for name in names(params) if not name.startswith("image/")]
    assert names(new) == names(params)


def test_a_run_starts_from_both_towers(params, dino_file, text_folder):
    new, left = initialise(params, config(), image=dino_file, text=text_folder)
    assert left == ["logit_scale"]
    joined, _ = from_towers(dino_file, text_folder)
    same_tree(new, {**joined.params, "logit_scale": params["logit_scale"]})


def test_a_run_starts_from_a_whole_clippy(tmp_path, params, clippy_file):
    new, left = initialise(params, config(), clippy=clippy_file)
    assert left == []
    original, _ = from_clippy(clippy_file, "--clippy")
    same_tree(new, original.params)
    write_converted_folder(str(tmp_path / "folder"), original)
    same_tree(initialise(params, config(), clippy=str(tmp_path / "folder")), (new, []))


@pytest.mark.parametrize("interpolation, margin", [("dino", 0.1), ("plain", 0.0)])
@pytest.mark.parametrize("image_size", [96, 320])
def test_positions_are_resized_to_the_models_grid(dino_file, interpolation, margin, image_size):
    model = config(image_size=image_size, position_interpolation=interpolation)
    new, left = initialise(random_params(model), model, image=dino_file)
    table, grid = public_files.dino()["pos_embed"], image_size // 16
    patches = table[:, 1:].reshape(1, 14, 14, 48).permute(0, 3, 1, 2)
    scale = (grid + margin) / 14
    patches = torch.nn.functional.interpolate(patches, scale_factor=(scale, scale), mode="bicubic")
    expected = torch.cat([table[:, :1], patches.permute(0, 2, 3, 1).reshape(1, -1, 48)], dim=1)
    np.testing.assert_allclose(new["image"]["position_embedding"], expected, atol=1e-5)
    assert "image/position_embedding" not in left


def test_weights_of_another_model_are_refused(params, dino_file, text_folder, clippy_file):
    wide = config(width=96, depth=4)
    with pytest.raises(InputError) as error:
        initialise(params, wide, image=dino_file)
    assert str(error.value) == (
        f"{dino_file} is of another model: config.model.image.width is 96, but 48 there; "
        "config.model.image.depth is 4, but 3 there; set the configuration to its sizes"
    )
    gated = configurations.model(text=configurations.text_tower(gated_mlp=True, vocabulary_size=320))
    with pytest.raises(InputError, match="config.model.text.gated_mlp is True, but False there"):
        initialise(params, gated, text=text_folder)
    with pytest.raises(InputError, match="config.model.image_projection is True, but False there"):
        initialise(params, dataclasses.replace(config(), image_projection=True), clippy=clippy_file)
    with pytest.raises(InputError, match="config.init.image: .* is a Sentence-T5 folder"):
        initialise(params, config(), image=text_folder)
    with pytest.raises(InputError, match="config.init.clippy: .* is a ViT backbone; a CLIPpy checkpoint is wanted"):
        initialise(params, config(), clippy=dino_file)


@pytest.mark.parametrize("form", ["file", "folder holding the file", "converted folder"])
def test_a_tower_is_taken_out_of_a_whole_clippy(params, clippy_file, text_folder, tmp_path, form):
    source = str(tmp_path / "x")
    match form:
        case "file":
            source = clippy_file
        case "folder holding the file":
            (tmp_path / "x").mkdir()
            (tmp_path / "x" / "weights.pt").symlink_to(clippy_file)
        case "converted folder":
            write_converted_folder(source, dataclasses.replace(load_checkpoint(clippy_file), tokenizer=text_folder))
    whole, _ = initialise(params, config(), clippy=clippy_file)
    for towers in {"image": source}, {"text": source}, {"image": source, "text": source}:
        loaded, left = initialise(params, config(), **towers)
        same_tree(loaded, {**params, **{part: whole[part] for part in towers}})
        assert left == [name for name in names(params) if name.split("/")[0] not in towers]
    joined, _ = from_towers(source, source)
    same_tree(joined.params["image"], whole["image"])
    assert joined.tokenizer == (f"{source}/tokenizer" if form == "converted folder" else None)
