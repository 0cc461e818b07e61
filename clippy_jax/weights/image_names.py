"""The conversion table of the image tower, for every family that it can be, and the names that others give the same.

The names of the table are those of the original repositories, DINO's, DINOv2's and DINOv3's `vision_transformer.py`,
and for SigLIP, whose original is no PyTorch, those of timm.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from clippy_jax.config import ImageTowerConfig
from clippy_jax.errors import InputError
from clippy_jax.models.rotary_embedding import wavelengths
from clippy_jax.weights.rules import LAYER, PATCHES, QUERY_VALUE, Rule, layer_norm, linear, to_torch


class ImageParts(NamedTuple):
    """What an image tower's parameters have beyond DINO's; `rotary` sets DINOv3 apart, `map_head` SigLIP."""

    layer_scale: bool = False
    registers: bool = False
    gated_mlp: bool = False
    rotary: bool = False
    map_head: bool = False

    @staticmethod
    def of_config(config: ImageTowerConfig) -> "ImageParts":
        rotary = config.positions == "rotary"
        return ImageParts(config.layer_scale, config.registers > 0, config.gated_mlp, rotary, config.map_head)

    @staticmethod
    def of_keys(keys: Iterable[str], prefix: str = "") -> "ImageParts":
        """What the keys of a state dict show, under the table's names behind a prefix."""
        text = "\n".join(key.removeprefix(prefix) for key in keys if key.startswith(prefix))

        def has(pattern: str) -> bool:
            return re.search(rf"^(?:{pattern})", text, re.MULTILINE) is not None

        rotary = has("storage_tokens$")
        return ImageParts(
            has(r"blocks\.\d+\.ls[12]\.gamma$"),
            rotary or has("register_tokens$"),
            has(r"blocks\.\d+\.mlp\.w12\."),
            rotary,
            has(r"attn_pool\."),
        )


DINO = ImageParts()


def image_rules(parts: ImageParts = DINO) -> tuple[Rule, ...]:
    """The image tower ↔ `models/vit.py`."""
    block = f"blocks.{LAYER}"
    registers = Rule("storage_tokens" if parts.rotary else "register_tokens", "register_tokens")
    qkv = linear(f"{block}.attn.qkv", "blocks/qkv")
    if parts.rotary:
        qkv = (qkv[0], Rule(f"{block}.attn.qkv.bias", "blocks/query_value/bias", QUERY_VALUE))
    mlp_in, mlp_out = ("w12", "w3") if parts.gated_mlp else ("fc1", "fc2")
    scales = [Rule(f"{block}.ls{i}.gamma", f"blocks/layer_scale{i}/scale") for i in (1, 2) if parts.layer_scale]
    map_head = (
        Rule("attn_pool.latent", "map_head/probe"),
        *linear("attn_pool.q", "map_head/query"),
        *linear("attn_pool.kv", "map_head/key_value"),
        *linear("attn_pool.proj", "map_head/projection"),
        *layer_norm("attn_pool.norm", "map_head/norm"),
        *linear("attn_pool.mlp.fc1", "map_head/mlp_in"),
        *linear("attn_pool.mlp.fc2", "map_head/mlp_out"),
    )
    return (
        *(() if parts.map_head else (Rule("cls_token", "cls_token"),)),
        *(() if parts.rotary else (Rule("pos_embed", "position_embedding"),)),
        *((registers,) if parts.registers else ()),
        Rule("patch_embed.proj.weight", "patch_embedding/kernel", PATCHES),
        Rule("patch_embed.proj.bias", "patch_embedding/bias"),
        *layer_norm(f"{block}.norm1", "blocks/norm1"),
        *qkv,
        *linear(f"{block}.attn.proj", "blocks/projection"),
        *scales[:1],
        *layer_norm(f"{block}.norm2", "blocks/norm2"),
        *linear(f"{block}.mlp.{mlp_in}", "blocks/mlp_in"),
        *linear(f"{block}.mlp.{mlp_out}", "blocks/mlp_out"),
        *scales[1:],
        *layer_norm("norm", "norm"),
        *(map_head if parts.map_head else ()),
    )


