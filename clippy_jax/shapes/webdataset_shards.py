"""The training pairs: WebDataset tars with the members and the metadata that img2dataset writes."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from clippy_jax.shapes.rendering import render
from clippy_jax.shapes.scenes import sample_scene, scene_rng
from clippy_jax.shapes.settings import Settings


def shard_count(settings: Settings) -> int:
    """Tars that hold all training pairs; the last one may be shorter."""
    return -(-settings.train_pairs // settings.pairs_per_shard)


def shard_range(settings: Settings, shard: int) -> range:
    """Indices of the training scenes in one tar."""
    start = shard * settings.pairs_per_shard
    return range(start, min(start + settings.pairs_per_shard, settings.train_pairs))


def shard_pattern(settings: Settings) -> str:
    """The names of all tars, in the notation of `--config.input.train`."""
    last = shard_count(settings) - 1
    return f"{{00000..{last:05d}}}.tar" if last else "00000.tar"


def write_shard(folder: Path, settings: Settings, shard: int) -> None:
    """Writes `folder/SHARD.tar`: a jpg, a txt (the caption) and a json for every pair."""
    with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, index in enumerate(shard_range(settings, shard)):
            rng = scene_rng(settings.seed, "train", index)
            scene = sample_scene(rng)
            jpeg = render(scene, settings.image_size, rng).jpeg()
            key = f"{shard:05d}{number:04d}"
            metadata = {
                "caption": scene.caption,
                "url": f"shapes:{settings.seed}/train/{index}",
                "key": key,
                "status": "success",
                "error_message": None,
                "width": settings.image_size,
                "height": settings.image_size,
                "original_width": settings.image_size,
                "original_height": settings.image_size,
                "exif": "{}",
                "sha256": hashlib.sha256(jpeg).hexdigest(),
            }
            _add(tar, f"{key}.jpg", jpeg)
            _add(tar, f"{key}.txt", scene.caption.encode())
            _add(tar, f"{key}.json", json.dumps(metadata, indent=4).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
