"""The image tower in ONNX: `CLIPpy.encode_image` (`models/clippy.py`, `models/vit.py`), in float32."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float

from clippy_jax.config import ImageTowerConfig, ModelConfig
from clippy_jax.export.onnx_graph import Graph, one_block
from clippy_jax.models.clippy import PIXEL_STATISTICS
from clippy_jax.models.position_embedding import CUBIC_A, PILLOW_CUBIC_A
from clippy_jax.models.rotary_embedding import wavelengths


def image_tower(params: Mapping[str, Any], config: ModelConfig) -> onnx.ModelProto:
    """A model that embeds any number of images of any size that the patch size divides.

    images: uint8 [B, H, W, 3], pixels of 0 to 255, → patch_embeddings: float32 [B, h, w, D] and image_embedding:
    float32 [B, D], all L2-normalised.

    Args:
      params: the parameters of `CLIPpy`, in host memory.
      config: their architecture.
    """
    graph, tower, image = Graph(), config.image, params["image"]
    batch, height, width, _ = graph.node("Split", graph.node("Shape", "images"), [1, 1, 1, 1], outputs=4, axis=0)
    rows, columns = (graph.node("Div", length, [tower.patch_size]) for length in (height, width))

    pixels = graph.node("Div", graph.node("Cast", "images", to=onnx.TensorProto.FLOAT), 255.0)
    mean, std = map(np.array, PIXEL_STATISTICS[tower.pixel_statistics])
    pixels = graph.node("Div", graph.node("Sub", pixels, mean), std)
    size = [tower.patch_size]
    patches = graph.node("Reshape", pixels, graph.node("Concat", batch, rows, size, columns, size, [3], axis=0))
    patches = graph.node("Transpose", patches, perm=(0, 1, 3, 2, 4, 5))
    patches = graph.node("Reshape", patches, graph.node("Concat", batch, [-1], [tower.patch_size**2 * 3], axis=0))

    tokens = graph.linear(patches, "patch_embedding", image["patch_embedding"])
    others = [np.asarray(image[name]) for name in ("cls_token", "register_tokens") if name in image]
    rotation = None
    if tower.positions == "rotary":
        rotation = _rotation(graph, tower, rows, columns)
    else:
        positions = np.asarray(image["position_embedding"])
        own = _patch_positions(graph, positions, rows, columns, tower.position_interpolation)
        tokens = graph.node("Add", tokens, own)
        if not tower.map_head:
            others[0] = others[0] + positions[:, :1]
    if others:
        others = graph.parameter("cls_and_register_tokens", np.concatenate(others, axis=1))
        shape = graph.node("Concat", batch, [tower.special_tokens, tower.width], axis=0)
        tokens = graph.node("Concat", graph.node("Expand", others, shape), tokens, axis=1)

    for i in range(tower.depth):
        tokens = _block(graph, tokens, f"blocks/{i}", one_block(image["blocks"], i), tower, rotation)
    tokens = _layer_norm(graph, tokens, "norm", image["norm"], tower.norm_eps)

    features, last = config.text.embedding_width, np.iinfo(np.int64).max
    patches = graph.node("Slice", tokens, [tower.special_tokens], [last], [1])
    cls = _map_head(graph, patches, image["map_head"], tower) if tower.map_head else None
    cls = cls or graph.node("Slice", tokens, [0], [1], [1])
    if config.image_projection:
        cls, patches = (graph.linear(x, "image_projection", params["image_projection"]) for x in (cls, patches))
    pooled = _pool(graph, cls, patches, config.pooling)
    if config.pooling == "cls_and_avg":
        patches = graph.node("Pad", patches, [0, 0, config.token_width, 0, 0, 0], 0.0)
    patches = graph.node("Reshape", patches, graph.node("Concat", batch, rows, columns, [features], axis=0))
    return graph.model(
        {"images": (onnx.TensorProto.UINT8, ("batch", "height", "width", 3))},
        {
            "patch_embeddings": (graph.l2_normalise(patches), ("batch", "rows", "columns", features)),
            "image_embedding": (graph.l2_normalise(pooled), ("batch", features)),
        },
    )


def _patch_positions(
    graph: Graph, table: Float[np.ndarray, "1 tokens D"], rows: str, columns: str, interpolation: str
) -> str:
    """The position embedding of each patch [1, N, D], as `resize_position_embedding` makes it."""
    trained = math.isqrt(table.shape[1])
    grid = graph.node("Concat", rows, columns, axis=0)
    channels_first = table[0, -(trained**2) :].reshape(1, trained, trained, -1).transpose(0, 3, 1, 2)
    inputs = [graph.parameter("position_embedding", channels_first), None]
    if interpolation == "dino":
        # By scale factors, a tenth of a patch too large, except on the grid that the table was made for.
        scales = graph.node("Cast", grid, to=onnx.TensorProto.FLOAT)
        scales = graph.node("Div", graph.node("Add", scales, 0.1), float(trained))
        is_trained = graph.node("Equal", graph.node("Sub", grid, [trained, trained]), [0, 0])
        is_trained = graph.node("Cast", is_trained, to=onnx.TensorProto.INT64)
        is_trained = graph.node("Cast", graph.node("ReduceMin", is_trained, keepdims=1), to=onnx.TensorProto.BOOL)
        scales = graph.node("Where", is_trained, 1.0, scales)
        inputs.append(graph.node("Concat", np.ones(2), scales, axis=0))
    else:
        inputs += [None, graph.node("Concat", [1, table.shape[-1]], grid, axis=0)]
    how = {"cubic_coeff_a": CUBIC_A}
    if interpolation == "antialias":
        how = {"cubic_coeff_a": PILLOW_CUBIC_A, "antialias": 1, "exclude_outside": 1}
    resized = graph.node("Resize", *inputs, mode="cubic", coordinate_transformation_mode="half_pixel", **how)
    resized = graph.node("Reshape", resized, [1, table.shape[-1], -1])
    return graph.node("Transpose", resized, perm=(0, 2, 1))


def _rotation(graph: Graph, tower: ImageTowerConfig, rows: str, columns: str) -> tuple[str, str]:
    """Cosine and sine of the angle of each feature of a head, [1, N, 1, K], as `models/rotary_embedding.py` has them;
    the tokens before the patches are not turned."""
    waves = wavelengths(tower.width // tower.heads)
    grid = graph.node("Concat", rows, columns, [len(waves)], axis=0)

    def angles(count: str, shape: Sequence[int]) -> str:
        length = graph.node("Cast", graph.node("Squeeze", count, [0]), to=onnx.TensorProto.FLOAT)
        places = graph.node("Div", graph.node("Range", np.float32(0.5), length, np.float32(1)), length)
        places = graph.node("Reshape", graph.node("Sub", graph.node("Mul", places, 2.0), 1.0), shape)
        return graph.node("Expand", graph.node("Mul", graph.node("Mul", places, 2 * np.pi), 1 / waves), grid)

    half = graph.node("Concat", angles(rows, (-1, 1, 1)), angles(columns, (1, -1, 1)), axis=-1)
    patches = graph.node("Reshape", graph.node("Concat", half, half, axis=-1), [1, -1, 1, 4 * len(waves)])
    all_tokens = graph.node("Pad", patches, [0, tower.special_tokens, 0, 0, 0, 0, 0, 0], 0.0)
    return graph.node("Cos", all_tokens), graph.node("Sin", all_tokens)


def _rotated(graph: Graph, x: str, tower: ImageTowerConfig, rotation: tuple[str, str]) -> str:
    """Queries or keys [B, N, heads·K], turned."""
    width = tower.width // tower.heads
    x = graph.node("Reshape", x, [0, 0, tower.heads, width])
    first, second = graph.node("Split", x, [width // 2, width // 2], outputs=2, axis=-1)
    crosswise = graph.node("Concat", graph.node("Neg", second), first, axis=-1)
    cos, sin = rotation
    turned = graph.node("Add", graph.node("Mul", x, cos), graph.node("Mul", crosswise, sin))
    return graph.node("Reshape", turned, [0, 0, tower.width])


def _map_head(graph: Graph, patches: str, head: Mapping[str, Any], tower: ImageTowerConfig) -> str:
    """What the MAP head makes of the patch tokens: [B, 1, D]."""
    width = tower.width
    query = graph.linear(graph.parameter("map_head/probe", head["probe"]), "map_head/query", head["query"])
    key_value = graph.linear(patches, "map_head/key_value", head["key_value"])
    key, value = graph.node("Split", key_value, [width, width], outputs=2, axis=-1)
    pooled = graph.linear(_attention(graph, query, key, value, tower), "map_head/projection", head["projection"])
    normed = _layer_norm(graph, pooled, "map_head/norm", head["norm"], tower.norm_eps)
    return graph.node("Add", pooled, _mlp(graph, normed, "map_head", head, tower))


def _attention(graph: Graph, query: str, key: str, value: str, tower: ImageTowerConfig) -> str:
    width = tower.width // tower.heads

    def scale(logits: str) -> str:
        return graph.node("Mul", logits, float(width**-0.5))

    return graph.attention(query, key, value, tower.heads, width, scale)


def _block(
    graph: Graph,
    tokens: str,
    name: str,
    block: Mapping[str, Any],
    tower: ImageTowerConfig,
    rotation: tuple[str, str] | None,
) -> str:
    width = tower.width

    def add(tokens: str, x: str, layer_scale: str) -> str:
        if tower.layer_scale:
            x = graph.node("Mul", x, graph.parameter(f"{name}/{layer_scale}", block[layer_scale]["scale"]))
        return graph.node("Add", tokens, x)

    normed = _layer_norm(graph, tokens, f"{name}/norm1", block["norm1"], tower.norm_eps)
    layer = block["qkv"]
    if rotation:
        of_query, of_value = block["query_value"]["bias"]
        layer = {**layer, "bias": np.concatenate([of_query, np.zeros_like(of_query), of_value])}
    qkv = graph.linear(normed, f"{name}/qkv", layer)
    query, key, value = graph.node("Split", qkv, [width, width, width], outputs=3, axis=-1)
    if rotation:
        query, key = (_rotated(graph, x, tower, rotation) for x in (query, key))
    mixed = _attention(graph, query, key, value, tower)
    tokens = add(tokens, graph.linear(mixed, f"{name}/projection", block["projection"]), "layer_scale1")

    normed = _layer_norm(graph, tokens, f"{name}/norm2", block["norm2"], tower.norm_eps)
    return add(tokens, _mlp(graph, normed, name, block, tower), "layer_scale2")


def _mlp(graph: Graph, normed: str, name: str, layers: Mapping[str, Any], tower: ImageTowerConfig) -> str:
    hidden = graph.linear(normed, f"{name}/mlp_in", layers["mlp_in"])
    if tower.gated_mlp:
        gate, hidden = graph.node("Split", hidden, [tower.mlp_width, tower.mlp_width], outputs=2, axis=-1)
        hidden = graph.node("Mul", graph.node("Mul", gate, graph.node("Sigmoid", gate)), hidden)
    elif tower.tanh_gelu:
        hidden = graph.tanh_gelu(hidden)
    else:
        # The exact GELU, in the form that runtimes know and fuse.
        error = graph.node("Add", graph.node("Erf", graph.node("Div", hidden, float(np.sqrt(2)))), 1.0)
        hidden = graph.node("Mul", graph.node("Mul", hidden, error), 0.5)
    return graph.linear(hidden, f"{name}/mlp_out", layers["mlp_out"])


def _layer_norm(graph: Graph, x: str, name: str, norm: Mapping[str, Any], eps: float) -> str:
    scale, bias = (graph.parameter(f"{name}/{part}", norm[part]) for part in ("scale", "bias"))
    return graph.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)


def _pool(graph: Graph, cls: str, patches: str, pooling: str) -> str:
    match pooling:
        case "max":
            return graph.node("ReduceMax", patches, [1], keepdims=0)
        case "max_with_cls":
            return graph.node("ReduceMax", graph.node("Concat", cls, patches, axis=1), [1], keepdims=0)
        case "avg":
            return graph.node("ReduceMean", patches, [1], keepdims=0)
        case "cls":
            return graph.node("Squeeze", cls, [1])
        case "cls_and_avg":
            mean = graph.node("ReduceMean", patches, [1], keepdims=0)
            return graph.node("Concat", graph.node("Squeeze", cls, [1]), mean, axis=-1)
    raise ValueError(f"unknown pooling {pooling!r}")