def original_tensors(params: Mapping[str, Any], config: ImageTowerConfig) -> dict[str, np.ndarray]:
    """An image tower as the original repository of its family, or transformers for SigLIP, loads it strictly: its
    parameters, and what the modules there hold beside them."""
    tensors = to_torch(params, image_rules(ImageParts.of_config(config)))
    if config.map_head:
        return _as_siglip(tensors)
    if config.gated_mlp and config.positions == "rotary":  # DINOv3 has the two halves apart
        for key in [key for key in tensors if ".mlp.w12." in key]:
            halves = np.split(tensors.pop(key), 2)
            tensors |= {key.replace(".w12.", f".w{i}."): half for i, half in enumerate(halves, start=1)}
    if config.layer_scale:  # DINOv2 and DINOv3 learn to fill in masked patches
        tensors["mask_token"] = np.zeros((1, config.width), np.float32)
    if config.positions == "rotary":
        tensors["rope_embed.periods"] = wavelengths(config.width // config.heads)
        mask = np.repeat(np.array([1, 0, 1], np.float32), config.width)
        tensors |= {f"blocks.{layer}.attn.qkv.bias_mask": mask for layer in range(config.depth)}
    return tensors


# What is no parameter of the tower: it is trained with it or follows from its sizes.
_UNUSED = re.compile(
    r"pooler\.|mask_token$|rope_embed\.periods$|local_cls_norm\.|blocks\.\d+\.attn\.qkv\.bias_mask$"
    r"|embeddings\.position_ids$"
)

# The training code of DINOv2 puts the blocks into groups, but counts them through.
_GROUP = re.compile(r"^blocks\.\d+\.(?=\d+\.)")

# What transformers calls the parts of the three: as published, and as its modules are named today.
_IN_BLOCK = r"(?:encoder\.layer|layers|(?:model\.)?layer)\.(\d+)\."
_TRANSFORMERS = tuple(
    (re.compile(pattern + r"(?=\.|$)"), name)
    for pattern, name in (
        (r"embeddings\.(cls_token|register_tokens|mask_token)", r"\1"),
        (r"embeddings\.position_embeddings", "pos_embed"),
        (r"embeddings\.patch_embeddings(?:\.projection)?", "patch_embed.proj"),
        (_IN_BLOCK + r"attention\.(?:attention\.query|q_proj)", r"blocks.\1.attn.q"),
        (_IN_BLOCK + r"attention\.(?:attention\.key|k_proj)", r"blocks.\1.attn.k"),
        (_IN_BLOCK + r"attention\.(?:attention\.value|v_proj)", r"blocks.\1.attn.v"),
        (_IN_BLOCK + r"attention\.(?:output\.dense|o_proj)", r"blocks.\1.attn.proj"),
        (_IN_BLOCK + r"(?:layernorm_before|norm1)", r"blocks.\1.norm1"),
        (_IN_BLOCK + r"(?:layernorm_after|norm2)", r"blocks.\1.norm2"),
        (_IN_BLOCK + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
        (_IN_BLOCK + r"mlp\.weights_in", r"blocks.\1.mlp.w12"),
        (_IN_BLOCK + r"mlp\.weights_out", r"blocks.\1.mlp.w3"),
        (_IN_BLOCK + r"mlp\.gate_proj", r"blocks.\1.mlp.w1"),
        (_IN_BLOCK + r"mlp\.up_proj", r"blocks.\1.mlp.w2"),
        (_IN_BLOCK + r"mlp\.down_proj", r"blocks.\1.mlp.w3"),
        (_IN_BLOCK + r"(?:intermediate\.dense|mlp\.fc1)", r"blocks.\1.mlp.fc1"),
        (_IN_BLOCK + r"(?:output\.dense|mlp\.fc2)", r"blocks.\1.mlp.fc2"),
        (r"layernorm", "norm"),
    )
)

# Tensors that lie one above the other in the table, by what stands after the block.
_JOINED = {"attn.qkv": ("attn.q", "attn.k", "attn.v"), "mlp.w12": ("mlp.w1", "mlp.w2")}


# The names of the table and what transformers calls the same in its SigLIP: how a key begins, or ".a part in a block.".
_SIGLIP = (
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("pos_embed", "embeddings.position_embedding.weight"),
    ("blocks.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.q.", ".self_attn.q_proj."),
    (".attn.k.", ".self_attn.k_proj."),
    (".attn.v.", ".self_attn.v_proj."),
    (".attn.proj.", ".self_attn.out_proj."),
    ("norm.", "post_layernorm."),
    ("attn_pool.latent", "head.probe"),
    ("attn_pool.qkv.", "head.attention.in_proj_"),
    ("attn_pool.proj.", "head.attention.out_proj."),
    ("attn_pool.norm.", "head.layernorm."),
    ("attn_pool.mlp.", "head.mlp."),
)


def _renamed(key: str, names: Iterable[tuple[str, str]]) -> str:
    for old, new in names:
        if old.startswith("."):
            key = key.replace(old, new)
        elif key.startswith(old):
            return _renamed(new + key[len(old) :], [pair for pair in names if pair[0].startswith(".")])
    return key


def _of_siglip(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of transformers' SigLIP under the names of the table, but queries, keys and values of the blocks."""
    renamed = {_renamed(key, [(theirs, ours) for ours, theirs in _SIGLIP]): value for key, value in tensors.items()}
    if "pos_embed" in renamed:
        renamed["pos_embed"] = renamed["pos_embed"][None]
    for kind in ("weight", "bias"):
        if (whole := renamed.pop(f"attn_pool.qkv.{kind}", None)) is not None:
            width = len(whole) // 3
            renamed |= {f"attn_pool.q.{kind}": whole[:width], f"attn_pool.kv.{kind}": whole[width:]}
    return renamed


def _as_siglip(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of the table as transformers' `SiglipVisionModel` has them."""
    split = {}
    for key, value in tensors.items():
        if ".attn.qkv." in key:
            split |= {key.replace(".qkv.", f".{part}."): third for part, third in zip("qkv", np.split(value, 3))}
        elif key.startswith("attn_pool.q."):
            whole = np.concatenate([value, tensors[key.replace(".q.", ".kv.")]])
            split[key.replace(".q.", ".qkv.")] = whole
        elif not key.startswith("attn_pool.kv."):
            split[key] = value[0] if key == "pos_embed" else value
    return {_renamed(key, _SIGLIP): value for key, value in split.items()}


def with_table_names(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """An image tower's tensors under the names of the table, whatever they come under, without what is no parameter.

    Raises:
      InputError: the tower has rotary positions, but with other wavelengths or with biases on its keys.
    """
    if "embeddings.patch_embedding.weight" in tensors:
        tensors = _of_siglip(tensors)
    from_transformers = any(key.startswith("embeddings.") for key in tensors)
    renamed = {}
    for key, value in tensors.items():
        if from_transformers:
            matches = ((pattern.match(key), name) for pattern, name in _TRANSFORMERS)
            match, name = next(((match, name) for match, name in matches if match), (None, ""))
            key = match.expand(name) + key[match.end() :] if match else key
        renamed[_GROUP.sub("blocks.", key)] = value
    if "embeddings.patch_embeddings.weight" in tensors:  # DINOv3's
        renamed = _with_dinov3_names(renamed)
    _check_rotary(renamed, source)
    return _joined({key: value for key, value in renamed.items() if not _UNUSED.match(key)})


def _with_dinov3_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of transformers' DINOv3 as its original names them, which gives keys a bias of zero."""
    is_gated = any(".mlp.w1." in key for key in tensors)
    plain = {} if is_gated else {".mlp.w2.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
    renamed = {}
    for key, value in tensors.items():
        for old, new in (plain | {"register_tokens": "storage_tokens"}).items():
            key = key.replace(old, new)
        renamed[key] = value
        if key.endswith(".attn.q.bias"):
            renamed.setdefault(key.replace(".attn.q.", ".attn.k."), np.zeros_like(value))
    return renamed


def _joined(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with queries, keys and values in one tensor, as in DINO, and the two halves of a gated MLP likewise."""
    joined = dict(tensors)
    for whole, parts in _JOINED.items():
        for key in tensors:
            if f".{parts[0]}." in key:
                names = [key.replace(f".{parts[0]}.", f".{part}.") for part in parts]
                if all(name in joined for name in names):
                    values = [joined.pop(name) for name in names]
                    joined[key.replace(f".{parts[0]}.", f".{whole}.")] = np.concatenate(values)
    return joined


def _check_rotary(tensors: Mapping[str, np.ndarray], source: str) -> None:
    """Where DINOv3's training could have made something that `models/vit.py` does not compute."""
    found = tensors.get("rope_embed.periods")
    if found is not None and not np.allclose(found, wavelengths(4 * found.size), rtol=0.01):
        raise InputError(f"{source} has rotary positions of other wavelengths than DINOv3's, which are not known here")
    for key, bias in tensors.items():
        if "storage_tokens" in tensors and key.endswith(".attn.qkv.bias") and f"{key}_mask" not in tensors:
            if np.array_split(bias, 3)[1].any():
                raise InputError(f"{source} has rotary positions and biases on its keys ({key}), which DINOv3 has not")
