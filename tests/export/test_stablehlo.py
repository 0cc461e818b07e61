"""The exported programs where nothing is installed but JAX, beside the model."""

import subprocess
import sys

import jax
import jax.export
import numpy as np
import pytest

pytest.importorskip("flatbuffers", reason="flatbuffers is not installed")

from clippy_jax.export.__main__ import main  # noqa: E402

# Hides every installed package that JAX does not need, flatbuffers too: the folder has its own.
SCRIPT = """
import sys
from importlib.machinery import PathFinder

NEEDED = {"jax", "jaxlib", "numpy", "ml_dtypes", "scipy", "opt_einsum"}
find_spec = PathFinder.find_spec

def find_needed(name, *others):
    spec = find_spec(name, *others)
    installed = spec is not None and "site-packages" in str(spec.origin or spec.submodule_search_locations)
    return None if installed and name.split(".")[0] not in NEEDED else spec

PathFinder.find_spec = find_needed

import numpy as np
from load import load

inputs = np.load("../inputs.npz")
patches, pooled = load("image_64x64")(inputs["square"])
wide_patches, wide_pooled = load("image_32x80")(inputs["wide"])
np.savez("../outputs.npz", patches=patches, pooled=pooled, wide_patches=wide_patches, wide_pooled=wide_pooled,
         text=load("text_12")(inputs["tokens"]), one_text=load("text_12")(inputs["tokens"][:1]))
"""


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    output = tmp_path_factory.mktemp("stablehlo") / "model"
    sizes = ["--image_size=64", "--image_size=32x80", "--text_length=12"]
    main(["stablehlo", f"--checkpoint={checkpoint}", f"--output={output}", *sizes])
    return output


def test_programs_need_jax_alone(folder, model):
    random = np.random.default_rng(0)
    square, wide = (random.integers(0, 256, (*shape, 3), np.uint8) for shape in ((3, 64, 64), (2, 32, 80)))
    texts = ["a photo of a zebra", "grass"]
    tokens = model.tokenizer.encode(texts, 12)
    np.savez(folder.parent / "inputs.npz", square=square, wide=wide, tokens=tokens)
    environment = {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = np.load(folder.parent / "outputs.npz")
    expected = dict(zip(("patches", "pooled"), model.encode_image(square)))
    expected |= dict(zip(("wide_patches", "wide_pooled"), model.encode_image(wide)))
    expected |= {"text": model.encode_text(texts), "one_text": model.encode_text(texts[:1])}
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=0, atol=2e-6, err_msg=name)


def test_one_file_serves_every_platform(folder):
    for name in ("image_64x64", "text_12"):
        program = jax.export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes()))
        assert program.platforms == ("cpu", "cuda", "tpu")
        (batch,) = {str(shape.shape[0]) for shape in program.in_avals[-1:]}
        assert batch == "batch"


def test_the_folder_carries_the_tokenizer(folder, model):
    from clippy_jax.input_pipeline.tokenizer import load_tokenizer

    tokens = load_tokenizer(folder / "tokenizer").encode(["a zebra"], 8)
    np.testing.assert_array_equal(tokens, model.tokenizer.encode(["a zebra"], 8))
