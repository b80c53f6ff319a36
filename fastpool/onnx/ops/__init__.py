"""Operators: a file for each family; importing this package enters them all in one table."""

from fastpool.onnx.ops import (
    activation,
    convolution,
    elementwise,
    linear,
    normalisation,
    pooling,
    quantized,
    resize,
    shapes,
    views,
)
from fastpool.onnx.ops.operator import OPERATORS, Kernel, Value

__all__ = [
    "OPERATORS",
    "Kernel",
    "Value",
    "activation",
    "convolution",
    "elementwise",
    "linear",
    "normalisation",
    "pooling",
    "quantized",
    "resize",
    "shapes",
    "views",
]
