"""Checkpoints damaged in every way that a file or a folder can be; the newest sound one serves."""

import dataclasses
import gc
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clippy_jax.errors import InputError
from clippy_jax.run import sound_checkpoints
from clippy_jax.run.checkpointing import Checkpointer, restore_arrays
from tests.run.test_checkpointing import NEVER, abstract, as_bytes, make_state, place, steps_in


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """A workdir with the checkpoints of steps 5 and 9, spread over eight devices."""
    workdir = tmp_path_factory.mktemp("saved")
    with Checkpointer(workdir, NEVER, clock_every_steps=1) as checkpointer:
        for step in (5, 9):
            checkpointer.save(step, place(make_state(step), "fsdp"))
    return workdir


@pytest.fixture
def workdir(saved, tmp_path) -> pathlib.Path:
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def restore(workdir: pathlib.Path):
    with Checkpointer(workdir, NEVER, clock_every_steps=1) as checkpointer:
        return checkpointer.restore(abstract(make_state(), "replicated"))


def files_of(workdir: pathlib.Path, step: int) -> list[pathlib.Path]:
    folder = workdir / "checkpoints" / str(step)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def flip(path: pathlib.Path, position: float, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(position * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)


DAMAGES = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "removed": lambda path: path.unlink(),
    "a bit at the start": lambda path: flip(path, 0.02, 3),
    "a bit in the middle": lambda path: flip(path, 0.5, 0),
    "a bit towards the end": lambda path: flip(path, 0.9, 7),
}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")  # reads that were given up say nothing
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_to_any_file_goes_unnoticed_or_ends_in_a_traceback(saved, tmp_path, damage):
    """Whatever is done to a file of the newest checkpoint: what is read is exactly step 9 or exactly step 5."""
    states = {step: make_state(step) for step in (5, 9)}
    fell_back = 0
    for number, file in enumerate(files_of(saved, 9)):
        workdir = tmp_path / str(number)
        shutil.copytree(saved, workdir)
        DAMAGES[damage](workdir / "checkpoints" / "9" / file)
        params, step = restore_arrays(workdir, ("params", "step"))
        jax.tree.map(np.testing.assert_array_equal, params, states[int(step)].params)
        restored = restore(workdir)
        step = int(restored.step)
        assert as_bytes(restored) == as_bytes(states[step]), file
        assert steps_in_numbers(workdir) == ([5, 9] if step == 9 else [5])
        fell_back += step == 5
    assert fell_back > 0
    gc.collect()


def steps_in_numbers(workdir: pathlib.Path) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def test_an_empty_folder_with_a_number_is_set_aside(workdir, capsys):
    for _ in range(3):  # a disk that damages it again and again
        (workdir / "checkpoints" / "45").mkdir()
        assert int(restore(workdir).step) == 9
    with Checkpointer(workdir, NEVER, clock_every_steps=1) as checkpointer:
        assert checkpointer.save(45, make_state(45))
    assert int(restore(workdir).step) == 45


def test_half_of_a_copy_is_set_aside_and_said(workdir, capsys):
    shutil.copytree(workdir / "checkpoints" / "9", workdir / "checkpoints" / "20")
    shutil.rmtree(workdir / "checkpoints" / "20" / "state" / "d")
    assert int(restore(workdir).step) == 9
    assert "20 is damaged (" in (told := capsys.readouterr().out)
    assert "set aside as 20.damaged; continuing after step 9" in told
    assert steps_in_numbers(workdir) == [5, 9] and (workdir / "checkpoints" / "20.damaged").is_dir()


def test_a_damaged_checkpoint_that_is_asked_for_is_refused_in_one_line(workdir):
    file = workdir / "checkpoints" / "9" / "state" / "_METADATA"
    file.unlink()
    with pytest.raises(InputError, match=r"9 is damaged \(.*\); copy a sound one there") as error:
        restore_arrays(workdir, ("params",), 9)
    assert "\n" not in str(error.value)


def test_no_sound_checkpoint_is_refused_in_one_line_and_nothing_is_renamed(workdir):
    for step in (5, 9):
        (workdir / "checkpoints" / str(step) / "state" / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(InputError, match=r"9 is damaged \(.*\), and so are those of 5; copy") as error:
        restore(workdir)
    assert "\n" not in str(error.value)
    assert steps_in(workdir) == [5, 9]


@pytest.mark.parametrize(("bound", "refused"), [(3, True), (4, False), (0, False)])
def test_a_run_that_would_lose_more_than_allowed_is_refused(workdir, bound, refused):
    """The newest checkpoint is of step 9 and damaged, the one before of step 5."""
    (workdir / "checkpoints" / "9" / "state" / "manifest.ocdbt").write_bytes(b"")
    config = dataclasses.replace(NEVER, max_steps_lost=bound)
    with Checkpointer(workdir, config, clock_every_steps=1) as checkpointer:
        if refused:
            with pytest.raises(InputError, match="would lose 4 steps, more than config.checkpoint.max_steps_lost=3"):
                checkpointer.restore(abstract(make_state(), "replicated"))
        else:
            assert int(checkpointer.restore(abstract(make_state(), "replicated")).step) == 5
    assert steps_in_numbers(workdir) == ([5, 9] if refused else [5])


def test_a_checkpoint_without_digests_is_read(workdir):
    file = workdir / "checkpoints" / "9" / "_CHECKPOINT_METADATA"
    content = file.read_text()
    start, end = content.index('"custom_metadata": {') + len('"custom_metadata": '), len(content) - 1
    file.write_text(content[:start] + "{}" + content[end:])
    assert int(restore(workdir).step) == 9
    file.write_text(content[:start] + '{"digests": []}' + content[end:])  # which is no older version's
    assert int(restore(workdir).step) == 5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8", "bool"])
def test_every_bit_counts(dtype):
    array = (np.random.default_rng(0).normal(size=(3, 2)) * 50).astype(jnp.dtype(dtype))
    digest = sound_checkpoints.metadata({"x": jnp.asarray(array)})
    for byte in range(array.nbytes):
        for bit in range(1 if dtype == "bool" else 8):
            data = bytearray(array.tobytes())
            data[byte] ^= 1 << bit
            other = np.frombuffer(bytes(data), array.dtype).reshape(array.shape)
            assert sound_checkpoints.metadata({"x": jnp.asarray(other)}) != digest


def test_exchanged_numbers_and_turned_signs_are_noticed():
    array = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    turned = array.copy()
    turned[:2] *= -1
    digests = [sound_checkpoints.metadata({"x": jnp.asarray(x)}) for x in (array, array[::-1], array.T.copy(), turned)]
    assert all(one != other for i, one in enumerate(digests) for other in digests[:i])
