import json

import numpy as np
import pytest

import clippy_jax.inference
from clippy_jax import evaluate
from clippy_jax.evaluators.parameter_digest import parameter_digest
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel


@pytest.fixture
def checkpoint(monkeypatch):
    """A model that `--checkpoint=model` names."""
    model = FakeModel(8)
    model.params = {"matrix": model.matrix}
    monkeypatch.setattr(clippy_jax.inference, "load_model", lambda checkpoint, tokenizer: model)
    return model


def test_writes_figures_with_all_that_they_depend_on(tmp_path, checkpoint, capsys):
    trees.image_folder(tmp_path / "imagenet" / "val", 20)
    trees.voc_tree(tmp_path / "voc", [(40, 40)] * 5)
    output = tmp_path / "results.json"
    output.write_text("an older file")
    evaluate.main(
        [
            "--checkpoint=model",
            f"--imagenet={tmp_path}/imagenet/val",
            f"--voc={tmp_path}/voc",
            "--batch_size=8",
            f"--output={output}",
        ]
    )
    results = json.loads(output.read_text())
    assert set(results) == {"imagenet", "voc"}
    for result in results.values():
        assert result["checkpoint"] == "model" and result["checkpoint_digest"] == parameter_digest(checkpoint.params)
        assert {"protocol", "split", "resolution", "prompt_set", "pooling", "images", "seconds"} <= set(result)
    assert results["imagenet"]["images"] == 20 and 0 <= results["imagenet"]["top1"] <= results["imagenet"]["top5"]
    assert results["voc"]["protocol"] == "standard" and 0 <= results["voc"]["miou"] <= 1
    assert results["voc"]["per_class_iou"].keys() == set(trees.CLASSES)
    printed = capsys.readouterr().out
    assert (
        f"| this checkpoint | {100 * results['voc']['miou']:.1f} |".split()
        == next(line for line in printed.splitlines()[::-1] if "this checkpoint" in line)
        .replace(f"{100 * results['voc']['pixel_accuracy']:.1f} |", "")
        .split()
    )
    assert "paper" not in printed  # these words are not VOC's: nothing published compares
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["results.json"]


def test_shows_published_numbers_beside_the_real_words(tmp_path, checkpoint, capsys):
    trees.voc_tree(tmp_path / "voc", [(40, 40)] * 2, "train", words=False)
    evaluate.main(["--checkpoint=model", f"--voc={tmp_path}/voc", "--voc_protocol=public", "--batch_size=8"])
    printed = capsys.readouterr().out
    assert "paper, CC-12M" in printed and "50.8" in printed and "42.1" in printed
    assert "2 images of train; protocol: public" in printed


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "nothing to evaluate; add --imagenet=DIR or --voc=DIR"),
        (["--voc=nowhere"], "nowhere is not a folder"),
        (["--imagenet=nowhere"], "nowhere is not a folder"),
        (["--voc=TREE", "--voc_protocol=other"], "--voc_protocol: invalid choice: 'other'"),
        (["--voc=TREE", "--voc_split=test"], "test.txt does not exist; splits of this tree: val"),
        (["--voc=TREE", "--output=nowhere/results.json"], "nowhere is not a folder that can be written to"),
        (["--voc=TREE", "--batch_size=12"], "batch_size is 12, which 8 devices do not divide"),
        (["--voc=TREE", "--image_size=30"], "image_size=30 is not a multiple of the model's patch size 8"),
        (["--voc=TREE", "--batchsize=8"], "unrecognized arguments: --batchsize=8"),
    ],
)
def test_wrong_commands_end_in_one_line(tmp_path, checkpoint, capsys, flags, message):
    trees.voc_tree(tmp_path / "voc", [(40, 40)])
    flags = [flag.replace("TREE", str(tmp_path / "voc")) for flag in flags]
    with pytest.raises(SystemExit) as exit:
        evaluate.main(["--checkpoint=model", *flags])
    error = capsys.readouterr().err.splitlines()
    assert exit.value.code == 1 and error[-1].startswith("error: ") and message in error[-1]


def test_the_digest_follows_names_and_values():
    params = {"a": np.arange(6.0).reshape(2, 3), "b": np.float32(2)}
    digest = parameter_digest(params)
    assert digest == parameter_digest({"b": np.float32(2), "a": np.arange(6.0).reshape(2, 3)})
    for other in (params | {"b": np.float32(3)}, params | {"a": np.arange(6.0)}, {"a": params["a"], "c": params["b"]}):
        assert parameter_digest(other) != digest
