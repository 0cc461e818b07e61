import json
import os
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest

from clippy_jax import compare, reproduce
from clippy_jax.datasets import label_layouts as layouts
from clippy_jax.evaluators import Segmentation, Waterbirds, ZeroShotClassification
from clippy_jax.evaluators.evaluator import Evaluator
from tests.evaluators import label_trees, trees
from tests.evaluators.fake_model import FakeModel


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Some of the data sets, where their distributors' archives put them."""
    root = tmp_path_factory.mktemp("data")
    trees.image_folder(root / "imagenet/val", 20)
    label_trees.tree(root / "VOCdevkit/VOC2012", layouts.VOC, [(40, 48), (48, 40)])
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text("000000000000\n")
    label_trees.tree(root / "cityscapes", layouts.CITYSCAPES_19, [(40, 48)])
    trees.waterbirds_tree(root / "waterbirds", "00110101", "01010011", "22222222")
    trees.wds(root / "wds/wds_fruit", 7)
    return root


@pytest.fixture
def models(monkeypatch, tmp_path):
    """What `--checkpoint=a`, `b` and `c` load."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def load(checkpoint: str, tokenizer: str | None) -> FakeModel:
        model = FakeModel(8)
        model.matrix = np.random.default_rng(ord(checkpoint)).normal(size=model.matrix.shape).astype(np.float32)
        model.params = {"matrix": model.matrix}
        model.config.pooling = {"a": "max", "b": "cls", "c": "max"}[checkpoint]
        model.tokenizer = SimpleNamespace(digest=lambda: "words")
        return model

    monkeypatch.setattr(reproduce, "load_model", load)
    return load


@pytest.fixture
def ran(monkeypatch):
    """The classes of the evaluators that ran."""
    names, run = [], Evaluator.run

    def noted(self, *arguments, **more):
        names.append(type(self).__name__)
        return run(self, *arguments, **more)

    monkeypatch.setattr(Evaluator, "run", noted)
    return names


def command(data, output, *more):
    return [f"--data={data}", f"--output={output}", "--batch_size=8", "--segmentation_protocols=sclip", *more]


def tables(page: str) -> dict[str, list[list[str]]]:
    """The rows of each section's table."""
    found = {}
    for section in page.split("\n## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("| ")]
        found[section.splitlines()[0]] = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return found


def test_every_table_has_our_figures_the_published_ones_and_says_what_is_missing(data, models, tmp_path):
    reproduce.main(["--checkpoint=a", *command(data, tmp_path / "report", "--training=cls=b")])
    page = (tmp_path / "report/report.md").read_text()
    of = tables(page)
    settings = dict(batch_size=8, image_size=32)
    top1 = ZeroShotClassification(f"{data}/imagenet/val").run(models("a", None), **settings).cell("top1")
    assert of["Zero-shot classification (paper, section 4.1; notebook of the public PyTorch code)"][1][1:] == [
        *(top1, "100.0 [100.0, 100.0]", "")
    ]
    pooling = of["How tokens become one embedding (paper, Table 9, CC-12M)"]
    miou = {
        name: Segmentation(f"{data}/VOCdevkit/VOC2012").run(models(name, None), **settings).cell("miou")
        for name in "ab"
    }
    assert [row[0] for row in pooling[1:3]] == ["this checkpoint, max pooling", "ours, cls"]
    assert [row[2] for row in pooling[1:3]] == [miou["a"], miou["b"]]
    assert pooling[3] == ["paper, max", "42.3", "50.8", "47.5"]
    assert 'add `--training="avg=WORKDIR"`' in page and 'add `--training="cls=WORKDIR"`' not in page
    birds = of["Waterbirds (paper, Figure 4 and its text)"]
    assert [row[0] for row in birds[1:7:2]] == [f"this checkpoint: landbird, {size} pixels" for size in (32, 48, 64)]
    assert [row[0] for row in birds[7:13:2]] == [f"cls: landbird, {size} pixels" for size in (32, 48, 64)]
    at_64 = Waterbirds(f"{data}/waterbirds").run(models("a", None), batch_size=8, image_size=64)
    assert birds[6][3] == at_64.cell("gap_waterbird") and birds[13][1:] == ["76.9", "74.9", "2.0"]
    eight = of["Open-vocabulary segmentation, protocol sclip"]
    assert eight[2] == ["SCLIP", "59.6", "31.7", "33.5", "81.5", "32.3", "34.5", "16.4", "22.8", "39.1"]
    assert [bool(cell) for cell in eight[1][1:]] == [True, False, False, True, True, False, False, False, False]
    assert of["Other data"][1][0] == "wds_fruit"
    for missing in ("ImageNet-v2", "ADE20K", "COCO 2017", "PASCAL Context", "COCO captions"):
        assert f"- {missing}: take " in page
    assert "python -m clippy_jax.evaluate --checkpoint=a --imagenet=" in page and "sha256:" in page
    assert "Ours of imagenet and the published figures are not of the same images" in page


def test_the_page_needs_nothing_else_and_every_plot_is_there(data, models, tmp_path):
    reproduce.main(["--checkpoint=a", *command(data, tmp_path)])
    html = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', html) and html.count("data:image/png;base64,") == 2
    plots = re.findall(r"!\[[^\]]+\]\((\S+)\)", (tmp_path / "report.md").read_text())
    assert plots == ["waterbirds.png", "open_vocabulary_sclip.png"]
    assert all((tmp_path / plot).read_bytes().startswith(b"\x89PNG") for plot in plots)
    assert "<code>python -m clippy_jax.evaluate" in html and "&lt;" not in html.replace("&lt;class", "")


def test_what_is_kept_is_not_measured_again_unless_something_changed(data, models, tmp_path, ran):
    reproduce.main(["--checkpoint=a", *command(data, tmp_path)])
    first, count = (tmp_path / "report.md").read_text(), len(ran)
    reproduce.main(["--checkpoint=a", *command(data, tmp_path)])
    assert len(ran) == count and (tmp_path / "report.md").read_text() == first
    (tmp_path / "results/checkpoint/grouping.json").write_text("cut sh")
    (tmp_path / "results/checkpoint/imagenet.counts.npz").unlink()
    del ran[:]
    reproduce.main(["--checkpoint=a", *command(data, tmp_path)])
    assert sorted(ran) == ["Grouping", "ZeroShotClassification"]
    del ran[:]
    os.utime(data / "cityscapes", (time.time() + 60,) * 2)
    reproduce.main(["--checkpoint=a", *command(data, tmp_path)])
    assert ran == ["Segmentation"]
    os.utime(data / "cityscapes")
    del ran[:]
    reproduce.main(["--checkpoint=c", *command(data, tmp_path)])
    assert len(ran) == count
    results = tmp_path / "results/checkpoint"
    assert json.loads((results / "imagenet.json").read_text())["imagenet"]["checkpoint"] == "c"
    assert compare.compared(results / "voc-sclip.json", results / "voc-sclip.json")
    del ran[:]
    reproduce.main(["--checkpoint=c", *command(data, tmp_path, "--tokenizer=other words")])
    assert len(ran) == count
    assert (
        "clippy_jax.evaluate --checkpoint=c '--tokenizer=other words' --imagenet="
        in (tmp_path / "report.md").read_text()
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--data=nowhere"], "--data=nowhere is not a folder"),
        (["--data=EMPTY"], "EMPTY holds none of the data sets: imagenet/val, "),
        (["--segmentation_protocols=sclip,other"], "--segmentation_protocols has 'other'; known here: standard,"),
        (["--training=mean=b"], "--training=mean=b must be NAME=CHECKPOINT; the names are supervised image tower,"),
        (["--output=/dev/null/report"], "--output=/dev/null/report cannot be written"),
        (["--data=HALF"], "cityscapes has no gtFine/val; it must be a tree of Cityscapes"),
    ],
)
def test_wrong_commands_end_in_one_line_before_the_model_is_loaded(data, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.setattr(reproduce, "load_model", lambda *_: pytest.fail("checked too late"))
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "HALF/cityscapes/leftImg8bit/val").mkdir(parents=True)
    flags = [re.sub("=(EMPTY|HALF)", rf"={tmp_path}/\1", flag) for flag in flags]
    with pytest.raises(SystemExit):
        reproduce.main(["--checkpoint=a", *command(data, tmp_path / "report", *flags)])
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0].replace(f"{tmp_path}/", "")
