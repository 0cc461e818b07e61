import contextlib
import dataclasses
import json
import sys
import time
import types

import jax.numpy as jnp
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from clippy_jax.errors import InputError
from clippy_jax.run.metrics import Progress, open_writer
from clippy_jax.training.step_work import step_work


class Clock:
    def __init__(self):
        self.seconds = 5000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def config(config):
    return dataclasses.replace(
        config,
        input=dataclasses.replace(config.input, batch_size=64),
        schedule=dataclasses.replace(config.schedule, stop_step=1000),
    )


def with_wandb(config, **fields):
    return dataclasses.replace(config, wandb=dataclasses.replace(config.wandb, **fields))


@contextlib.contextmanager
def progress_of(workdir, config, start_step=0, clock=time.monotonic, peak=None):
    with contextlib.closing(open_writer(workdir, config, start_step)) as writer:
        yield Progress(writer, config, peak, clock)


def train(progress, clock, steps, seconds_per_step=0.5, waited_per_step=0.125):
    for step in steps:
        with progress.waiting_for_data():
            clock.seconds += waited_per_step
        clock.seconds += seconds_per_step - waited_per_step
        progress.count(16, 32)
        if step == steps[0] or step % 10 == 0:
            progress.report(step, {"loss": jnp.float32(1 / step), "learning_rate": 2e-4}, {"undecodable": 0})


def read_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_console_lines_are_plain_and_complete(tmp_path, config, clock, capsys):
    with progress_of(tmp_path, config, clock=clock) as progress:
        clock.seconds += 100.0  # compilation
        train(progress, clock, range(1, 11))
        with progress.outside_training():
            clock.seconds += 3600.0
            progress.report_evaluation(10, "imagenet", {"top1": 0.25, "top5": jnp.float32(0.5)})
        clock.seconds += 60.0  # compilation for other texts
        progress.leave_out(60.0)
        train(progress, clock, range(11, 20))
        clock.seconds += 0.5
        skipped = {"undecodable": 1200, "no caption": 3, "truncated": 0}
        progress.report(20, {"loss": 0.5, "learning_rate": 2e-4}, skipped)
    assert capsys.readouterr().out.splitlines() == [
        "step     1/1,000  loss 1.0000  learning rate 2.00e-04",
        "step    10/1,000  loss 0.1000  learning rate 2.00e-04  128.0 images/s  3,328 tokens/s  0:08:15 left  "
        "data wait 25%",
        "step 10  imagenet: top1 0.25  top5 0.5",
        "step    11/1,000  loss 0.0909  learning rate 2.00e-04  128.0 images/s  3,328 tokens/s  0:08:14 left  "
        "data wait 25%",
        "step    20/1,000  loss 0.5000  learning rate 2.00e-04  128.0 images/s  2,958 tokens/s  0:08:10 left  "
        "data wait 22%  skipped 1,200 undecodable, 3 no caption",
    ]


def test_json_lines_hold_everything_written(tmp_path, config, clock):
    with progress_of(tmp_path, config, clock=clock) as progress:
        train(progress, clock, range(1, 11))
        progress.report_evaluation(10, "voc", {"mIoU": 0.5})
        clock.seconds += 1.0
        progress.report(20, {"loss": float("nan"), "learning_rate": 0.0}, {"truncated": 2})
        lines = read_lines(tmp_path)  # before the run ends
    assert lines[0] == {"step": 1, "loss": 1.0, "learning_rate": 2e-4, "skipped/undecodable": 0.0}
    assert lines[1] == {
        "step": 10,
        "loss": pytest.approx(0.1, rel=1e-6),
        "learning_rate": 2e-4,
        "images_per_second": 128.0,
        "tokens_per_second": 2 * (64 * (1 + 17) + 16 * 32),
        "data_wait": 0.25,
        "skipped/undecodable": 0.0,
    }
    assert lines[2] == {"step": 10, "voc/mIoU": 0.5}
    assert lines[3]["loss"] is None and lines[3]["skipped/truncated"] == 2.0


