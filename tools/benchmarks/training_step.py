"""The training step, ours and PyTorch's: uint8 images and token ids in, updated parameters out."""

import dataclasses
import functools
import math
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clippy_jax.config import (
    ImageTowerConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TextTowerConfig,
    parse_model,
)
from tools.benchmarks import sides
from tools.benchmarks.progress import Progress
from tools.benchmarks.report import Case, Report

SIZES = {"b16": ("B/16", "base", 32128), "tiny": ("Ti/16", "tiny", 100)}
TEXT_LENGTH = 77
TEXTS_PER_PACK = 64  # as in configs/b16.py, or the whole batch if that is smaller
OPTIMIZER = OptimizerConfig(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.2, gradient_clip_norm=0.0, freeze=())
SCHEDULE = ScheduleConfig(peak_learning_rate=5e-4, warmup_steps=10_000, decay_steps=43_008, stop_step=5_000)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained, on both sides alike."""

    # Captions of random lengths as CC-12M's, 20.2 tokens on average, standard deviation 16.3; otherwise all are long.
    # The peer pads them to TEXT_LENGTH, as the public code does; here they share rows of that length.
    captions: bool = False
    patch_dropout: float = 0.0
    rematerialise: bool = False  # gradient checkpointing
    microbatches: int = 1  # GradCache, on our side; the peer takes its batch whole
    attention_dropout: bool = True  # of T5's attention weights, which keeps it from cuDNN's kernel on our side
    fused_attention: bool = True  # where the device has it, on our side


SETTINGS = {
    "texts of 77 tokens": Setting(),
    "captions of real lengths": Setting(captions=True),
    "patch dropout 0.5": Setting(patch_dropout=0.5),
    "rematerialised": Setting(rematerialise=True),
    "4 microbatches": Setting(microbatches=4),
    "rematerialised, 4 microbatches": Setting(rematerialise=True, microbatches=4),
    "no attention dropout": Setting(attention_dropout=False),
    "plain attention": Setting(attention_dropout=False, fused_attention=False),
}
# The same work, the batch whole and in parts.
WHOLE_AND_PARTS = (
    ("texts of 77 tokens", "4 microbatches"),
    ("rematerialised", "rematerialised, 4 microbatches"),
)


def measure(
    size: str,
    batch_size: int,
    steps: int,
    precision: str,
    settings: Sequence[str],
    peers: Sequence[str],
    turns: int | None,
) -> Report:
    """Times steps of all sides in the settings, in so many turns or those of its size; the peers are of `sides.PEERS`.

    Microbatches are measured beside our own step of the whole batch too, if that is among the settings.
    """
    from clippy_jax.training.device_rates import data_sheet_rate  # with JAX, which PyTorch's process does without

    cases, where, of_ours = [], None, {}
    turns = turns or sides.TURNS[size]
    progress = Progress(len(settings) * turns * (1 + len(peers)))
    for setting in settings:
        work = dict(
            model=dataclasses.asdict(model_config(size, precision, SETTINGS[setting])),
            batch_size=batch_size,
            setting=setting,
        )
        name = f"{size}, {precision}, batch {batch_size}, {setting}"
        measured = sides.take_turns(__name__, ("ours", *peers), work, turns, steps, name, progress)
        # Texts of different lengths take different times: their mean is what counts, of equal steps the median.
        typical = np.mean if SETTINGS[setting].captions else np.median
        seconds = {side: float(typical(one.seconds)) for side, one in measured.items()}
        spread = {side: sides.middle_half(one.seconds) for side, one in measured.items()}
        rate = max(one.matmul_rate for one in measured.values())
        ours = of_ours[setting] = measured["ours"]
        flops = ours.facts["flops"]
        promised = data_sheet_rate(ours.facts["device"], precision)
        where = where or sides.report_environment(ours.facts["device"])
        for peer in peers:
            beside = f"{name}, beside {sides.PEERS[peer]}"
            memory = ours.peak_memory / 1e9, measured[peer].peak_memory / 1e9
            # Of captions, the operations in our rows: what the peer spends on padding is no use.
            share = flops / seconds["ours"] / rate, flops / seconds[peer] / rate
            cases += [
                Case(f"step time, {beside}", seconds["ours"], seconds[peer], "s", spread["ours"], spread[peer]),
                Case(f"peak memory, {beside}", *memory, "GB"),
                Case(f"share of the matmul rate, {beside}", *share, "FLOPs/s over the matmul rate"),
                Case(f"matmul rate, {beside}", ours.matmul_rate / 1e12, measured[peer].matmul_rate / 1e12, "TFLOP/s"),
            ]
            if promised:
                share = flops / seconds["ours"] / promised, flops / seconds[peer] / promised
                cases.append(Case(f"MFU, {beside}", *share, "of the data sheet's rate"))
        if not peers:
            cases += [
                Case(f"step time, {name}", seconds["ours"], None, "s", spread["ours"]),
                Case(f"peak memory, {name}", ours.peak_memory / 1e9, None, "GB"),
            ]
            if promised:
                cases.append(Case(f"MFU, {name}", flops / seconds["ours"] / promised, None, "of the data sheet's rate"))
        cases += [
            Case(f"compile time, {name}", ours.facts["compile_seconds"], None, "s"),
            Case(f"temporary memory, {name}", ours.facts["temporary_memory"] / 1e9, None, "GB"),
            Case(f"FLOPs of a step, {name}", flops / 1e12, None, "TFLOP"),
            Case(f"matmul rate, {name}", rate / 1e12, None, "TFLOP/s"),
        ]
    for whole, parts in WHOLE_AND_PARTS:
        if {whole, parts} <= of_ours.keys():
            beside = f"{size}, {precision}, batch {batch_size}, {parts} beside the whole batch"
            both = of_ours[parts], of_ours[whole]
            seconds = [float(np.median(one.seconds)) for one in both]
            spread = [sides.middle_half(one.seconds) for one in both]
            memory = [one.facts["temporary_memory"] / 1e9 for one in both]
            cases += [
                Case(f"step time, {beside}", *seconds, "s", *spread),
                Case(f"temporary memory, {beside}", *memory, "GB"),
            ]
    return Report(where, cases)


def model_config(size: str, precision: str, setting: Setting) -> ModelConfig:
    """The model that both sides train. Imports JAX, which PyTorch's process does without: it gets the outcome."""
    from clippy_jax.models import t5, vit

    image, text, vocabulary_size = SIZES[size]
    return ModelConfig(
        image=ImageTowerConfig(
            **vit.SIZES[image], image_size=224, position_interpolation="dino", patch_dropout=setting.patch_dropout
        ),
        text=TextTowerConfig(
            **t5.SIZES[text],
            vocabulary_size=vocabulary_size,
            gated_mlp=False,
            relative_buckets=32,
            relative_max_distance=128,
            dropout=0.1,
            attention_dropout=-1.0 if setting.attention_dropout else 0.0,
        ),
        pooling="max_with_cls",
        image_projection=False,
        precision=precision,
        rematerialise=setting.rematerialise,
    )


