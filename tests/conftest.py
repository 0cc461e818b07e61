"""Runs before anything imports jax or TensorFlow: CPU only, eight devices for the sharding, offline."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# The tests compile far longer than they compute: the cheapest code halves their time. Where the code that users run is
# what matters, a test asks for it by `jax.jit(..., compiler_options=configurations.FULLY_OPTIMISED)`.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
    ]
)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["HF_HUB_OFFLINE"] = "1"

# ruff: noqa: E402, F401 (after the settings above; fixtures are found by their names)
from tests.inputs import (
    encoded,
    input_config,
    photo,
    shards,
    spiece_folder,
    tokenizer_json_folder,
    write_shard,
    write_tar,
)
