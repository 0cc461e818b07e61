"""The training input, ours and webdataset + Pillow: tars of JPEGs in, batches of 224 px uint8 images and token ids out.

Both read the same tars, decode, crop at random (scale 0.9 to 1, ratio 3/4 to 4/3), resize with an antialiased bicubic
kernel and tokenise with the same SentencePiece model (ours by transformers). Each side runs in a process of its own, in
turns; what counts are the CPU-seconds of the whole process, so that the number of its threads does not matter. What our
shortcuts cost is the mean difference of our images from the exact transform: Pillow's decoding, crop and resize.
"""

import argparse
import functools
import io
import json
import math
import pathlib
import random
import resource
import runpy
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report, environment

READS = 20  # samples read alone for each image of a batch: reading is too fast to be timed over fewer
ROUNDS = {"full": 3, "tiny": 1}  # turns of each side, after one that warms the page cache
COMPARED = 128  # images whose error is measured
CROP_SCALE, CROP_RATIO = (0.9, 1.0), (3 / 4, 4 / 3)
IMAGE_SIZE = 224
TEXT_LENGTH = 77
WORDS = "a an the photo of on in with two red green small large old dog cat boat tree street river house bird".split()
PACKAGES = ("numpy", "pillow", "transformers", "webdataset", "sentencepiece")
ROOT = pathlib.Path(__file__).parents[2]


class Photos(NamedTuple):
    """The photos of one data set."""

    sides: tuple[int, int]  # shortest and longest, in pixels
    full: tuple[int, int]  # tars, samples of each
    tiny: tuple[int, int]


SMALL = Photos((256, 512), full=(4, 512), tiny=(2, 24))
LARGE = Photos((1000, 1600), full=(1, 128), tiny=(1, 8))


def measure(size: str, batch_size: int, steps: int) -> Report:
    """Times `steps` batches of both sides, from small and large photos, and measures the error of our images.

    Reading alone is timed over `READS` times as many samples.
    """
    where = environment("cpu", PACKAGES) | {"kernels of NumPy's BLAS": _blas_kernels()}
    cases = []
    progress = Progress(3 * 2 * (1 + ROUNDS[size]))
    for photos in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as folder:
            _write_data(pathlib.Path(folder), *getattr(photos, size), photos.sides)
            name = "JPEGs of {}-{} px".format(*photos.sides)
            target = f"{IMAGE_SIZE} px uint8 + tokens, batch {batch_size}"
            load = functools.partial(_compare, folder, batch_size, steps, ROUNDS[size], progress)
            cases.append(load("batches", f"tars of {name} to {target}"))
            cases.append(_error(f"mean error of an image, {name}", folder))
            if photos is SMALL:
                cases.append(load("reading", "reading alone"))
    return Report(where, cases)


def _blas_kernels() -> str:
    """The processor for which NumPy's matrix products were written: our resize is as fast as they are."""
    import threadpoolctl

    return ", ".join({pool.get("architecture", "?") for pool in threadpoolctl.threadpool_info()})


def _compare(folder: str, batch_size: int, steps: int, rounds: int, progress: Progress, work: str, name: str) -> Case:
    """The speed of both sides."""
    rates = {"ours": [], "peer": []}
    for i in range(1 + rounds):
        for side in rates:
            progress.begin(f"{name}: {'ours' if side == 'ours' else 'webdataset + Pillow'}")
            rate = _run(side, work, folder, batch_size, steps)
            if i > 0:
                rates[side].append(rate)
    medians, spreads = ([f(rates[side]) for side in rates] for f in (lambda values: float(np.median(values)), _spread))
    return Case(name, *medians, "images per CPU-second", *spreads)


def _error(name: str, folder: str) -> Case:
    """How far our training images are from the exact transform, on average over pixels and images."""
    from clippy_jax.datasets.tars.shards import ShardSource
    from clippy_jax.input_pipeline import crops

    source = ShardSource([pathlib.Path(shard) for shard in _shards(folder)])
    uniforms = np.random.default_rng(0).random((min(COMPARED, len(source)), crops.UNIFORMS)).tolist()
    errors = [_difference(source[i].image, numbers) for i, numbers in enumerate(uniforms)]
    return Case(name, float(np.mean(errors)), None, "1 / 255", _spread(errors))


def _difference(content: bytes, uniforms: list[float]) -> float:
    from PIL import Image

    from clippy_jax.input_pipeline import crops, images

    image = Image.open(io.BytesIO(content)).convert("RGB")
    box = crops.random_resized_crop(image.height, image.width, CROP_SCALE, CROP_RATIO, uniforms)
    exact = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    exact = np.asarray(exact.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC), np.float32)
    ours = images.training_image(content, lambda height, width: box, IMAGE_SIZE)
    return float(np.abs(ours - exact).mean())


def _spread(values: list[float]) -> tuple[float, float]:
    return tuple(np.quantile(values, (0.25, 0.75)).tolist())