def _batches(vocabulary_size: int, batch_size: int, setting: Setting) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and token ids, padded to TEXT_LENGTH; the same ones on every side and in every turn."""
    random = np.random.default_rng(0)
    # A lognormal distribution with the mean and the standard deviation of CC-12M's captions.
    variance = np.log(1 + (16.3 / 20.2) ** 2)
    while True:
        images = random.integers(0, 256, (batch_size, 224, 224, 3), dtype=np.uint8)
        tokens = random.integers(3, vocabulary_size, (batch_size, TEXT_LENGTH), dtype=np.int32)
        if setting.captions:
            lengths = random.lognormal(np.log(20.2) - variance / 2, variance**0.5, batch_size).round()
            tokens[np.arange(TEXT_LENGTH) >= np.clip(lengths, 2, TEXT_LENGTH)[:, None]] = 0
        yield images, tokens


class _Repeated:
    """The i-th batch for any i, made once."""

    def __init__(self, vocabulary_size: int, batch_size: int, setting: Setting, place):
        self._source, self._place, self._batches = _batches(vocabulary_size, batch_size, setting), place, []
        self._varying = setting.captions

    def __getitem__(self, i: int):
        i = i if self._varying else 0
        while len(self._batches) <= i:
            self._batches.append(self._place(*next(self._source)))
        return self._batches[i]


def _ours(model: Mapping[str, Any], batch_size: int, setting: str) -> sides.Side:
    import jax
    from jax.sharding import Mesh

    from clippy_jax.host_memory import give_back_memory
    from clippy_jax.input_pipeline.text_packing import fill_rows, find_packing, rounded_rows
    from clippy_jax.models import t5, vit
    from clippy_jax.training.optimizer import make_optimizer
    from clippy_jax.training.state import init_state
    from clippy_jax.training.step import make_train_step
    from clippy_jax.training.step_work import step_work

    chosen = SETTINGS[setting]
    if not chosen.fused_attention:
        t5.fused_attention_works = vit.fused_attention_works = lambda *shape, **kind: False
    # The part of a configuration that the step reads.
    config = types.SimpleNamespace(
        model=parse_model(model),
        loss=LossConfig("softmax", "mean"),
        microbatches=chosen.microbatches,
        parameter_sharding="replicated",
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        skip_nonfinite_updates=0,
    )

    one_device = Mesh(np.array(jax.devices()[:1]), ("data",))
    texts_per_pack = math.gcd(batch_size // chosen.microbatches, TEXTS_PER_PACK)

    def place(images, tokens):
        packing = find_packing(tokens, texts_per_pack, chosen.microbatches)
        return jax.device_put((images, fill_rows(packing, rounded_rows(packing.rows, texts_per_pack))))

    batches = _Repeated(config.model.text.vocabulary_size, batch_size, chosen, place)
    optimizer = make_optimizer(OPTIMIZER, SCHEDULE)
    state = jax.jit(lambda key: init_state(config.model, config.loss, 224, optimizer, (), key))(jax.random.key(0))
    jax.block_until_ready(state)
    programs = {}

    def compiled(images, texts):
        if texts.tokens.shape not in programs:
            step = jax.jit(make_train_step(config, one_device), donate_argnums=0)
            packs, rows, length = texts.tokens.shape
            flops = step_work(config.model, (), 224, batch_size, packs * rows, length).flops
            start = time.perf_counter()
            program = step.lower(state, images, texts).compile()
            programs[texts.tokens.shape] = program, flops, time.perf_counter() - start
            give_back_memory()  # as in training
        return programs[texts.tokens.shape]

    program, _, seconds = compiled(*batches[0])
    temporary_memory = program.memory_analysis().temp_size_in_bytes
    facts = sides.jax_facts() | {"compile_seconds": seconds, "temporary_memory": temporary_memory}
    flops_of_steps = []

    def run(i: int) -> None:
        nonlocal state
        program, flops, _ = compiled(*batches[i])
        state, metrics = program(state, *batches[i])
        jax.block_until_ready((state, metrics))
        flops_of_steps.append(flops)
        facts["flops"] = float(np.mean(flops_of_steps))

    return sides.Side(facts, run, sides.jax_peak_memory, lambda: sides.jax_matmul_rate(config.model.precision))


def _peer(model: Mapping[str, Any], batch_size: int, setting: str, *, compiled: bool) -> sides.Side:
    import torch

    from tools.benchmarks.torch_clippy import TorchCLIPpy, contrastive_loss

    config = parse_model(model)
    device = sides.torch_device(config.precision)
    clippy = TorchCLIPpy(config).to(device).train()

    def place(*batch):
        return [torch.from_numpy(part.copy()).to(device) for part in batch]

    batches = _Repeated(config.text.vocabulary_size, batch_size, SETTINGS[setting], place)
    undecayed = [p for name, p in clippy.named_parameters() if p.ndim < 2 or "bias" in name]
    decayed = [p for name, p in clippy.named_parameters() if not (p.ndim < 2 or "bias" in name)]
    groups = [{"params": undecayed, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.2}]
    optimizer = torch.optim.AdamW(groups, lr=5e-8, betas=(0.9, 0.999), eps=1e-8, fused=True)
    forward = torch.compile(clippy) if compiled else clippy

    def run(i: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        with sides.torch_autocast(device, config.precision):
            image, text, logit_scale = forward(*batches[i])
        loss = contrastive_loss(image.float(), text.float(), logit_scale)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            clippy.logit_scale.clamp_(0, np.log(100))
        loss.item()
        sides.torch_wait(device)

    return sides.torch_side(device, config.precision, run)


if __name__ == "__main__":
    eager, compiled = (functools.partial(_peer, compiled=choice) for choice in (False, True))
    sides.serve({"ours": _ours, "eager": eager, "compiled": compiled})
