import subprocess
import sys

import pytest

from clippy_jax.shapes.__main__ import main


def shapes(*flags):
    return subprocess.run(
        [sys.executable, "-m", "clippy_jax.shapes", *flags], capture_output=True, text=True, timeout=60, check=False
    )


def test_renders_then_finds_it_complete(tmp_path):
    flags = f"--output={tmp_path / 'data'}", "--train_pairs=30", "--evaluation_images=8", "--image_size=16"
    first = shapes(*flags)
    assert first.returncode == 0, first.stderr
    assert "preview.png" in first.stdout and "train/00000.tar" in first.stdout
    assert "81/81" in first.stderr and "images/s" in first.stderr
    second = shapes(*flags)
    assert second.returncode == 0 and "nothing to do" in second.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--output"),
        (["--output=x", "--train_pairs=0"], "train_pairs"),
        (["--output=x", "--image_size=big"], "image_size"),
        (["--output=x", "--trainpairs=3"], "trainpairs"),
        (["--output=x", "--seed=-1"], "seed"),
        (["--output=x", "more"], "more"),
        (["--output=/dev/null/x"], "/dev/null/x"),
    ],
)
def test_a_wrong_flag_ends_in_one_line(flags, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["shapes", *flags])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    assert message in said.err and not said.out
