"""What may import what: the models, the step and the weights run where little more than JAX is installed."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Python code after which nothing of these packages is found, as if they had not been installed.
BARE = """
from importlib.machinery import PathFinder

ABSENT = {"tensorflow", "PIL", "tqdm", "sentencepiece", "tokenizers", "ftfy", "tensorboard", "sklearn",
          "ml_collections", "simplejpeg", "matplotlib", "braceexpand", "threadpoolctl", "transformers",
          "safetensors", "webdataset"}
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *others: None if name.split(".")[0] in ABSENT else find_spec(name, *others)
"""

SCRIPT = """
ABSENT.add("torch")

import jax
import numpy as np
from clippy_jax.config import parse_model
from clippy_jax.models import clippy, t5, vit
from clippy_jax.training import losses, optimizer, schedule, sharding, softmax_loss, state, step
from clippy_jax.weights import rules, tables

model = parse_model({
    "image": {"image_size": 32, "position_interpolation": "dino", "patch_dropout": 0.0, **vit.SIZES["Ti/16"]},
    "text": {"vocabulary_size": 50, "gated_mlp": False, "relative_buckets": 32, "relative_max_distance": 128,
             "dropout": 0.1, **t5.SIZES["tiny"]},
    "pooling": "max", "image_projection": False, "precision": "float32", "rematerialise": True,
})
params = state.init_params(model, 32, jax.random.key(0))
tensors = rules.to_torch(jax.device_get(params), tables.clippy_rules(gated=False, image_projection=False))
back = rules.to_flax(tensors, tables.clippy_rules(gated=False, image_projection=False))
images, tokens = np.zeros((2, 32, 48, 3), np.uint8), np.ones((2, 4), np.int32)
image, text, logit_scale = clippy.CLIPpy(model).apply({"params": back}, images, tokens)
print(float(softmax_loss.softmax_contrastive_loss(image, text, logit_scale, "mean")))
"""


def test_models_losses_step_and_weights_need_only_jax_flax_optax_and_numpy():
    done = subprocess.run(
        [sys.executable, "-c", BARE + SCRIPT],
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0


def test_dependencies_point_one_way():
    """Dependencies point one way: what is below never imports what is above it."""
    above = {
        "models": ("training", "weights", "input_pipeline", "evaluators", "inference", "shapes"),
        "weights": ("input_pipeline", "evaluators", "inference", "shapes"),
        "training": ("weights", "input_pipeline", "evaluators", "inference", "shapes"),
        "evaluators": ("weights", "inference", "shapes"),  # retrieval reads the tables and tars that training reads
        "input_pipeline": ("weights", "evaluators", "inference", "shapes"),
        "shapes": ("models", "training", "weights", "input_pipeline", "evaluators", "inference"),
    }
    for folder, forbidden in above.items():
        for path in (ROOT / "clippy_jax" / folder).glob("*.py"):
            for name in forbidden:
                assert f"from clippy_jax.{name}" not in path.read_text(), f"{path} imports {name}"
