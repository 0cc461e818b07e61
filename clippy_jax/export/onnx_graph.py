"""Writing an ONNX graph node by node; a value is the name of what a node gives."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float
from onnx import helper, numpy_helper

from clippy_jax.errors import InputError

# Old enough for every runtime of the last years; LayerNormalization came with 17.
OPSET, IR_VERSION = 18, 9
LARGEST = 2**31 - 2**20  # bytes that a protocol buffer can hold, less what the nodes take


class Graph:
    """Nodes in the order in which they are added, and the arrays that they read."""

    def __init__(self):
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}

    def node(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node of the operator `kind`.

        Args:
          kind: the operator's name.
          inputs: values, or arrays and numbers, which become constants (a Python float is a float32, an int an int64);
            None for one that is left out.
          outputs: how many values it gives.
          attributes: the operator's.

        Returns:
          The value, or a list of them.
        """
        names = [f"{kind}_{len(self._nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, [self._name(value) for value in inputs], names, **attributes))
        return names[0] if outputs == 1 else names

    def parameter(self, name: str, array: Float[np.ndarray, "*shape"]) -> str:
        """A float32 array under a name of its own."""
        self._arrays[name] = np.asarray(array, np.float32)
        return name

    def linear(self, x: str, name: str, layer: Mapping[str, Float[np.ndarray, "*shape"]]) -> str:
        """x · kernel + bias, where the layer has one."""
        x = self.node("MatMul", x, self.parameter(f"{name}/kernel", layer["kernel"]))
        return self.node("Add", x, self.parameter(f"{name}/bias", layer["bias"])) if "bias" in layer else x

    def attention(
        self, query: str, key: str, value: str, heads: int, head_width: int, change_logits: Callable[[str], str]
    ) -> str:
        """softmax(change_logits(query · key)) · value over tokens: [B, N, heads·K] each, and the result."""

        def split(x: str, order: Sequence[int]) -> str:
            return self.node("Transpose", self.node("Reshape", x, [0, 0, heads, head_width]), perm=order)

        logits = self.node("MatMul", split(query, (0, 2, 1, 3)), split(key, (0, 2, 3, 1)))
        weights = self.node("Softmax", change_logits(logits), axis=-1)
        mixed = self.node("MatMul", weights, split(value, (0, 2, 1, 3)))
        return self.node("Reshape", self.node("Transpose", mixed, perm=(0, 2, 1, 3)), [0, 0, heads * head_width])

    def tanh_gelu(self, x: str) -> str:
        """The GELU by its tanh approximation."""
        cube = self.node("Mul", self.node("Mul", self.node("Mul", x, x), x), 0.044715)
        inner = self.node("Mul", self.node("Add", x, cube), math.sqrt(2 / math.pi))
        return self.node("Mul", self.node("Mul", x, self.node("Add", self.node("Tanh", inner), 1.0)), 0.5)

    def l2_normalise(self, x: str) -> str:
        """Vectors of length 1 along the last axis; zero stays zero."""
        return self.node("Div", x, self.node("Max", self.node("ReduceL2", x, [-1], keepdims=1), 1e-12))

    def model(self, inputs: dict[str, tuple], outputs: dict[str, tuple[str, tuple]]) -> onnx.ModelProto:
        """The finished model, checked.

        Args:
          inputs: by name, the element type and the shape (a string is a size that a call decides).
          outputs: by name, the value, which is a float32, and the shape.

        Raises:
          InputError: the parameters are more than one ONNX file can hold.
        """
        size = sum(array.nbytes for array in self._arrays.values())
        if size > LARGEST:
            raise InputError(
                f"this tower has {size / 2**30:.1f} GiB of parameters and an ONNX file holds 2; use stablehlo"
            )
        for name, (value, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self._nodes,
            "clippy_jax",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
                for name, (_, shape) in outputs.items()
            ],
            [numpy_helper.from_array(array, name) for name, array in self._arrays.items()],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="clippy_jax")
        onnx.checker.check_model(model, full_check=True)
        return model

    def _name(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = f"constant_{len(self._arrays)}"
        self._arrays[name] = array
        return name


def one_block(blocks: Mapping[str, Any], index: int) -> dict[str, dict[str, np.ndarray]]:
    """One block's parameters out of those of all, which lie one above the other."""
    return {name: {part: np.asarray(value)[index] for part, value in layer.items()} for name, layer in blocks.items()}
