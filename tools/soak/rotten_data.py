"""Training data as the web leaves it: 100,000 samples, one in twenty rotten, in every way at once."""

import collections
import json
import pathlib
import random
import shutil
import tarfile
import zlib
from collections.abc import Iterator

import numpy as np

from clippy_jax.input_pipeline.tokenizer import load_tokenizer
from tests.inputs import encode, make_photo
from tools.soak import runs
from tools.soak.memory import Watch
from tools.soak.programs import Program, one_line
from tools.soak.promises import Promise, side_by_side

SAMPLES = 100_000
_SHARE = 0.052  # so that what is left when shards are indexed is a whole number of batches
_SHARDS = 20
_BATCH = 400
_TEXT_LENGTH = 32
_FLAT = 0.05
_NAMES = ("apple", "zebra", "lemon", "car", "chair", "dog", "lamp", "boat", "tree", "drum")

# The training program, which also writes down the token ids of every caption that it trains on.
_RECORDING = """
import runpy, sys
from clippy_jax.input_pipeline.pipeline import TrainingInput
file, batches = open(sys.argv.pop(1), "wb"), TrainingInput.batches
def recorded(self, *arguments):
    for batch in batches(self, *arguments):
        file.write(batch.tokens.astype("<i4").tobytes())
        file.flush()
        yield batch
TrainingInput.batches = recorded
runpy.run_module("clippy_jax.main", run_name="__main__", alter_sys=True)
"""


def _png(width: int, height: int) -> bytes:
    """A picture of a few bytes whose header asks for any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def _sized_jpeg(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header gives another size."""
    start = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:start] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + jpeg[start + 4 :]


