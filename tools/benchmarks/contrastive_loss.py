"""The contrastive losses alone: value and gradients of the features, ours and eager PyTorch's, and their memory.

Ours run on all devices that there are, of which a CPU counts as eight. PyTorch's is `contrastive_loss` of the same
features on one device. This module needs no more than jax, flax and optax, and torch for the peer.
"""

import os
import time
from collections.abc import Callable, Sequence

# Before jax is imported: without a GPU, the ring has eight virtual devices to go around.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from clippy_jax.config import LossConfig  # noqa: E402
from clippy_jax.mesh import batch_sharding, make_mesh  # noqa: E402
from clippy_jax.training.losses.contrastive import contrastive_loss  # noqa: E402
from tools.benchmarks.progress import Progress  # noqa: E402
from tools.benchmarks.report import Case, Report, environment  # noqa: E402
from tools.benchmarks.sides import middle_half, torch_device, torch_facts, torch_wait  # noqa: E402

SIZES = {"full": (768, 4096, 65536), "tiny": (16, 64, 1024)}  # width, timed batch, batch whose memory is computed
KINDS = ("softmax", "ring", "sigmoid")
SCALE, BIAS = float(np.log(1 / 0.07)), -10.0
PACKAGES = ("jax", "jaxlib", "torch")


def measure(size: str, steps: int, peers: Sequence[str]) -> Report:
    """Times `steps` evaluations of each loss, in turns; reads the memory of each from its compiled program.

    Of the peers, "eager" is enough.
    """
    width, batch, large = SIZES[size]
    features = np.random.default_rng(0).normal(size=(2, batch, width)).astype(np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    mesh = make_mesh()
    device = f"{mesh.size} x {jax.devices()[0].device_kind}"
    sides = {kind: _our_loss(kind, features) for kind in KINDS}
    if peers:
        sides["peer"], where = _torch_loss(features)
        device += f" (peer: {where})"
    report = environment(device, PACKAGES)
    seconds = {side: [] for side in sides}
    progress = Progress(1 + steps)
    for i in range(1 + steps):
        progress.begin("each loss once")
        for side, step in sides.items():
            start = time.perf_counter()
            step()
            if i > 0:  # the first warms up
                seconds[side].append(time.perf_counter() - start)
    median, spread = ({side: f(times) for side, times in seconds.items()} for f in (np.median, middle_half))
    cases = [
        Case(
            f"{kind}, batch {batch}, width {width}: loss and gradients" + " beside PyTorch's softmax" * bool(peers),
            median[kind],
            median.get("peer"),
            "s",
            spread[kind],
            spread.get("peer"),
        )
        for kind in KINDS
    ]
    cases.append(
        Case(f"ring beside our softmax, batch {batch}", median["ring"], median["softmax"], "s", spread["ring"])
    )
    for kind in KINDS:
        for pairs in (batch, large):
            memory = _compile(kind, pairs, width).memory_analysis().temp_size_in_bytes / 1e6
            chunked = kind == "sigmoid" and peers
            peer = _kept_by_torch_in_chunks(pairs, width, mesh.size) / 1e6 if chunked else None
            beside = ", beside PyTorch's in chunks" if peer else ""
            cases.append(Case(f"{kind}, batch {pairs}: temporary memory per device{beside}", memory, peer, "MB"))
    return Report(report, cases)


def _compile(kind: str, batch: int, width: int) -> jax.stages.Compiled:
    mesh, config = make_mesh(), LossConfig(kind, "mean")

    def loss(image, text, scale):
        params = {"logit_scale": scale, "logit_bias": jnp.float32(BIAS)}
        return contrastive_loss(image, text, params, config, mesh)

    features = jax.ShapeDtypeStruct((batch, width), jnp.float32, sharding=batch_sharding(mesh))
    number = jax.ShapeDtypeStruct((), jnp.float32)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(features, features, number).compile()


def _our_loss(kind: str, features: np.ndarray) -> Callable[[], None]:
    compiled = _compile(kind, *features.shape[1:])
    split = batch_sharding(make_mesh())
    arguments = (*(jax.device_put(part, split) for part in features), jnp.float32(SCALE))
    return lambda: jax.block_until_ready(compiled(*arguments))


def _torch_loss(features: np.ndarray) -> tuple[Callable[[], None], str]:
    import torch
    from torch.nn import functional

    device = torch_device("float32")
    image, text = (torch.from_numpy(part).to(device).requires_grad_() for part in features)
    scale = torch.tensor(SCALE, device=device, requires_grad=True)
    labels = torch.arange(len(image), device=device)

    def step() -> None:
        logits = scale.exp() * image @ text.T
        loss = (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2
        torch.autograd.grad(loss, (image, text, scale))
        torch_wait(device)

    return step, torch_facts(device)["device"]


def _kept_by_torch_in_chunks(pairs: int, width: int, devices: int) -> int:
    """Bytes that a device keeps of SigLIP's loss for the backward pass where it takes the texts of one device after the
    other and leaves the rest to autograd, as open_clip does: its blocks of logits. The tensors have shapes alone.
    """
    import torch
    from torch.nn import functional

    kept = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    local = pairs // devices
    image, text = (torch.empty(local, width, device="meta", requires_grad=True) for _ in range(2))
    scale, bias = (torch.empty((), device="meta", requires_grad=True) for _ in range(2))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = 0
        for device in range(devices):
            logits = scale * image @ text.clone().T + bias
            signs = torch.full_like(logits, -1) + (2 * torch.eye(local, device="meta") if device == 0 else 0)
            loss = loss - functional.logsigmoid(signs * logits).sum() / local
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
