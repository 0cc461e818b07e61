"""What may import what: the models, the step and the weights run where little more than JAX is installed."""

import ast
import graphlib
import os
import pathlib
import subprocess
import sys

import pytest

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
from clippy_jax import mesh
from clippy_jax.training import optimizer, schedule, state, step
from clippy_jax.training.losses import softmax
from clippy_jax.weights import rules, torch_names

model = parse_model({
    "image": {"image_size": 32, "position_interpolation": "dino", "patch_dropout": 0.0, **vit.SIZES["Ti/16"]},
    "text": {"vocabulary_size": 50, "gated_mlp": False, "relative_buckets": 32, "relative_max_distance": 128,
             "dropout": 0.1, **t5.SIZES["tiny"]},
    "pooling": "max", "image_projection": False, "precision": "float32", "rematerialise": True,
})
params = jax.jit(lambda key: state.init_params(model, 32, key))(jax.random.key(0))
tensors = rules.to_torch(jax.device_get(params), torch_names.clippy_rules(gated=False, image_projection=False))
back = rules.to_flax(tensors, torch_names.clippy_rules(gated=False, image_projection=False))
images, tokens = np.zeros((2, 32, 48, 3), np.uint8), np.ones((2, 4), np.int32)
image, text, logit_scale = jax.jit(clippy.CLIPpy(model).apply)({"params": back}, images, tokens)
print(float(softmax.softmax_contrastive_loss(image, text, logit_scale, "mean")))
"""


def test_models_losses_step_and_weights_need_only_jax_flax_optax_and_numpy():
    done = subprocess.run(
        [sys.executable, "-c", BARE + SCRIPT],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0


# A run's model, used where nothing that reads data sets is installed.
USE = """
ABSENT = {"tensorflow", "tensorflow_datasets", "tensorflow_text", "tensorboard", "clu", "matplotlib", "torch"}

import sys
import numpy as np
import clippy_jax

model = clippy_jax.load(sys.argv[1])
patches, pooled = model.encode_image(np.zeros((2, 32, 32, 3), np.uint8))
print(patches.shape, pooled.shape, model.encode_text(["a photo of an apple"]).shape)
"""


def test_a_model_is_loaded_and_used_without_tensorflow(demo_folder):
    done = subprocess.run(
        [sys.executable, "-c", BARE + USE, str(demo_folder / "runs" / "shapes")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(2, 4, 4, 32) (2, 32) (1, 32)"


def test_tensorflow_is_imported_nowhere_but_where_data_is_read():
    """Not even by a function: what computes, converts and answers runs without it, in all that it can do."""
    for place in ("models", "training", "weights", "inference"):
        for path in (ROOT / "clippy_jax" / place).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found = {name.split(".")[0] for name in names} & {"tensorflow", "tensorflow_datasets", "clu"}
                found |= {name for name in names if name.endswith("host_tensorflow")}
                assert not found, f"{path.relative_to(ROOT)} imports {found}"


# The house from the ground up: what stands on a line may import what stands on that line or on one before it.
FLOORS = (
    ("errors",),
    ("hub",),
    ("config", "config_parser", "command_line", "host_memory", "host_tensorflow", "mesh", "processes", "whole_files"),
    ("models", "datasets"),
    ("input_pipeline",),
    ("training",),
    ("run",),
    ("weights",),
    ("inference",),
    ("evaluators",),
    ("shapes",),
    ("analysis",),
    ("report",),
    (
        "divergence",
        "train",
        "main",
        "encode_images",
        "replay",
        "prove_resume",
        "evaluate",
        "compare",
        "reproduce",
        "segment",
        "convert",
        "demo",
        "export",
        "__init__",
        "__main__",
    ),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported(source: str, module: str) -> set[str]:
    """The modules of the package that a module's source text imports, however it is written and wherever it stands.

    Args:
      source: the text.
      module: its name, for relative imports; that of a package ends in `.__init__`.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*module.split(".")[: -node.level], *(node.module or "").split(".")] if node.level else [node.module]
            base = ".".join(filter(None, base))
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return {name for name in found if name.startswith("clippy_jax.")}


def room(module: str) -> str:
    """The file or folder directly under the package in which a module stands."""
    return module.split(".")[1]


@pytest.mark.parametrize(
    "statement",
    [
        "import clippy_jax.weights.rules",
        "import clippy_jax.weights.rules as rules",
        "from clippy_jax import weights",
        "from clippy_jax.weights import rules",
        "from clippy_jax.weights.rules import Rule",
        "from ..weights import rules",
        "from .. import weights",
        "def later():\n    from clippy_jax.weights import rules",
        "importlib.import_module('clippy_jax.weights.rules')",
        "__import__('clippy_jax.weights')",
    ],
)
def test_every_form_of_import_is_seen(statement):
    assert {room(name) for name in imported(statement, "clippy_jax.models.vit")} == {"weights"}


def test_dependencies_point_one_way():
    """What is below never imports what is above it."""
    for path in (ROOT / "clippy_jax").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in imported(path.read_text(), module):
            assert FLOOR_OF[room(name)] <= FLOOR_OF[room(module)], f"{module} imports {name}, which is above it"


def test_no_modules_import_each_other_in_a_circle():
    package = ROOT / "clippy_jax"
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in package.rglob("*.py")}
    needs = {module: set() for module in modules}
    for module, path in modules.items():
        for name in imported(path.read_text(), module):
            # Of `from a.b import c`, c may be a module, or something in a.b; a package stands for its __init__.
            owners = (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__")
            needs[module] |= {next(owner for owner in owners if owner in modules)} - {module}
    graphlib.TopologicalSorter(needs).prepare()
