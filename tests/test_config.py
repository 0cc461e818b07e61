import dataclasses
import pathlib
import runpy

import absl.flags
import pytest
from ml_collections import ConfigDict, config_flags

from clippy_jax.config import Config, TaskConfig, parse, parse_model
from clippy_jax.errors import InputError
from clippy_jax.evaluators.tasks import TASKS
from clippy_jax.models import vit

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def values_of(name: str) -> ConfigDict:
    values = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    values.input.train = values.input.train or "data.tar"
    values.input.tokenizer = values.input.tokenizer or "tokenizer"
    return values


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_configuration_file_fits_the_schema(path):
    assert isinstance(parse(values_of(path.stem)), Config)


def test_b16_is_the_public_recipe():
    config = parse(values_of("b16"))
    assert (config.input.batch_size, config.input.image_size, config.input.text_length) == (8192, 224, 77)
    assert (config.input.crop_scale, config.input.crop_ratio, config.input.flip) == ((0.9, 1.0), (3 / 4, 4 / 3), False)
    assert dataclasses.astuple(config.schedule) == (5e-4, 10_000, 43_008, 5_000)
    assert dataclasses.astuple(config.optimizer) == (0.9, 0.999, 1e-8, 0.2, 0.0, ())
    assert (config.model.pooling, config.loss.reduction) == ("max_with_cls", "mean")
    assert (config.model.image.patch_dropout, config.model.text.dropout) == (0.0, 0.1)
    assert (config.model.precision, config.model.rematerialise) == ("float32", True)


def test_what_other_recipes_change():
    b16, paper, tokens, lit = (parse(values_of(name)) for name in ("b16", "paper", "b16_tokens", "lit_dinov2"))
    assert (paper.model.pooling, paper.loss.reduction) == ("max", "sum")
    assert paper.model.image == b16.model.image
    assert (tokens.model.pooling, tokens.loss.reduction) == ("max", "sum")
    assert (tokens.input.image_size, tokens.model.image.patch_dropout) == (448, 0.8)
    assert lit.optimizer.freeze == ("image",)
    assert vit.FAMILIES["dinov2 with registers"].items() <= dataclasses.asdict(lit.model.image).items()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pooling": "cls_and_avg"}, "with model.pooling=cls_and_avg set the latter to 1536"),
        ({"image.positions": "rotary", "image.heads": 128}, "a multiple of 4 features in each of 128 heads"),
        ({"image.gated_mlp": True, "image.map_head": True}, "gated_mlp has no GELU, and no MAP head that goes with it"),
    ],
)
def test_a_model_whose_fields_do_not_fit_is_refused(changes, message):
    model = values_of("b16").model
    model.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=message):
        parse_model(model)


def test_reads_back_what_it_wrote():
    config = parse(values_of("b16"))
    assert parse(dataclasses.asdict(config)) == config


