"""Parameters and multiply-adds of a model, by definition."""

from __future__ import annotations

import math

import onnx


def parameters(model: onnx.ModelProto) -> int:
    """Count the numbers that training adjusts: floating-point weights, without the running statistics."""
    fixed = {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
    fixed |= {name for node in model.graph.node if node.op_type == "Clip" for name in node.input[1:]}
    return sum(
        math.prod(weight.dims)
        for weight in model.graph.initializer
        if weight.data_type == onnx.TensorProto.FLOAT and weight.name not in fixed
    )


def multiply_adds(model: onnx.ModelProto) -> int:
    """Count the products of convolutions and fully connected layers; the shapes have to be in the model."""
    sizes = {weight.name: math.prod(weight.dims) for weight in model.graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.value_info, *model.graph.output)
    }
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):  # each weight meets every pixel of its output channel
            batch, _, *pixels = shapes[node.output[0]]
            total += batch * math.prod(pixels) * sizes[node.input[1]]
    return total