def test_the_share_of_the_data_sheets_rate_and_the_peak_memory_where_they_are_known(
    tmp_path, config, clock, capsys, monkeypatch
):
    flops, _ = step_work(config.model, (), config.input.image_size, 64, rows=16, length=32)
    devices = [types.SimpleNamespace(memory_stats=lambda peak=peak: {"peak_bytes_in_use": peak}) for peak in (1e9, 3e9)]
    monkeypatch.setattr("jax.local_devices", lambda: devices)
    with progress_of(tmp_path, config, clock=clock, peak=8 * flops) as progress:
        train(progress, clock, range(1, 11))  # two steps a second: a quarter of the peak
    assert "MFU 25.0%  0:08:15 left  data wait 25%  peak memory 3.0 GB" in capsys.readouterr().out
    assert read_lines(tmp_path)[1]["mfu"] == pytest.approx(0.25) and read_lines(tmp_path)[1]["peak_memory_gb"] == 3.0


def test_resuming_drops_the_lines_of_steps_that_are_done_again(tmp_path, config, clock):
    with progress_of(tmp_path, config, clock=clock) as progress:
        train(progress, clock, range(1, 41))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('7\n{"step": "30"}\n{"step": 50, "lo')  # odd lines, and the process died here
    with progress_of(tmp_path, config, start_step=25, clock=clock) as progress:
        assert [line["step"] for line in read_lines(tmp_path)] == [1, 10, 20]
        train(progress, clock, range(26, 41))
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 10, 20, 26, 30, 40]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_a_last_line_without_its_end_swallows_no_other(tmp_path, config, clock):
    with progress_of(tmp_path, config, clock=clock) as progress:
        train(progress, clock, range(1, 21))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text().rstrip("\n"))  # the process died between a line and its end
    with progress_of(tmp_path, config, start_step=20, clock=clock) as progress:
        train(progress, clock, range(21, 31))
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 10, 20, 21, 30]


def test_tensorboard_reads_back_what_was_written(tmp_path, config, clock):
    with progress_of(tmp_path, config, clock=clock) as progress:
        train(progress, clock, range(1, 21))
        progress.report_evaluation(20, "voc", {"mIoU": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["tensors"]) == {
        "loss", "learning_rate", "images_per_second", "tokens_per_second", "data_wait", "skipped/undecodable",
        "voc/mIoU",
    }  # fmt: skip
    losses = [(event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in events.Tensors("loss")]
    assert losses == [(1, 1.0), (10, pytest.approx(0.1)), (20, pytest.approx(0.05))]


class FakeWandb(types.ModuleType):
    """The part of W&B that a run touches; remembers every call."""

    class Error(Exception):
        pass

    def __init__(self, refusal=None):
        super().__init__("wandb")
        self.started, self.logged, self.finished, self.refusal = [], [], 0, refusal

    def init(self, **arguments):
        if self.refusal:
            raise self.Error(self.refusal)
        self.started.append(arguments)
        return types.SimpleNamespace(
            id=arguments["id"] or "new4711",
            log=lambda values, step: self.logged.append((step, values)),
            finish=self._finish,
        )

    def _finish(self):
        self.finished += 1


def test_wandb_goes_on_under_the_same_id(tmp_path, config, clock, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    workdir = tmp_path / "b16"
    workdir.mkdir()
    for start_step in (0, 10):
        with progress_of(workdir, with_wandb(config, project="clippy", name=""), start_step, clock) as progress:
            progress.report(start_step + 1, {"loss": 2.0, "learning_rate": 0.5}, {})
    assert [(run["project"], run["name"], run["id"]) for run in wandb.started] == [
        ("clippy", "b16", None),
        ("clippy", "b16", "new4711"),
    ]
    assert wandb.started[0]["resume"] == "allow"
    assert wandb.started[0]["config"]["model"]["image"]["width"] == 128
    assert wandb.logged == [(step, {"loss": 2.0, "learning_rate": 0.5}) for step in (1, 11)]
    assert wandb.finished == 2


def test_wandb_that_is_missing_or_refuses_is_one_clear_line(tmp_path, config, monkeypatch):
    config = with_wandb(config, project="clippy", name="first")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="config.wandb.project is 'clippy' but the package wandb is not installed"):
        open_writer(tmp_path, config, start_step=0)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(refusal="api_key not configured (no-tty);\ncall wandb login"))
    with pytest.raises(InputError, match=r"but W&B refuses \(api_key not configured \(no-tty\); call wandb login\)"):
        open_writer(tmp_path, config, start_step=0)
    assert list(tmp_path.iterdir()) == []
