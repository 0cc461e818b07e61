"""The text tower in ONNX: `CLIPpy.encode_text` (`models/clippy.py`, `models/t5.py`), in float32."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float

from clippy_jax.config import TextTowerConfig
from clippy_jax.export.onnx_graph import Graph, one_block
from clippy_jax.models.t5 import RelativePositionBias

HIDDEN = float(np.finfo(np.float32).min)


def text_tower(params: Mapping[str, Any], config: TextTowerConfig) -> onnx.ModelProto:
    """A model that embeds any number of texts of any length.

    token_ids: int64 [T, L], ending in 1 and filled up with 0, → text_embedding: float32 [T, D], L2-normalised.

    Args:
      params: the parameters of the text tower, in host memory.
      config: its architecture.
    """
    graph = Graph()
    is_word = graph.node("Not", graph.node("Equal", "token_ids", 0))
    is_key = graph.node("Unsqueeze", is_word, [1, 2])
    bias = _position_bias(graph, params["relative_position_bias"], config)

    def add_bias(logits: str) -> str:
        return graph.node("Where", is_key, graph.node("Add", logits, bias), HIDDEN)

    table = graph.parameter("token_embedding", params["token_embedding"]["embedding"])
    words = graph.node("Gather", table, "token_ids", axis=0)
    for i in range(config.depth):
        words = _block(graph, words, f"blocks/{i}", one_block(params["blocks"], i), config, add_bias)
    words = _rms_norm(graph, words, "norm", params["norm"])

    share = graph.node("Unsqueeze", graph.node("Cast", is_word, to=onnx.TensorProto.FLOAT), [2])
    total = graph.node("ReduceSum", graph.node("Mul", words, share), [1], keepdims=0)
    mean = graph.node("Div", total, graph.node("Max", graph.node("ReduceSum", share, [1], keepdims=0), 1.0))
    embedding = graph.l2_normalise(graph.linear(mean, "dense", params["dense"]))
    return graph.model(
        {"token_ids": (onnx.TensorProto.INT64, ("texts", "length"))},
        {"text_embedding": (embedding, ("texts", config.embedding_width))},
    )


def _position_bias(graph: Graph, params: Mapping[str, Any], config: TextTowerConfig) -> str:
    """The bias of each head and each pair of tokens [1, heads, L, L], by their distance."""
    farthest = config.relative_max_distance
    by_distance = graph.parameter("relative_position_bias", _bias_by_distance(params, config))
    length = graph.node("Squeeze", graph.node("Shape", "token_ids", start=1))
    places = graph.node("Range", 0, length, 1)
    distance = graph.node("Sub", graph.node("Unsqueeze", places, [0]), graph.node("Unsqueeze", places, [1]))
    distance = graph.node("Min", graph.node("Max", distance, -farthest), farthest)
    bias = graph.node("Gather", by_distance, graph.node("Add", distance, farthest), axis=0)
    return graph.node("Unsqueeze", graph.node("Transpose", bias, perm=(2, 0, 1)), [0])


def _bias_by_distance(params: Mapping[str, Any], config: TextTowerConfig) -> Float[np.ndarray, "distances heads"]:
    """The bias for a key so far to the right of its query: from the largest distance to the left on.

    Beyond the largest distance, all share its bucket. Read off a row and a column of the model's own square.
    """
    one_text = np.ones((1, config.relative_max_distance + 1), np.int32)
    bias = np.asarray(RelativePositionBias(config).apply({"params": params}, one_text))[0]
    return np.concatenate([bias[:, :0:-1, 0], bias[:, 0, :]], axis=1).T


def _block(
    graph: Graph,
    words: str,
    name: str,
    block: Mapping[str, Any],
    config: TextTowerConfig,
    add_bias: Callable[[str], str],
) -> str:
    normed = _rms_norm(graph, words, f"{name}/attention_norm", block["attention_norm"])
    qkv = [graph.linear(normed, f"{name}/{part}", block[part]) for part in ("query", "key", "value")]
    mixed = graph.attention(*qkv, config.heads, config.head_width, add_bias)
    words = graph.node("Add", words, graph.linear(mixed, f"{name}/attention_out", block["attention_out"]))

    normed = _rms_norm(graph, words, f"{name}/mlp_norm", block["mlp_norm"])
    hidden = graph.linear(normed, f"{name}/mlp_in", block["mlp_in"])
    if config.gated_mlp:
        gate = graph.linear(normed, f"{name}/mlp_gate", block["mlp_gate"])
        hidden = graph.node("Mul", graph.tanh_gelu(gate), hidden)
    else:
        hidden = graph.node("Relu", hidden)
    return graph.node("Add", words, graph.linear(hidden, f"{name}/mlp_out", block["mlp_out"]))


def _rms_norm(graph: Graph, x: str, name: str, norm: Mapping[str, Any]) -> str:
    square = graph.node("ReduceMean", graph.node("Mul", x, x), [-1], keepdims=1)
    x = graph.node("Div", x, graph.node("Sqrt", graph.node("Add", square, 1e-6)))
    return graph.node("Mul", x, graph.parameter(f"{name}/scale", norm["scale"]))
