import json

import PIL.Image
import pytest

import clippy_jax.inference
from clippy_jax.analysis import resolution_curve
from clippy_jax.evaluators.waterbirds import Waterbirds
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel
from tools import waterbirds_curve


@pytest.fixture(autouse=True)
def checkpoint(monkeypatch):
    model = FakeModel(8)
    model.params = {"matrix": model.matrix}
    monkeypatch.setattr(clippy_jax.inference, "load_model", lambda checkpoint, tokenizer: model)


@pytest.fixture
def tree(tmp_path):
    return trees.waterbirds_tree(tmp_path / "waterbirds", "0011010", "0101001", "2222222")


def command(tree, *more):
    return ["--checkpoint=a", f"--waterbirds={tree}", f"--output={tree}/curve.json", "--batch_size=8", *more]


def test_writes_each_resolution_of_each_model_and_a_plot(tree, capsys):
    waterbirds_curve.main(command(tree, "--checkpoint=b", "--image_sizes=48,32", "--choices=two-way"))
    curves = json.loads((tree / "curve.json").read_text())
    assert list(curves) == ["a", "b"]
    for curve in curves.values():
        assert [point["image_size"] for point in curve] == [32, 48]
        assert all(point["images"] == 7 and point["checkpoint_digest"].startswith("sha256:") for point in curve)
        direct = Waterbirds(str(tree), "two-way").run(FakeModel(), batch_size=8, image_size=48)
        assert [cell["accuracy"] for cell in curve[1]["cells"]] == [cell.accuracy for cell in direct.cells]
    with PIL.Image.open(tree / "curve.png") as plot:
        assert plot.width > 2 * plot.height * 0.9  # two panels
    assert capsys.readouterr().out.count("worst group") == 4


def test_the_lines_are_the_groups_accuracies(tree):
    results = [Waterbirds(str(tree)).run(FakeModel(), batch_size=8, image_size=size) for size in (32, 40)]
    (panel,) = resolution_curve.draw({"a": {result.image_size: result.cells for result in results}}).axes
    assert [line.get_label() for line in panel.lines] == [
        "landbird on land",
        "landbird on water",
        "waterbird on water",
        "waterbird on land",
    ]
    for group, line in enumerate(panel.lines):
        assert line.get_xdata().tolist() == [32, 40]
        assert line.get_ydata().tolist() == [100 * result.cells[group].accuracy for result in results]
        assert line.get_linestyle() == ("--" if group % 2 else "-")


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "the following arguments are required: --image_sizes"),
        (["--image_sizes=32,big"], "--image_sizes=32,big must be whole numbers with commas"),
        (["--image_sizes=30"], "--image_sizes is 30, which patches of 8 pixels do not divide"),
        (["--image_sizes=32", "--checkpoint=a"], "--checkpoint names one model more than once"),
        (["--image_sizes=32", "--output=curve.png"], "--output=curve.png must be a .json file"),
        (["--image_sizes=32", "--waterbirds=nowhere"], "nowhere/metadata.csv does not exist"),
    ],
)
def test_wrong_commands_end_in_one_line(tree, capsys, flags, message):
    with pytest.raises(SystemExit) as exit:
        waterbirds_curve.main(command(tree, *flags))
    error = capsys.readouterr().err
    assert exit.value.code == 1 and error.count("\n") == 1 and error.startswith("error: ") and message in error
