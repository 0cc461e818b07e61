"""How the tests compile: the cheapest code, since most of them compile far longer than they compute."""

from importlib import metadata

# At full optimisation, and otherwise at none.
_OPTIMISATION = {"xla_backend_optimization_level": (3, 0)}
if metadata.version("jaxlib").startswith(
    "0.10."
):  # later versions have only the code generator of the two that is slow
    _OPTIMISATION["xla_cpu_use_fusion_emitters"] = (True, False)

# For `jax.jit(..., compiler_options=FULLY_OPTIMISED)`, where the code that users run is what matters.
FULLY_OPTIMISED = {name: full for name, (full, _) in _OPTIMISATION.items()}


def xla_flags(devices: int) -> str:
    """The environment variable XLA_FLAGS of a program under test that has so many virtual devices."""
    cheapest = {name: str(none).lower() for name, (_, none) in _OPTIMISATION.items()}
    flags = cheapest | {"xla_cpu_parallel_codegen_split_count": 1, "xla_force_host_platform_device_count": devices}
    return " ".join(f"--{name}={value}" for name, value in flags.items())
