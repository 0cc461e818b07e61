"""What a soak prints, writes and goes on from; its promises are tried by `make soak`."""

import json
import types

import pytest

from tools.soak.__main__ import PARTS, main
from tools.soak.memory import Watch
from tools.soak.promises import Promise


def part(name: str, *promises: Promise) -> types.ModuleType:
    module = types.ModuleType(f"tools.soak.{name}")
    module.PROMISES = promises
    return module


def test_each_promise_is_tried_once_and_one_that_does_not_hold_is_told(tmp_path, capsys):
    tried = []

    def tries(name, *results):
        return Promise(name, "nothing", lambda folder: tried.append((name, folder.is_dir())) or iter(results))

    parts = [part("good", tries("it holds", "", "")), part("bad", tries("it does not", "", "it rained"))]
    arguments = [f"--output={tmp_path}/soak.json"]
    assert main([*arguments, "--only=good"], parts) == 0
    assert main(arguments, parts) == 1
    printed = capsys.readouterr().out
    assert "| it does not |     2 |    1 |       0 |" in printed and "NOT HELD, it does not: it rained" in printed
    assert tried == [("it holds", True), ("it does not", True)]
    main([*arguments, "--only=good", "--again"], parts)
    assert [name for name, _ in tried] == ["it holds", "it does not", "it holds"]
    written = json.loads((tmp_path / "soak.json").read_text())
    assert [(each["tried"], each["held"]) for each in written["promises"]] == [(2, 2), (2, 1)]
    assert written["environment"]["device"] == "CPU"


def test_a_promise_that_was_never_tried_does_not_hold(tmp_path):
    empty = part("empty", Promise("nothing", "nothing", lambda folder: iter(())))
    assert main([f"--output={tmp_path}/soak.json"], [empty]) == 1


def test_every_promise_has_a_name_of_its_own():
    promises = [promise.text for each in PARTS for promise in each.PROMISES]
    assert len(set(promises)) == len(promises) > 20


@pytest.mark.parametrize("growth, highest", [(0.0, 0.0), (0.002, 0.06)])
def test_checkpoints_are_no_leak_and_what_stays_is(growth, highest):
    """Every hundred steps a checkpoint, for longer than what lies between two of them."""
    watch = Watch(types.SimpleNamespace(pid="none", lines=[]))
    watch.samples = [
        (step, (27 if step % 100 < 60 else 18) * (1 + growth * step / 20), 0, 0) for step in range(500, 2000, 5)
    ]
    low, high = watch.spread(1, 500, 2000)
    assert high == pytest.approx(highest, abs=0.01) and (low < -0.03) == bool(growth)
