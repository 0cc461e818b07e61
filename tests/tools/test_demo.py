"""The demo's commands, in its order, on a model that is really trained: a small one, for two steps, on a few images."""

import json
import shutil

import numpy as np
import PIL.Image

import clippy_jax
from clippy_jax.datasets import image_folder
from tests import programs, small_run
from tools import demo

CONFIG = """
import runpy

def get_config():
    config = runpy.run_path({real!r})["get_config"]()
    config.update_from_flattened_dict({values!r})
    return config
"""


def test_data_to_segments(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", programs.python())
    monkeypatch.setenv("PYTHONPATH", str(small_run.ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = small_run.values(tmp_path / demo.DATA, schedule__stop_step=2)
    monkeypatch.setattr(demo, "render", lambda: 0.0)  # what the line above did, in the demo's own size
    monkeypatch.setattr(demo, "WORKDIRS", {"max": demo.WORKDIRS["max"]})
    (tmp_path / "configs").mkdir()
    real = str(small_run.ROOT / "configs/shapes.py")
    (tmp_path / "configs/shapes.py").write_text(CONFIG.format(real=real, values=values))
    demo.main(["--install_seconds=7"])

    written = json.loads(demo.RESULTS.read_text())
    assert list(written["seconds"]) == ["install", "data", "train max", "evaluate max", "segment"]
    figures = written["pooling"]["max"]
    assert figures["voc"]["images"] == figures["imagenet"]["images"] == 28 and 0 <= figures["voc"]["miou"] <= 1
    with PIL.Image.open(demo.SEGMENTS) as sheet:
        assert sheet.width > 3 * 224 and sheet.height > 3 * 224
    printed = capfd.readouterr().out
    assert f" {100 * figures['voc']['miou']:.1f} [" in printed and "$ python -m clippy_jax.segment" in printed

    model = clippy_jax.load(str(demo.WORKDIRS["max"]))
    tree = image_folder.read(f"{demo.DATA}/imagenet/val")
    _, pooled = model.encode_image(tree.names)
    answers = np.argmax(np.asarray(pooled) @ model.class_embeddings(tree.vocabulary.prompts()).T, axis=1)
    assert figures["imagenet"]["top1"] == np.mean(answers == tree.labels)
    assert model.segment(tree.names[0], ["apple", "zebra", "grass"]).shape == (32, 32)
    shutil.rmtree(tmp_path / "runs")