def _run(side: str, work: str, folder: str, batch_size: int, steps: int) -> float:
    """Images per CPU-second, in a fresh process."""
    command = [sys.executable, "-m", __name__, side, work, folder, str(batch_size), str(steps)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


# ------------------------------------------------------------------------------------------------------------ data


def _write_data(folder: pathlib.Path, tars: int, samples: int, sides: tuple[int, int]) -> None:
    """Tars as img2dataset writes them, of photo-like JPEGs, and a tokenizer."""
    import sentencepiece

    generator = np.random.default_rng(0)
    captions = []
    for t in range(tars):
        with tarfile.open(folder / f"{t:05}.tar", "w") as tar:
            for s in range(samples):
                key, caption = f"{t:05}{s:04}", " ".join(generator.choice(WORDS, generator.integers(5, 15)))
                captions.append(caption)
                _add(tar, f"{key}.jpg", _photo(generator, *sides))
                _add(tar, f"{key}.json", json.dumps({"key": key, "caption": caption, "status": "success"}).encode())
                _add(tar, f"{key}.txt", caption.encode())
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _photo(generator: np.random.Generator, shortest: int, longest: int) -> bytes:
    """A JPEG of clouds of noise at all scales (the spectrum of photos falls with frequency) and a few flat shapes."""
    from PIL import Image, ImageDraw

    width, height = (int(side) for side in generator.integers(shortest, longest + 1, 2))
    pixels = np.full((height, width, 3), 127.0, np.float32)
    for cells in (size for size in (3, 8, 24, 72, 200, 600) if size < shortest):
        noise = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += (np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), np.float32) - 127) / cells**0.4
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    for _ in range(4):
        x, y, radius = generator.integers(0, width), generator.integers(0, height), generator.integers(10, 80)
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


# ----------------------------------------------------------------------------------------------------------- sides


def _our_batches(folder: str, batch_size: int, steps: int) -> Iterator[int]:
    from clippy_jax.config import parse
    from clippy_jax.input_pipeline.pipeline import TrainingInput

    recipe = runpy.run_path(str(ROOT / "configs" / "b16.py"))["get_config"]()
    recipe.input.update(train="::".join(_shards(folder)), tokenizer=folder, batch_size=batch_size)
    training_input = TrainingInput(parse(recipe).input)
    yield 0
    for batch in training_input.batches(0, steps):
        assert batch.images.shape == (batch_size, IMAGE_SIZE, IMAGE_SIZE, 3)
        yield batch_size


def _peer_batches(folder: str, batch_size: int, steps: int) -> Iterator[int]:
    import sentencepiece
    import webdataset
    from PIL import Image

    tokenizer = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/spiece.model")
    uniform = random.Random(0).uniform

    def image_of(content: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        width, height = image.size
        for _ in range(10):  # as torchvision's RandomResizedCrop
            area = width * height * uniform(*CROP_SCALE)
            ratio = math.exp(uniform(*map(math.log, CROP_RATIO)))
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < w <= width and 0 < h <= height:
                break
        else:
            w = h = min(width, height)
        left, top = round(uniform(0, width - w)), round(uniform(0, height - h))
        box = (left, top, left + w, top + h)
        return np.asarray(image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, box=box))

    def tokens_of(content: bytes) -> np.ndarray:
        ids = np.zeros(TEXT_LENGTH, np.int32)
        pieces = [*tokenizer.encode(" ".join(content.decode().split()))[: TEXT_LENGTH - 1], tokenizer.eos_id()]
        ids[: len(pieces)] = pieces
        return ids

    dataset = (
        webdataset.WebDataset(_shards(folder), shardshuffle=False, empty_check=False)
        .repeat()
        .shuffle(100, seed=0)
        .to_tuple("jpg", "txt")
        .map_tuple(image_of, tokens_of)
    )
    samples = iter(dataset)
    yield 0
    for _ in range(steps):
        images, tokens = zip(*(next(samples) for _ in range(batch_size)))
        assert np.stack(images).shape == (batch_size, IMAGE_SIZE, IMAGE_SIZE, 3) and np.stack(tokens).any()
        yield batch_size


def _our_reading(folder: str, batch_size: int, steps: int) -> Iterator[int]:
    """In a random order, as training reads."""
    from clippy_jax.datasets.tars.shards import ShardSource

    source = ShardSource([pathlib.Path(shard) for shard in _shards(folder)])
    order = np.random.default_rng(0).integers(0, len(source), READS * batch_size * steps).tolist()
    yield 0
    for index in order:
        sample = source[index]
        assert sample.image and sample.caption
        yield 1


def _peer_reading(folder: str, batch_size: int, steps: int) -> Iterator[int]:
    """One tar after the other: all that a stream offers."""
    import webdataset

    samples = iter(
        webdataset.WebDataset(_shards(folder), shardshuffle=False, empty_check=False).repeat().to_tuple("jpg", "txt")
    )
    yield 0
    for _ in range(READS * batch_size * steps):
        image, caption = next(samples)
        assert image and caption
        yield 1


def _shards(folder: str) -> list[str]:
    return [str(path) for path in sorted(pathlib.Path(folder).glob("*.tar"))]


def _main() -> None:
    """Prints the images per CPU-second of the side and the work that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("ours", "peer"))
    parser.add_argument("work", choices=("batches", "reading"))
    parser.add_argument("folder")
    parser.add_argument("batch_size", type=int)
    parser.add_argument("steps", type=int)
    arguments = parser.parse_args()
    sides = {
        ("ours", "batches"): _our_batches,
        ("peer", "batches"): _peer_batches,
        ("ours", "reading"): _our_reading,
        ("peer", "reading"): _peer_reading,
    }
    images = sides[arguments.side, arguments.work](arguments.folder, arguments.batch_size, arguments.steps)
    next(images)  # opening, indexing and importing do not count
    start = _cpu_seconds()
    count = sum(images)
    print(json.dumps(count / (_cpu_seconds() - start)))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    _main()
