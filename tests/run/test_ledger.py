"""What a run has read: the same however often it was stopped, and by how many processes."""

import json

import pytest

from clippy_jax.datasets.sample import BadCounts
from clippy_jax.input_pipeline.accounts import Account
from clippy_jax.run.ledger import Ledger, read_digests
from clippy_jax.train import train_and_evaluate
from tests import inputs, small_run


def bad(cause, name, count=1):
    counts = BadCounts()
    counts.note(cause, name, count)
    return counts


def lines_of(workdir, process=0):
    return [json.loads(line) for line in (workdir / "ledger" / f"{process}.jsonl").read_text().splitlines()]


def test_goes_back_with_the_run(tmp_path, capsys):
    ledger = Ledger(tmp_path, digests=True, start_step=0)
    for step in range(1, 6):
        ledger.note(step, Account(bad("truncated", f"{step}.tar") if step % 2 else BadCounts(), 2**64 - step))
    ledger.note_update_left_out(4)
    assert ledger.bad_samples() == {"truncated": 3} and ledger.updates_left_out == 1
    assert "samples that cannot be used are replaced, such as 1.tar; " in capsys.readouterr().out
    ledger.close()
    assert lines_of(tmp_path)[2] == {
        "step": 3, "samples": f"{2**64 - 3:016x}", "bad": {"truncated": 1}, "first": ["3.tar"]
    }  # fmt: skip

    ledger = Ledger(tmp_path, digests=True, start_step=3)
    assert ledger.bad_samples() == {"truncated": 2} and ledger.updates_left_out == 0
    ledger.note(4, Account(bad("undecodable", "9.tar", 2), 7))
    ledger.close()
    assert Ledger(tmp_path, digests=True, start_step=4).bad_samples() == {"truncated": 2, "undecodable": 2}
    assert read_digests(tmp_path) == {
        1: "ffffffffffffffff", 2: "fffffffffffffffe", 3: "fffffffffffffffd", 4: "0000000000000007"
    }  # fmt: skip


def test_what_other_processes_wrote_counts_and_goes_back_too(tmp_path):
    (tmp_path / "ledger").mkdir()
    lines = [{"step": 1, "samples": "000000000000000a", "bad": {"truncated": 2}, "first": ["1.tar"]}, {"step": 2}]
    (tmp_path / "ledger" / "3.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ledger = Ledger(tmp_path, digests=True, start_step=1)
    ledger.note(1, Account(digest=6))
    assert ledger.bad_samples() == {"truncated": 2}
    ledger.close()
    assert lines_of(tmp_path, 3) == lines[:1]
    assert read_digests(tmp_path) == {1: "0000000000000010"}


ODD_LINES = [
    b'{"step": 1, "lo',
    b"7",
    b"[]",
    b'{"step": "1"}',
    b'"step"',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"no": 1}',
    b'{"step": 1, "bad": 3, "first": {}}',
    b'{"step": 1, "bad": {"x": "y"}, "first": [3]}',
]


@pytest.mark.parametrize("line", ODD_LINES, ids=range(len(ODD_LINES)))
def test_odd_lines_stop_nothing(tmp_path, line):
    (tmp_path / "ledger").mkdir()
    good = b'{"step": 2, "bad": {"truncated": 1}, "first": ["1.tar"]}'
    (tmp_path / "ledger" / "0.jsonl").write_bytes(good + b"\n" + line + b"\n" + good + b"\n")
    ledger = Ledger(tmp_path, digests=False, start_step=2)
    assert ledger.bad_samples() == {"truncated": 2}
    assert read_digests(tmp_path) == {}


def test_a_run_without_bad_samples_and_digests_has_no_ledger(tmp_path):
    ledger = Ledger(tmp_path, digests=False, start_step=0)
    ledger.note(1, Account())
    ledger.close()
    assert list(tmp_path.iterdir()) == []


def test_counts_and_digests_of_a_run_that_was_stopped_are_those_of_one_that_was_not(tmp_path):
    """Every step, although the input was ahead of the training when the run stopped."""
    members = {}
    for i in range(60):
        members[f"{i}.jpg"] = b"rotten" if i % 4 == 0 else inputs.encode(inputs.make_photo(i))
        members[f"{i}.txt"] = b"an apple"
    inputs.make_tar(tmp_path / "0.tar", members)

    def config(stop):
        chosen = dict(input__train=f"{tmp_path}/0.tar", input__ledger=True, input__max_bad_fraction=1.0)
        saving = dict(checkpoint__every_steps=0, checkpoint__every_minutes=0.0)
        return small_run.config(tmp_path / "data", **chosen, **saving, schedule__stop_step=stop)

    train_and_evaluate(config(6), tmp_path / "whole")
    for stop in (3, 6):
        train_and_evaluate(config(stop), tmp_path / "stopped")
    assert lines_of(tmp_path / "stopped") == lines_of(tmp_path / "whole")
    digests = read_digests(tmp_path / "whole")
    assert list(digests) == [1, 2, 3, 4, 5, 6] and len(set(digests.values())) == 6
    counts = [
        json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])["skipped/undecodable"]
        for name in ("whole", "stopped")
    ]
    told = sum(line.get("bad", {}).get("undecodable", 0) for line in lines_of(tmp_path / "whole"))
    assert counts == [told, told] and told > 6
