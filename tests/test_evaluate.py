import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from clippy_jax import evaluate
from clippy_jax.weights.parameter_digest import parameter_digest
from tests.evaluators import trees
from tests.evaluators.fake_model import FakeModel


@pytest.fixture
def checkpoint(monkeypatch, tmp_path_factory):
    """A model that `--checkpoint=model` names."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    model = FakeModel(8)
    model.params = {"matrix": model.matrix}
    model.tokenizer = SimpleNamespace(digest=lambda: "words")
    monkeypatch.setattr(evaluate, "load_model", lambda checkpoint, tokenizer: model)
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
    low, high = results["voc"]["intervals"]["miou"]
    assert low < results["voc"]["miou"] < high
    assert f"| {100 * results['voc']['miou']:.1f} [{100 * low:.1f}, {100 * high:.1f}] |" in " ".join(printed.split())
    assert "paper" not in printed  # these words are not VOC's: nothing published compares
    written = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert written == ["results.counts.npz", "results.json"]


def test_shows_published_numbers_beside_the_real_words(tmp_path, checkpoint, capsys):
    """Only beside figures of their own protocol, split, options and resolution."""
    tree = trees.voc_tree(tmp_path / "voc", [(40, 40)] * 2, "train", words=False)
    shutil.copy(tree / "ImageSets/Segmentation/train.txt", tree / "ImageSets/Segmentation/val.txt")

    def printed(*flags) -> str:
        evaluate.main(["--checkpoint=model", f"--voc={tree}", "--batch_size=8", *flags])
        return capsys.readouterr().out

    public = printed("--voc_protocol=public", "--image_size=224")
    assert "42.1" in public and "paper" not in public and "2 images of train; protocol: public" in public
    standard = printed("--image_size=224")
    assert "paper, CC-12M" in standard and "50.8" in standard and "notebook" not in standard
    for other in ("--voc_split=train", "--segmentation_resize=square", "--image_size=232"):
        assert "paper" not in (text := printed("--image_size=224", other)) and "notebook" not in text


def test_options_reach_their_evaluations(tmp_path, checkpoint):
    trees.voc_tree(tmp_path / "voc", [(40, 48)] * 3)
    output = tmp_path / "results.json"
    tree = f"{tmp_path}/voc"
    flags = [f"--voc={tree}", "--segmentation_resize=square", f"--grouping={tree}", "--grouping_by=attention"]
    evaluate.main(["--checkpoint=model", *flags, "--batch_size=8", f"--output={output}"])
    results = json.loads(output.read_text())
    assert results["voc"]["options"]["resize"] == "square" and "attention" in results["grouping"]["protocol"]


def test_classes_are_embedded_once_for_each_checkpoint(tmp_path, checkpoint):
    trees.image_folder(tmp_path / "val", 8)
    command = ["--checkpoint=model", f"--imagenet={tmp_path}/val", "--batch_size=8", f"--output={tmp_path}/out.json"]
    evaluate.main(command)
    first = json.loads((tmp_path / "out.json").read_text())
    assert len(checkpoint.encoded) == 1
    evaluate.main(command)
    assert len(checkpoint.encoded) == 1
    again = json.loads((tmp_path / "out.json").read_text())
    assert {**first["imagenet"], "seconds": 0} == {**again["imagenet"], "seconds": 0}
    checkpoint.params = {"matrix": 2 * checkpoint.matrix}
    evaluate.main(command)
    assert len(checkpoint.encoded) == 2
    checkpoint.class_embedding_cache = None
    evaluate.main([*command, "--class_cache="])
    assert len(checkpoint.encoded) == 3


def test_what_is_measured_is_not_lost_with_what_comes_after_it(tmp_path, checkpoint, capsys):
    trees.image_folder(tmp_path / "val", 8)
    trees.voc_tree(tmp_path / "voc", [(40, 40)])
    data = [f"--imagenet={tmp_path}/val", f"--voc={tmp_path}/voc", "--segmentation_window=64"]
    with pytest.raises(SystemExit):
        evaluate.main(["--checkpoint=model", *data, "--batch_size=8", f"--output={tmp_path}/results.json"])
    printed = capsys.readouterr()
    assert "window=64 must be" in printed.err.splitlines()[-1] and "top-1" in printed.out
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"imagenet"}


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "nothing to evaluate; add one of --imagenet, --imagenet_v2, --wds, --voc,"),
        (["--voc=nowhere"], "nowhere is not a folder"),
        (["--imagenet=nowhere"], "nowhere is not a folder"),
        (["--voc=TREE", "--voc_protocol=other"], "--voc_protocol: invalid choice: 'other'"),
        (["--imagenet=TREE", "--voc_protocol=public"], "--voc_protocol belongs to an evaluation that is not asked for"),
        (["--voc=TREE", "--segmentation_stride=8"], "stride=8 needs a window"),
        (["--voc=TREE", "--segmentation_protocol=other"], "protocol 'other' is not known; known here: standard"),
        (
            ["--voc=TREE", "--voc_protocol=public", "--segmentation_protocol=sclip"],
            "--voc_protocol and --segmentation_protocol say the same; give one of them",
        ),
        (["--waterbirds=TREE"], "metadata.csv does not exist"),
        (["--knn=TREE"], "train is not a folder; "),
        (["--voc=TREE", "--voc_split=test"], "test.txt does not exist; splits of this tree: val"),
        (["--voc=TREE", "--output=nowhere/results.json"], "nowhere is not a folder that can be written to"),
        (["--voc=TREE", "--batch_size=12"], "batch_size is 12, which 8 devices do not divide"),
        (["--voc=TREE", "--image_size=30"], "image_size is 30, which patches of 8 pixels do not divide"),
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
