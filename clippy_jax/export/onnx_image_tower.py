"""The image tower in ONNX: `CLIPpy.encode_image` (`models/clippy.py`, `models/vit.py`), in float32."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float

from clippy_jax.config import ImageTowerConfig, ModelConfig
from clippy_jax.errors import InputError
from clippy_jax.export.onnx_graph import Graph, one_block
from clippy_jax.models.clippy import PIXEL_STATISTICS
from clippy_jax.models.position_embedding import CUBIC_A, PILLOW_CUBIC_A


def image_tower(params: Mapping[str, Any], config: ModelConfig) -> onnx.ModelProto:
    """A model that embeds any number of images of any size that the patch size divides.

    images: uint8 [B, H, W, 3], pixels of 0 to 255, → patch_embeddings: float32 [B, h, w, D] and image_embedding:
    float32 [B, D], all L2-normalised.

    Args:
      params: the parameters of `CLIPpy`, in host memory.
      config: their architecture.

    Raises:
      InputError: the image tower has rotary positions.
    """
    if config.image.positions == "rotary":
        raise InputError("this image tower has rotary positions, which are not written in ONNX; use stablehlo")
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
    positions = np.asarray(image["position_embedding"])
    tokens = graph.node("Add", tokens, _patch_positions(graph, positions, rows, columns, tower.position_interpolation))
    others = np.asarray(image["cls_token"]) + positions[:, :1]
    if tower.registers:
        others = np.concatenate([others, np.asarray(image["register_tokens"])], axis=1)
    others = graph.parameter("cls_and_register_tokens", others)
    others = graph.node("Expand", others, graph.node("Concat", batch, [1 + tower.registers, tower.width], axis=0))
    tokens = graph.node("Concat", others, tokens, axis=1)

    for i in range(tower.depth):
        tokens = _block(graph, tokens, f"blocks/{i}", one_block(image["blocks"], i), tower)
    tokens = _layer_norm(graph, tokens, "norm", image["norm"], tower.norm_eps)
    if config.image_projection:
        tokens = graph.linear(tokens, "image_projection", params["image_projection"])

    features, last = config.text.embedding_width, np.iinfo(np.int64).max
    patches = graph.node("Slice", tokens, [1 + tower.registers], [last], [1])
    pooled = _pool(graph, graph.node("Slice", tokens, [0], [1], [1]), patches, config.pooling)
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
    trained = round((table.shape[1] - 1) ** 0.5)
    grid = graph.node("Concat", rows, columns, axis=0)
    channels_first = table[0, 1:].reshape(1, trained, trained, -1).transpose(0, 3, 1, 2)
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


def _block(graph: Graph, tokens: str, name: str, block: Mapping[str, Any], tower: ImageTowerConfig) -> str:
    width, heads = tower.width, tower.heads

    def scale(logits: str) -> str:
        return graph.node("Mul", logits, float((width // heads) ** -0.5))

    def add(tokens: str, x: str, layer_scale: str) -> str:
        if tower.layer_scale:
            x = graph.node("Mul", x, graph.parameter(f"{name}/{layer_scale}", block[layer_scale]["scale"]))
        return graph.node("Add", tokens, x)

    normed = _layer_norm(graph, tokens, f"{name}/norm1", block["norm1"], tower.norm_eps)
    qkv = graph.node(
        "Split", graph.linear(normed, f"{name}/qkv", block["qkv"]), [width, width, width], outputs=3, axis=-1
    )
    mixed = graph.attention(*qkv, heads, width // heads, scale)
    tokens = add(tokens, graph.linear(mixed, f"{name}/projection", block["projection"]), "layer_scale1")

    normed = _layer_norm(graph, tokens, f"{name}/norm2", block["norm2"], tower.norm_eps)
    hidden = graph.linear(normed, f"{name}/mlp_in", block["mlp_in"])
    if tower.gated_mlp:
        gate, hidden = graph.node("Split", hidden, [tower.mlp_width, tower.mlp_width], outputs=2, axis=-1)
        hidden = graph.node("Mul", graph.node("Mul", gate, graph.node("Sigmoid", gate)), hidden)
    else:
        # The exact GELU, in the form that runtimes know and fuse.
        error = graph.node("Add", graph.node("Erf", graph.node("Div", hidden, float(np.sqrt(2)))), 1.0)
        hidden = graph.node("Mul", graph.node("Mul", hidden, error), 0.5)
    return add(tokens, graph.linear(hidden, f"{name}/mlp_out", block["mlp_out"]), "layer_scale2")


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
