"""Renders the whole data set, on all cores, and knows a finished one from an interrupted one."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from clippy_jax.errors import InputError
from clippy_jax.shapes import imagenet_tree, voc_tree, waterbirds_tree, webdataset_shards
from clippy_jax.shapes.preview import write_preview
from clippy_jax.shapes.settings import Settings
from clippy_jax.shapes.tokenizer_training import write_tokenizer
from clippy_jax.whole_files import writing

RECORD = "dataset.json"  # the settings; there once the data set is complete
UNFINISHED_RECORD = "dataset.json.unfinished"  # the same while it is being written
FOLDERS = ("train", "voc", "imagenet", "waterbirds", "tokenizer")
IMAGES_PER_JOB = 200


@dataclasses.dataclass(frozen=True)
class Job:
    """A share of the rendering that any process can do by itself."""

    write: Callable[..., None]
    arguments: tuple
    images: int

    def run(self) -> int:
        """Writes the images and returns how many they were."""
        self.write(*self.arguments)
        return self.images


def write_dataset(output: Path, settings: Settings, workers: int | None = None) -> bool:
    """Renders the data set into the folder `output`, unless it is there already.

    The bytes depend on `settings` only. An interrupted data set is started anew.

    Args:
      output: a folder that is missing, empty, or holds a data set of the same settings.
      settings: what to render.
      workers: processes; all of this process's cores by default.

    Returns:
      Whether anything was rendered.

    Raises:
      InputError: `output` is no such folder, or cannot be written.
    """
    with writing(f"--output={output}"):
        if _is_complete(output, settings):
            return False
        _start(output, settings)
        _render(_jobs(output, settings), workers or _cores())
        voc_tree.write_lists(output / "voc", settings)
        imagenet_tree.write_vocabulary(output / "imagenet")
        waterbirds_tree.write_metadata(output / "waterbirds", settings)
        waterbirds_tree.write_vocabulary(output / "waterbirds")
        write_tokenizer(output / "tokenizer", settings.seed)
        write_preview(output / "preview.png", settings)
        (output / UNFINISHED_RECORD).rename(output / RECORD)
    return True


def _is_complete(output: Path, settings: Settings) -> bool:
    try:
        found = json.loads((output / RECORD).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        found = None
    wanted = dataclasses.asdict(settings)
    if found == wanted:
        return True
    if not isinstance(found, dict) or found.keys() != wanted.keys():
        raise InputError(f"{output / RECORD} is not the record of a Shapes data set; choose another --output")
    others = ", ".join(f"{key} {found[key]} instead of {wanted[key]}" for key in wanted if found[key] != wanted[key])
    raise InputError(f"{output} holds a Shapes data set with {others}; delete it or choose another --output")


def _start(output: Path, settings: Settings) -> None:
    """Makes room: an empty folder but for the unfinished record."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output} is a file; name a folder")
    if (output / UNFINISHED_RECORD).exists():
        for folder in FOLDERS:
            shutil.rmtree(output / folder, ignore_errors=True)
    elif output.exists() and any(output.iterdir()):
        raise InputError(f"--output={output} is not empty and no Shapes data set; choose an empty folder")
    output.mkdir(parents=True, exist_ok=True)
    (output / UNFINISHED_RECORD).write_text(json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    (output / "train").mkdir()


def _jobs(output: Path, settings: Settings) -> list[Job]:
    jobs = [
        Job(
            webdataset_shards.write_shard,
            (output / "train", settings, shard),
            len(webdataset_shards.shard_range(settings, shard)),
        )
        for shard in range(webdataset_shards.shard_count(settings))
    ]
    for name, tree in (("imagenet", imagenet_tree), ("voc", voc_tree), ("waterbirds", waterbirds_tree)):
        for split, count in tree.image_counts(settings).items():
            for indices in _portions(count):
                jobs.append(Job(tree.write_images, (output / name, settings, split, indices), len(indices)))
    return jobs


def _cores() -> int:
    """The cores this process may use; macOS only knows how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _portions(count: int) -> list[range]:
    return [range(start, min(start + IMAGES_PER_JOB, count)) for start in range(0, count, IMAGES_PER_JOB)]


def _render(jobs: list[Job], workers: int) -> None:
    with (
        tqdm(total=sum(job.images for job in jobs), unit=" images", desc="Shapes") as bar,
        _results(jobs, workers) as results,
    ):
        try:
            for images in results:
                bar.update(images)
        except BrokenProcessPool:
            raise InputError("a process that renders was killed, perhaps for want of memory; start again") from None


@contextlib.contextmanager
def _results(jobs: list[Job], workers: int) -> Iterator[Iterator[int]]:
    """The jobs' results as they come in, from this process or from several, which end with the context."""
    if workers == 1:
        yield map(Job.run, jobs)
        return
    # A fresh interpreter for each worker: a fork of a process that has started JAX or TensorFlow may hang. Control-C
    # reaches the workers too; they leave it to this process, which ends them.
    fresh, ignore = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, fresh, initializer=signal.signal, initargs=ignore) as pool:
        running = [pool.submit(job.run) for job in jobs]
        try:
            yield (job.result() for job in as_completed(running))
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()  # instead of finishing what it does
            raise
