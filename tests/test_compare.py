import json
import pathlib
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from clippy_jax import compare, evaluate
from clippy_jax.errors import InputError
from clippy_jax.evaluators.result import counts_path, write_results
from tests.evaluators import test_tasks, trees
from tests.evaluators.fake_model import FakeModel


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Evaluates models that differ in their seed, on the data of flags."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(name: str, seed: int, *flags: str):
        model = FakeModel(8)
        model.matrix = np.random.default_rng(seed).normal(size=model.matrix.shape).astype(np.float32)
        model.params = {"matrix": model.matrix}
        model.tokenizer = SimpleNamespace(digest=lambda: "words")
        monkeypatch.setattr(evaluate, "load_model", lambda checkpoint, tokenizer: model)
        evaluate.main(["--checkpoint=model", *flags, "--batch_size=8", f"--output={tmp_path}/{name}.json"])
        return tmp_path / f"{name}.json"

    return run


@pytest.mark.parametrize("task", ["imagenet", "voc", "grouping", "waterbirds", "retrieval", "knn"])
def test_every_measure_is_compared_in_its_own_figures(tmp_path, evaluated, task):
    path, _ = test_tasks.write(task, tmp_path / "data")
    files = [evaluated(name, seed, f"--{task}={path}") for name, seed in (("a", 7), ("b", 8))]
    rows = compare.compared(*files)
    results = [json.loads(file.read_text())[task] for file in files]
    assert [row.name for row in rows] == [f"{task} {figure}" for figure in results[0]["counts"]]
    for row in rows:
        figure = row.name.removeprefix(f"{task} ")
        assert (row.first, row.second) == (results[0][figure], results[1][figure])
        assert row.difference.value == pytest.approx(row.second - row.first, abs=1e-12)
    assert all(
        row.difference.p_value == 1 and row.difference.value == 0 for row in compare.compared(files[0], files[0])
    )


def test_accuracy_is_compared_by_mcnemar(tmp_path, evaluated, capsys):
    trees.image_folder(tmp_path / "val", 90)
    files = [evaluated(name, seed, f"--imagenet={tmp_path}/val") for name, seed in (("a", 7), ("b", 8))]
    right = [np.load(tmp_path / f"{name}.counts.npz")["imagenet/top1"].astype(bool) for name in "ab"]
    only = [int((one & ~other).sum()) for one, other in (right, right[::-1])]
    top1 = compare.compared(*files)[0]
    assert sum(only) > 5 and top1.first == right[0].mean()
    assert top1.difference.p_value == pytest.approx(scipy.stats.binomtest(only[0], sum(only)).pvalue)
    compare.main([*map(str, files), f"--output={tmp_path}/plot.png"])
    assert f"{top1.difference.p_value:.3f}" in capsys.readouterr().out
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_counts_are_not_written_without_the_results(tmp_path, monkeypatch):
    def full(*arguments):
        raise InputError("results.json cannot be written: No space left on device")

    monkeypatch.setattr("clippy_jax.evaluators.result.write_json", full)
    with pytest.raises(InputError, match="results.json cannot be written"):
        write_results({}, tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compared_is_one_line(tmp_path, evaluated, capsys):
    trees.image_folder(tmp_path / "val", 20)
    trees.image_folder(tmp_path / "other", 23)
    trees.voc_tree(tmp_path / "voc", [(40, 40)] * 3)
    first = evaluated("a", 7, f"--imagenet={tmp_path}/val")

    def refused(*arguments) -> str:
        with pytest.raises(SystemExit):
            compare.main([str(argument) for argument in arguments])
        return capsys.readouterr().err.splitlines()[-1]

    other = evaluated("other", 7, f"--imagenet={tmp_path}/other")
    assert "are of different images; 3 are in one of them only" in refused(first, other)
    assert "a.json has imagenet" in refused(first, evaluated("voc", 7, f"--voc={tmp_path}/voc"))
    assert "must end in .png" in refused(first, first, "--output=plot.txt")
    assert "missing.json cannot be read as JSON (No such file" in refused(first, tmp_path / "missing.json")
    (tmp_path / "wrong.json").write_text('{"a": 1}')
    assert "holds no results of clippy_jax.evaluate" in refused(first, tmp_path / "wrong.json")
    results = json.loads(first.read_text())
    del results["imagenet"]["top1"]
    (tmp_path / "less.json").write_text(json.dumps(results))
    shutil.copy(tmp_path / "a.counts.npz", tmp_path / "less.counts.npz")
    assert "does not belong to less.json (less.json lacks a figure)" in refused(first, tmp_path / "less.json")
    (tmp_path / "alone.json").write_text(first.read_text())
    assert "alone.counts.npz does not exist" in refused(first, tmp_path / "alone.json")
    (tmp_path / "alone.counts.npz").write_bytes(b"no archive")
    assert "alone.counts.npz does not belong to alone.json" in refused(first, tmp_path / "alone.json")
    evaluated("second", 8, f"--imagenet={tmp_path}/val")
    shutil.copy(tmp_path / "second.counts.npz", tmp_path / "alone.counts.npz")
    assert "does not belong to alone.json (it gives other figures)" in refused(first, tmp_path / "alone.json")


def test_results_of_any_name_have_counts_of_their_own():
    places = [counts_path(pathlib.Path(name)).name for name in ("run.json", "run.1", "run.2")]
    assert places[0] == "run.counts.npz" and len(set(places)) == 3


def test_the_same_images_in_another_folder_are_the_same(tmp_path, evaluated):
    files = []
    for name in ("a", "b"):
        trees.voc_tree(tmp_path / name / "voc", [(50, 40), (40, 50), (50, 40)])
        files.append(evaluated(name, 7, f"--voc={tmp_path / name / 'voc'}"))
    assert {row.difference.value for row in compare.compared(*files)} == {0}