def test_integers_stand_for_floats_but_not_the_other_way_round():
    values = values_of("b16").to_dict()
    values["optimizer"]["gradient_clip_norm"] = 1
    assert parse(values).optimizer.gradient_clip_norm == 1.0
    values["seed"] = 1.5
    with pytest.raises(InputError, match="config.seed must be int, not 1.5"):
        parse(values)
    values["optimizer"]["gradient_clip_norm"] = 10**400  # which no float holds
    with pytest.raises(InputError, match="config.optimizer.gradient_clip_norm must be a finite number, not 1000"):
        parse(values)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer.bet1", 0.9, "config.optimizer.bet1 is not a configuration key; did you mean 'beta1'?"),
        ("zzz", 1, "config.zzz is not a configuration key; known here: model, init, input"),
        ("model", 3, "config.model must be a group of fields, not 3"),
        (
            "model.pooling",
            "mean",
            "config.model.pooling must be one of 'max', 'max_with_cls', 'avg', 'cls', 'cls_and_avg', not 'mean'",
        ),
        ("model.rematerialise", 1, "config.model.rematerialise must be bool, not 1"),
        ("seed", True, "config.seed must be int, not True"),
        ("input.crop_scale", (0.9,), "config.input.crop_scale must have 2 items"),
        ("input.crop_scale", (0.9, "x"), r"config.input.crop_scale\[1\] must be float, not 'x'"),
        ("input.crop_ratio", 1.0, "config.input.crop_ratio must be a tuple, not 1.0"),
        ("input.text_length", 0, "config.input.text_length must be at least 1, not 0"),
        ("input.texts_per_pack", 0, "config.input.texts_per_pack must be at least 1, not 0"),
        ("input.image_size", 230, "config.input.image_size is 230, which patches of 16 pixels do not divide; use 224"),
        ("evals.image_size", 8, "config.evals.image_size is 8, which patches of 16 pixels do not divide; use 16"),
        ("model.image.image_size", 100, "model.image.image_size is 100, which patches of 16 pixels do not divide"),
        ("model.image.heads", 7, "model.image.width is 768, which its 7 heads do not divide"),
        ("model.image.patch_dropout", 1.0, r"model.image.patch_dropout must be in \[0, 1\), not 1.0"),
        ("model.text.embedding_width", 512, "model.text.embedding_width 512: set model.image_projection=True"),
        ("schedule.stop_step", 0, "config.schedule.stop_step must be at least 1, not 0"),
        ("log_every_steps", 0, "config.log_every_steps must be at least 1, not 0"),
        ("evals.batch_size", -1, "config.evals.batch_size must be at least 1, not -1"),
        ("evals.tasks", 3, "config.evals.tasks must be a group of fields, not 3"),
        ("evals.tasks.coco", "/coco", "config.evals.tasks.coco must be a group of fields, not '/coco'"),
        ("evals.tasks.coco", {"path": "/coco"}, "config.evals.tasks.coco.every_steps is missing; it must be int"),
        ("evals.tasks.voc.folder", "/voc", "config.evals.tasks.voc.folder is not a configuration key"),
        ("evals.tasks.voc.every_steps", -1, "config.evals.tasks.voc.every_steps must be at least 0, not -1"),
        ("optimizer.freeze", ("vision",), r"config.optimizer.freeze\[0\] must be one of 'image', 'text', not 'vision'"),
        ("optimizer.beta1", 7, r"config.optimizer.beta1 must be in \[0, 1\), not 7.0"),
        ("optimizer.beta2", 1.0, r"config.optimizer.beta2 must be in \[0, 1\), not 1.0"),
        ("optimizer.eps", -1.0, "config.optimizer.eps must be above 0, not -1.0"),
        ("optimizer.weight_decay", -0.1, "config.optimizer.weight_decay must be at least 0, not -0.1"),
        ("optimizer.gradient_clip_norm", float("nan"), "config.optimizer.gradient_clip_norm must be a finite number"),
        ("schedule.peak_learning_rate", float("inf"), "config.schedule.peak_learning_rate must be a finite number"),
        ("schedule.peak_learning_rate", -5e-4, "config.schedule.peak_learning_rate must be at least 0, not -0.0005"),
        ("schedule.warmup_steps", -1, "config.schedule.warmup_steps must be at least 0, not -1"),
        ("schedule.decay_steps", 9_999, "config.schedule.decay_steps is 9999, before the end of the warm-up"),
        ("input.crop_scale", (0.5, 0.2), r"crop_scale must be \(low, high\) with low <= high <= 1.0, not \(0.5, 0.2\)"),
        ("input.crop_scale", (0.5, 1.1), r"crop_scale must be \(low, high\) with low <= high <= 1.0, not \(0.5, 1.1\)"),
        ("input.crop_ratio", (0.0, 1.0), r"config.input.crop_ratio\[0\] must be above 0, not 0.0"),
        ("input.batch_size", 0, "config.input.batch_size must be at least 1, not 0"),
        ("input.seed", -1, r"config.input.seed must be from 0 to 2\*\*32 - 1, not -1"),
        ("seed", 2**40, r"config.seed must be from 0 to 2\*\*32 - 1, not 1099511627776"),
        ("microbatches", 0, "config.microbatches must be at least 1, not 0"),
        ("checkpoint.keep", 0, "config.checkpoint.keep must be at least 1, not 0"),
        ("checkpoint.every_minutes", -1.0, "config.checkpoint.every_minutes must be at least 0, not -1.0"),
        ("model.image.heads", 0, "config.model.image.heads must be at least 1, not 0"),
        ("model.image.patch_size", 0, "config.model.image.patch_size must be at least 1, not 0"),
        ("model.text.dropout", 1.5, r"config.model.text.dropout must be in \[0, 1\), not 1.5"),
        ("model.text.relative_buckets", 2, "config.model.text.relative_buckets must be at least 4, not 2"),
        ("model.text.relative_max_distance", 8, "relative_max_distance is 8; with 32 buckets it must be above 8"),
        ("profile_steps", (5,), r"config.profile_steps must be \(\) or \(first, last\)"),
        ("profile_steps", (0, 4), r"config.profile_steps\[0\] must be at least 1, not 0"),
        ("profile_steps", (5, 3), r"config.profile_steps must be \(\) or \(first, last\)"),
        ("input.train", "", "config.input.train is empty; name the training data"),
        ("input.tokenizer", "", "config.input.tokenizer is empty; name a folder"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(key, value, message):
    values = values_of("b16").to_dict()
    *groups, field = key.split(".")
    group = values
    for name in groups:
        group = group[name]
    group[field] = value
    with pytest.raises(InputError, match=message) as error:
        parse(values)
    assert "\n" not in str(error.value)


def test_evaluations_are_named_on_the_command_line():
    def parsed(*overrides) -> dict[str, TaskConfig]:
        given = ["--config.input.train=data.tar", "--config.input.tokenizer=tokenizer", *overrides]
        argv = ["main", f"--config={CONFIGS / 'b16.py'}", *given]
        flags = absl.flags.FlagValues()
        values = config_flags.DEFINE_config_file("config", flag_values=flags, sys_argv=argv)
        flags(argv)
        return parse(values.value).evals.tasks

    two = parsed("--config.evals.tasks.voc.path=/voc", "--config.evals.tasks.ade20k.every_steps=5")
    assert two == dict.fromkeys(TASKS, TaskConfig("", 1344)) | {
        "voc": TaskConfig("/voc", 1344),
        "ade20k": TaskConfig("", 5),
    }
    others = parsed("--config.evals.tasks={'waterbirds': {'path': '/birds', 'every_steps': 500}}")
    assert others == {"waterbirds": TaskConfig("/birds", 500)}


def test_a_missing_key_is_named():
    values = values_of("b16").to_dict()
    del values["schedule"]["warmup_steps"]
    with pytest.raises(InputError, match="config.schedule.warmup_steps is missing; it must be int"):
        parse(values)


def test_init_takes_a_whole_model_or_its_towers():
    values = values_of("b16")
    values.init.clippy, values.init.image = "clippy_5k.pt", "dino.pth"
    with pytest.raises(InputError, match="config.init.clippy brings both towers"):
        parse(values)


def test_a_projection_joins_towers_of_different_widths():
    values = values_of("b16").model.to_dict()
    values["text"]["embedding_width"] = 512
    values["image_projection"] = True
    assert parse_model(values).text.embedding_width == 512
