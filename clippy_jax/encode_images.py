r"""Computes what a frozen image tower makes of the training data, once, for trainings that read it instead of images.

python -m clippy_jax.encode_images --config=configs/lit_dinov2.py \
    --config.input.train='/data/cc12m/{00000..01242}.tar' --config.input.tokenizer=sentence-t5-base/ \
    --config.init.image=dinov2_vitb14_reg4_pretrain.pth --config.input.image_features=/data/cc12m_dinov2 \
    --config.input.crop_scale='(1.0,1.0)' --config.input.crop_ratio='(1.0,1.0)'

python -m clippy_jax.encode_images --config=configs/shapes.py --config.init.image=runs/shapes \
    --config.optimizer.freeze="('image',)" --config.input.image_features=data/features \
    --config.input.crop_scale='(1.0,1.0)' --config.input.crop_ratio='(1.0,1.0)' --config.input.flip=False \
    --config.model.image.patch_dropout=0.0

The `--config` flags are those of the training, which then reads the folder. Started again, it goes on where it was
stopped. Of several processes (Slurm, Open MPI, torchrun, Kubernetes) each makes files of its own.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from clippy_jax import processes
from clippy_jax.command_line import Parser, announce
from clippy_jax.config import Config
from clippy_jax.datasets.sample import BadCounts, BadSample, Source
from clippy_jax.datasets.sources import open_source
from clippy_jax.errors import InputError, exit_with_one_line
from clippy_jax.host_tensorflow import import_tensorflow
from clippy_jax.input_pipeline import engine, image_features
from clippy_jax.input_pipeline.pipeline import NO_CHANCE, augmented_image
from clippy_jax.main import parse_with_config
from clippy_jax.mesh import check_batch_size, make_mesh, move_whole, shard_batch
from clippy_jax.models.clippy import CLIPpy
from clippy_jax.weights.load import initialise
from clippy_jax.weights.parameter_digest import parameter_digest
from clippy_jax.weights.towers import parameter_shapes


def flags() -> Parser:
    """The flags of this program; `--config.FIELD=VALUE` come on top."""
    parser = Parser("python -m clippy_jax.encode_images", __doc__.partition("\n")[0], __doc__)
    parser.add_argument("--config", required=True, help="configuration file; any --config.FIELD=VALUE overrides it")
    return parser


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Checks the command and writes the files that are missing."""
    _, _, config = parse_with_config(flags(), arguments)
    if not config.input.image_features:
        raise InputError("config.input.image_features is empty; name the folder that the features go to")
    processes.initialize()
    with processes.failing_together():
        if jax.process_index() == 0:
            announce()
        encode_images(config)


def encode_images(config: Config) -> None:
    """Writes this process's share of the files of `config.input.image_features` that are not there yet.

    Raises:
      InputError: the data, the weights or the folder are wrong.
    """
    data, model, size = config.input, CLIPpy(config.model), config.input.image_size
    mesh, folder = make_mesh(jax.local_devices()), pathlib.Path(config.input.image_features)
    check_batch_size(config.evals.batch_size, mesh, "config.evals.batch_size")
    source = open_source(data, jax.process_index(), jax.process_count())
    params = {"image": _tower(config), "logit_scale": np.float32(0)}
    made_of = image_features.describe_data(data, source)
    made_of |= image_features.describe_tower(config.model, parameter_digest(params["image"]))

    @jax.jit
    def encode(params, images):
        features = model.apply({"params": params}, images, method="image_features")
        return features.astype(data.image_features_dtype)

    one = jax.eval_shape(encode, params, jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
    rows = image_features.begin_features(folder, made_of, one.shape[1:], data.image_features_dtype)
    paths = image_features.file_paths(folder, len(source), rows)
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    # By the file's own number: what is missing changes while the other processes write.
    mine = [number for number in missing if number % jax.process_count() == jax.process_index()]
    batches = [
        _Batch(number, first, min(first + config.evals.batch_size, (number + 1) * rows, len(source)))
        for number in mine
        for first in range(number * rows, min((number + 1) * rows, len(source)), config.evals.batch_size)
    ]
    total, bytes_per_sample = sum(batch.end - batch.first for batch in batches), one.size * one.dtype.itemsize
    processes.log_line(
        f"{len(source):,} samples x {bytes_per_sample:,} bytes = {len(source) * bytes_per_sample / 1e9:,.2f} GB in "
        f"{folder}; {len(paths) - len(missing):,} of {len(paths):,} files are there"
    )
    params, bad = move_whole(params, mesh), BadCounts()
    made: list[jax.Array] = []
    bad_rows: dict[int, str] = {}
    with tqdm(total=total, desc="encoding images", unit="image", disable=not total) as bar:
        for (pixels, causes), batch in zip(_images(config, source, batches), batches):
            made.append(encode(params, shard_batch(pixels, mesh)))
            jax.block_until_ready(made[-2:-1])  # of the batch before: the devices compute while the host reads
            for index, cause in zip(range(batch.first, batch.end), causes.tolist()):
                if cause:
                    bad_rows[index - batch.number * rows] = cause.decode()
                    bad.note(cause.decode(), source.name(index))
            bar.update(batch.end - batch.first)
            if batch.end == min((batch.number + 1) * rows, len(source)):
                features = np.concatenate([np.asarray(part) for part in made])[: batch.end - batch.number * rows]
                image_features.write_features(paths[batch.number], features, bad_rows)
                made, bad_rows = [], {}
    print(f"written: {folder}" + (f" (cannot be used: {bad})" if bad else ""))


class _Batch(NamedTuple):
    """Samples that are encoded at a time, all of one file."""

    number: int  # of the file
    first: int
    end: int


def _images(config: Config, source: Source, batches: Sequence[_Batch]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pixels of each batch, which is filled up, and why an image cannot be used; made in parallel and ahead."""
    tf, size = import_tensorflow(), config.input.image_size

    def make(number: int, rows: slice) -> engine.Rows:
        pixels = engine.empty_bytes((rows.stop - rows.start, size, size, 3))
        causes = np.full(len(pixels), b"", object)
        batch = batches[number]
        indices = range(batch.first + rows.start, min(batch.first + rows.stop, batch.end))
        ahead = source.read_ahead(indices)
        pixels[len(indices) :] = 0
        for row, index in enumerate(indices):
            try:
                sample = ahead.get(index) or source[index]
                pixels[row] = augmented_image(config.input, sample.image, NO_CHANCE)
            except (BadSample, MemoryError) as error:
                pixels[row] = 0
                causes[row] = (error.cause if isinstance(error, BadSample) else "too large").encode()
        return pixels, causes

    row = (tf.TensorSpec((size, size, 3), tf.uint8), tf.TensorSpec((), tf.string))
    return iter(engine.ParallelBatches(make, 0, len(batches), config.evals.batch_size, row))


def _tower(config: Config) -> dict[str, Any]:
    """The parameters of the image tower that the training will start from."""
    init = config.init
    nothing = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), parameter_shapes(config.model))
    params, left = initialise(nothing, config.model, init.image, "", init.clippy)
    if any(path.startswith("image/") for path in left):
        raise InputError("config.init.image is empty; name the weights of the frozen image tower")
    return params["image"]


if __name__ == "__main__":
    main()
