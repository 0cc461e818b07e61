import json
import shutil

import numpy as np
import pytest

import clippy_jax
from clippy_jax.command_line import Parser
from clippy_jax.main import parse_with_config
from tests import small_run
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tools import demo, frozen_towers


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """The stages that take minutes, replaced: trees in Shapes' place, and a model for each workdir."""
    monkeypatch.chdir(tmp_path)
    trees.image_folder(tmp_path / demo.DATA / "imagenet/test", 9)
    trees.voc_tree(tmp_path / demo.DATA / "voc", [(40, 40)] * 4, "test")
    (tmp_path / demo.DATA / "dataset.json").write_text('{"version": 7}')
    shutil.copytree(small_run.ROOT / "configs", tmp_path / "configs")
    commands = []
    monkeypatch.setattr(demo, "run", lambda *command: commands.append(command) or 1.0)

    def load(workdir: str) -> FakeModel:
        model = FakeModel(8)
        seed = [frozen_towers.workdir(name) for name in frozen_towers.TRAININGS].index(workdir)
        model.matrix = model.matrix + np.random.default_rng(seed).normal(size=model.matrix.shape).astype(np.float32)
        model.params = {"matrix": model.matrix}
        return model

    monkeypatch.setattr(clippy_jax, "load", load)
    return commands


def test_every_training_starts_from_the_same_towers_and_is_measured(commands, tmp_path, capsys):
    frozen_towers.main(["--steps=16", "--output=table.json"])
    parser = Parser("main", "a training")
    for flag in ("--config", "--workdir"):
        parser.add_argument(flag)
    start, both, image, text, every = (
        parse_with_config(parser, flags)[2] for module, *flags in commands if module == "clippy_jax.main"
    )
    assert start.model.pooling == "cls" and "others" in start.input.train and not start.init.image
    for config in (both, image, text, every):
        assert config.init.image == config.init.text == frozen_towers.START and config.model.pooling == "max"
        assert config.schedule.stop_step == config.schedule.decay_steps == 16
    assert [config.optimizer.freeze for config in (both, image, text, every)] == [(), ("image",), ("text",), ()]
    assert both.model.image.patch_dropout > 0.8 and every.model.image.patch_dropout == 0
    assert (both.input.image_size, every.input.image_size) == (frozen_towers.SIZE, frozen_towers.HALF)

    written = json.loads((tmp_path / "table.json").read_text())
    assert list(written["rows"]) == list(frozen_towers.ROWS) and written["steps"] == 16
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in shown[1:6]] == list(frozen_towers.ROWS)
    assert "24.2" in shown[7] and "51.8" in shown[10]
    for row, (name, size) in frozen_towers.ROWS.items():
        run = json.loads((frozen_towers.FOLDER / f"{name.replace(' ', '-')}-{size}.json").read_text())
        assert run["segmentation"]["split"] == "test" and run["segmentation"]["image_size"] == size
        figures = written["rows"][row]["figures"]
        assert figures["accuracy"]["value"] == run["classification"]["top1"]
        assert figures["mIoU"] == {
            "value": run["segmentation"]["miou"],
            "interval": run["segmentation"]["intervals"]["miou"],
        }


def test_no_step_is_refused(commands, capsys):
    with pytest.raises(SystemExit):
        frozen_towers.main(["--steps=0"])
    assert capsys.readouterr().err == "error: --steps=0 must be at least 1\n"
