"""Parameters and multiply-adds of a model, by definition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

#: Operators whose further inputs are not all trained, and the first that is not.
FIXED = {"BatchNormalization": 3, "Clip": 1, "Resize": 1}


def parameters(model: onnx.ModelProto) -> int:
    """Count the numbers that training adjusts: floating-point weights that are not zero, without running statistics."""
    fixed = {name for node in model.graph.node for name in node.input[FIXED.get(node.op_type, len(node.input)) :]}
    return sum(
        _weights(weight)
        for weight in model.graph.initializer
        if weight.data_type == weight.FLOAT and weight.name not in fixed
    )


def multiply_adds(model: onnx.ModelProto) -> int:
    """Count the products of convolutions and fully connected layers; the shapes have to be in the model."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):  # each weight meets every pixel of its output channel
            batch, _, *pixels = shapes[node.output[0]]
            total += batch * math.prod(pixels) * _weights(weights[node.input[1]])
    return total


def _weights(tensor: onnx.TensorProto) -> int:
    """Count the elements that are not zero: a zero stands for a link that the network does not have."""
    from onnx import numpy_helper

    return int(np.count_nonzero(numpy_helper.to_array(tensor)))
