"""Networks of one convolution, as files: what they hold, and how fastpool computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.cases import aligned


class UnsupportedError(Exception):
    """The engine does not offer this case in this dtype."""


@dataclass(frozen=True)
class OneConvolution:
    """The only node of a network: its weights, and its options in the order of `torch.nn.functional`."""

    transposed: bool
    weight: np.ndarray
    bias: np.ndarray
    options: tuple[Any, ...]


def one_convolution(path: str) -> OneConvolution:
    """Read a network of one convolution, transposed or not, with constant weights and bias."""
    import onnx

    graph = onnx.load(path).graph
    if len(graph.node) != 1 or graph.node[0].op_type not in ("Conv", "ConvTranspose"):
        raise UnsupportedError("a network of a single convolution is wanted")
    node = graph.node[0]
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    weight, bias = (onnx.numpy_helper.to_array(array).copy() for array in graph.initializer)
    stride, dilation, groups = attributes["strides"], attributes["dilations"], attributes["group"]
    pads = attributes["pads"][: weight.ndim - 2]
    if node.op_type == "Conv":
        return OneConvolution(False, weight, bias, (stride, pads, dilation, groups))
    return OneConvolution(True, weight, bias, (stride, pads, attributes["output_padding"], groups, dilation))


def prepared_layer(path: str, x: np.ndarray, threads: int) -> Callable[[], np.ndarray]:
    """Prepare the class of the layer, and reuse the memory of its result."""
    import fastpool

    fastpool.set_num_threads(threads)
    layer = one_convolution(path)
    kind = getattr(fastpool, f"Conv{'Transpose' * layer.transposed}{x.ndim - 2}d")
    prepared = kind(layer.weight, layer.bias, *layer.options)
    result = prepared(x)
    out = aligned(result.shape, result.dtype)
    return lambda: prepared(x, out=out)