# How a sample rots: what its files are, from a sound image and caption, and under which cause it is counted.
_ROT = {
    "cut JPEG": (lambda image, caption: (image[: len(image) // 3], caption), "truncated"),
    "half a JPEG": (lambda image, caption: (image[: len(image) // 2], caption), "truncated"),
    "web page": (lambda image, caption: (b"<html><body>404</body></html>", caption), "undecodable"),
    "empty image": (lambda image, caption: (b"", caption), "undecodable"),
    "zeros": (lambda image, caption: (bytes(len(image)), caption), "undecodable"),
    "PostScript": (
        lambda image, caption: (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", caption),
        "undecodable",
    ),
    "JPEG of 65,000 x 65,000": (lambda image, caption: (_sized_jpeg(image, 65000, 65000), caption), "too large"),
    "PNG of 50,000 x 50,000": (lambda image, caption: (_png(50000, 50000), caption), "too large"),
    "empty caption": (lambda image, caption: (image, b""), "captionless"),
    "blank caption": (lambda image, caption: (image, b" \n\t "), "captionless"),
    "no caption": (lambda image, caption: (image, None), "captionless"),
    "no image": (lambda image, caption: (None, caption), "imageless"),
    "garbage between samples": (None, "damaged"),  # which costs no sample
}


def caption(number: int) -> str:
    """Of a sample: its digits in words, so that token ids tell which sample it is."""
    return "a photo of " + " ".join(_NAMES[int(digit)] for digit in f"{number:06d}")


def write(folder: pathlib.Path, samples: int, share: float) -> tuple[set[int], collections.Counter]:
    """Writes shards; returns the numbers of the sound samples, and how many are rotten by cause."""
    drawn = random.Random(0)
    images = [encode(make_photo(seed, 44 + seed % 9, 52 - seed % 7), quality=85) for seed in range(64)]
    of_each = int(samples * share) // len(_ROT)
    # No two side by side, so that each counts under its own cause.
    rotten = dict(zip(drawn.sample(range(0, samples, 2), of_each * len(_ROT)), list(_ROT.values()) * of_each))
    sound, causes = set(range(samples)), collections.Counter(cause for _, cause in rotten.values())
    for shard in range(_SHARDS):
        with open(folder / f"{shard:05d}.tar", "wb") as tar:
            for number in range(shard * samples // _SHARDS, (shard + 1) * samples // _SHARDS):
                files = images[number % len(images)], caption(number).encode()
                rot, _ = rotten.get(number, (None, ""))
                if rot is not None:
                    files = rot(*files)
                    sound.discard(number)
                elif number in rotten:
                    tar.write(drawn.randbytes(512 * drawn.randrange(1, 5)))
                for ending, content in zip(("jpg", "txt"), files):
                    if content is not None:
                        member = tarfile.TarInfo(f"{number:09d}.{ending}")
                        member.size = len(content)
                        tar.write(member.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512))
            tar.write(bytes(1024))
    return sound, causes


def _epoch(folder: pathlib.Path) -> Iterator[str]:
    """One pass of the real program over everything, and what came of it."""
    runs.flags(folder.parent)  # renders the small data set, for its tokenizer
    shards = folder / "shards"
    shards.mkdir()
    sound, causes = write(shards, SAMPLES, _SHARE)
    tokenizer = f"{folder.parent}/data/tokenizer"
    of_each = sum(causes.values()) // len(_ROT)
    steps = (SAMPLES - 3 * of_each) // _BATCH  # without those of which a file is missing or the caption is empty
    fields = {
        **{"input__train": f"{shards}/{{00000..{_SHARDS - 1:05d}}}.tar", "input__tokenizer": tokenizer},
        **{"input__batch_size": _BATCH, "input__text_length": _TEXT_LENGTH, "input__texts_per_pack": 1},
        **{"schedule__stop_step": steps, "schedule__decay_steps": steps, "checkpoint__every_steps": 0},
        **{"evals__tasks__imagenet__path": "", "log_every_steps": 5},
    }
    workdir, record = folder / "run", folder / "tokens"
    flags = runs.flags(folder.parent, **fields)
    program = Program(["-c", _RECORDING, str(record), *flags, f"--workdir={workdir}"])
    watch = Watch(program)
    ended = program.finish(900)
    yield "" if not ended.status else f"status {ended.status}: {ended.last_line[:300]}"
    if ended.status:
        return

    known = {
        ids.tobytes(): number
        for number, ids in enumerate(
            load_tokenizer(tokenizer).encode([caption(number) for number in range(SAMPLES)], _TEXT_LENGTH)
        )
    }
    rows = np.fromfile(record, "<i4").reshape(-1, _TEXT_LENGTH)
    used = collections.Counter(known.get(row.tobytes(), -1) for row in rows)
    yield "" if not used[-1] else f"{used[-1]} captions that are in no shard"
    missed = sound - used.keys()
    yield "" if not missed else f"{len(missed)} of {len(sound)} sound samples were not used"
    rotten_used = [number for number in used if number >= 0 and number not in sound]
    yield "" if not rotten_used else f"{len(rotten_used)} rotten samples were used"

    counted = _counted(ended.output, workdir)
    for cause, there in causes.items():
        fine = there <= counted[cause] <= 1.1 * there  # a substitute that is rotten, too, counts as well
        yield "" if fine else f"{cause}: {there} in the data, {counted[cause]} counted"
    low, high = watch.spread(1, steps // 4, steps)
    yield "" if -_FLAT <= low and high <= _FLAT else f"memory: {100 * low:+.1f} % to {100 * high:+.1f} %"


def _counted(output: str, workdir: pathlib.Path) -> collections.Counter:
    """What the log says was left out when shards were indexed, and what metrics.jsonl says was met."""
    counted = collections.Counter()
    line = next(line for line in output.splitlines() if "pairs (left out:" in line)
    for part in line.partition("(left out: ")[2].partition(";")[0].split(", "):
        count, _, cause = part.partition(" ")
        counted[cause.strip(")")] += int(count.replace(",", ""))
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    counted.update(
        {key.removeprefix("skipped/"): int(value) for key, value in last.items() if key.startswith("skipped/")}
    )
    return counted


def _limit(folder: pathlib.Path) -> Iterator[str]:
    """More rotten samples than allowed stop the run."""

    def attempt(case: tuple[float, float, bool]) -> str:
        share, bound, refused = case
        shards = folder / f"{share}-{bound}"
        shards.mkdir()
        write(shards, 2000, share)
        train = f"{shards}/{{00000..{_SHARDS - 1:05d}}}.tar"
        flags = runs.flags(folder.parent, input__train=train, input__max_bad_fraction=bound, schedule__stop_step=60)
        ended = Program(["-m", "clippy_jax.main", *flags, f"--workdir={shards}/run"]).finish()
        if refused:
            return one_line(ended, "config.input.max_bad_fraction")
        return "" if not ended.status else ended.last_line

    runs.flags(folder.parent)  # renders the small data set, for its tokenizer
    yield from side_by_side(attempt, ((0.3, 0.1, True), (0.3, 0.5, False), (0.05, 0.01, True)))


def _shards_change(folder: pathlib.Path) -> Iterator[str]:
    """Shards that vanish for some seconds, or for good, or are replaced by others, while a run reads them."""

    def attempt(what: str) -> str:
        shards = folder / what
        shards.mkdir()
        sound, _ = write(shards, 4000, 0.0)
        train = f"{shards}/{{00000..{_SHARDS - 1:05d}}}.tar"
        flags = runs.flags(
            folder.parent, input__train=train, schedule__stop_step=400, checkpoint__every_steps=0, log_every_steps=1
        )
        program = Program(["-m", "clippy_jax.main", *flags, f"--workdir={shards}/run"])
        program.wait_for("step   20")
        names = sorted(shards.glob("*.tar"))
        for name in names[::2]:
            if what == "away and back":
                name.rename(name.with_suffix(".away"))
            else:
                shutil.copy2(name, name.with_suffix(".copy"))
                name.with_suffix(".copy").replace(name)
        program.wait_for("step   60", 5)
        for name in shards.glob("*.away"):
            name.rename(name.with_suffix(".tar"))
        ended = program.finish()
        last = json.loads((shards / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        lost = {key: value for key, value in last.items() if key.startswith("skipped/")}
        return f"status {ended.status}: {ended.last_line}" if ended.status else (f"{what}: {lost}" if lost else "")

    runs.flags(folder.parent)  # renders the small data set, for its tokenizer
    yield from side_by_side(attempt, ("away and back", "replaced by the same"))


PROMISES = (
    Promise(
        f"{SAMPLES:,} samples, 5 % of them rotten: all sound ones are used, each cause is counted, memory is flat",
        f"one epoch of the real program; {', '.join(_ROT)}; token ids of every batch compared with the captions "
        "written; counts (to which rotten substitutes add) in the log and metrics.jsonl; memory within 5 % from a "
        "quarter of the epoch on",
        _epoch,
    ),
    Promise(
        "more bad samples than config.input.max_bad_fraction stop the run in one line",
        "30 % rotten with 10 % and 50 % allowed, 5 % with 1 %",
        _limit,
    ),
    Promise(
        "shards that go away for seconds or are replaced during the run lose no sample",
        "every second of 20 shards; status 0 and nothing counted as skipped",
        _shards_change,
    ),
)
