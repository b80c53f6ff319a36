"""A graph that grows layer by layer: shapes, seeded weights whose activations keep their size, and the ONNX model.

Every `Tensor` knows its shape and the mean square that its values should have. Weights are drawn with the variance that
gives the layer's sums a mean square of 1, as He et al. (2015) do, so that signals neither explode nor vanish however
deep the network is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.cases import output_size

if TYPE_CHECKING:
    import onnx

OPSET = 17
IR_VERSION = 8  # the one that came with this opset
EPSILON = 1e-5  # of batch normalisation


@dataclass(frozen=True)
class Tensor:
    """A value of the graph."""

    name: str
    shape: tuple[int, ...]
    power: float = 1.0  # mean square that its elements should have


@dataclass(frozen=True)
class Node:
    """An operation of the graph; the names of its inputs are those of tensors and weights."""

    operator: str
    name: str
    inputs: list[str]
    output: Tensor
    attributes: dict[str, Any]


class Builder:
    """Adds one node a call. The graph's input is `x`, its shape (N, C, H, W)."""

    def __init__(self, name: str, input_shape: Sequence[int], seed: int) -> None:
        self.name = name
        self.x = Tensor("x", tuple(input_shape))
        self._random = np.random.default_rng(seed)
        self._scope = ""
        self._numbers: dict[str, int] = {}  # name -> how often it was asked for
        self._nodes: list[Node] = []
        self._weights: dict[str, np.ndarray] = {}

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Let the names of the nodes that are added meanwhile begin with `name`."""
        outer, self._scope = self._scope, f"{self._scope}{name}/"
        try:
            yield
        finally:
            self._scope = outer

    # Layers with weights.

    def conv(
        self,
        x: Tensor,
        channels: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = True,
        links: np.ndarray | None = None,
    ) -> Tensor:
        """Add a convolution of square windows; `links`, (channels, C / groups), is false where no weights are."""
        shape = (channels, x.shape[1] // groups, kernel, kernel)
        weight = self._normal(shape, 1 / math.sqrt(math.prod(shape[1:]) * x.power))
        if links is not None:
            weight *= (links / np.sqrt(links.mean(axis=1, keepdims=True)))[:, :, None, None]
        weights = {"weight": weight} | ({"bias": self._normal((channels,), 0.1)} if bias else {})
        size = (output_size(length, kernel, stride, pad, dilation) for length in x.shape[2:])
        attributes = _window(kernel, stride, pad) | {"group": groups, "dilations": [dilation] * 2}
        return self.node("Conv", [x], (x.shape[0], channels, *size), 1.0, weights, **attributes)

    def batch_norm(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Add a batch normalisation with running statistics near, but not equal to, those of its input."""
        channels = x.shape[1]
        weights = {
            "scale": gain * self._uniform(channels, 0.8, 1.2),
            "shift": gain * self._normal((channels,), 0.1),
            "mean": self._normal((channels,), 0.1 * math.sqrt(x.power)),
            "variance": x.power * self._uniform(channels, 0.7, 1.4),
        }
        return self.node("BatchNormalization", [x], x.shape, gain**2, weights, epsilon=EPSILON)

    def linear(self, x: Tensor, outputs: int) -> Tensor:
        """Add a fully connected layer."""
        weight = self._normal((outputs, x.shape[1]), 1 / math.sqrt(x.shape[1] * x.power))
        weights = {"weight": weight, "bias": self._normal((outputs,), 0.1)}
        return self.node("Gemm", [x], (x.shape[0], outputs), 1.0, weights, transB=1)

    def scale(self, x: Tensor) -> Tensor:
        """Add a multiplication by a weight per channel."""
        weight = self._uniform(x.shape[1], 0.8, 1.2)[:, None, None] / np.float32(math.sqrt(x.power))
        return self.node("Mul", [x], x.shape, 1.0, {"weight": weight})

    def shift(self, x: Tensor) -> Tensor:
        """Add the addition of a bias per channel."""
        return self.node("Add", [x], x.shape, x.power, {"bias": self._normal((x.shape[1], 1, 1), 0.1)})

    # Layers without.

    def relu(self, x: Tensor, kept: float = 0.5) -> Tensor:
        """Add a rectification that keeps about the given part of the squares: half, unless x is mostly positive."""
        return self.node("Relu", [x], x.shape, kept * x.power)

    def relu6(self, x: Tensor) -> Tensor:
        """Add a rectification that stops at 6."""
        limits = {"least": np.float32(0), "most": np.float32(6)}
        return self.node("Clip", [x], x.shape, x.power / 2, limits)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Add a logistic function."""
        return self.node("Sigmoid", [x], x.shape, 0.3)

    def tanh(self, x: Tensor) -> Tensor:
        """Add a hyperbolic tangent."""
        return self.node("Tanh", [x], x.shape, 0.4)

    def softmax(self, x: Tensor) -> Tensor:
        """Add the shares of the last axis."""
        return self.node("Softmax", [x], x.shape, x.shape[-1] ** -2.0, axis=-1)

    def max_pool(self, x: Tensor, kernel: int, stride: int, pad: int = 0, ceil: bool = False) -> Tensor:
        """Add a max pooling."""
        power = 2 * x.power * _power_of_maximum(kernel**2)
        size = (output_size(length, kernel, stride, pad, ceil=ceil) for length in x.shape[2:])
        attributes = _window(kernel, stride, pad) | {"ceil_mode": int(ceil)}
        return self.node("MaxPool", [x], (*x.shape[:2], *size), power, **attributes)

    def average_pool(self, x: Tensor, kernel: int, stride: int) -> Tensor:
        """Add an average pooling of values with a mean of about zero; neighbours are alike."""
        size = (output_size(length, kernel, stride, 0) for length in x.shape[2:])
        return self.node("AveragePool", [x], (*x.shape[:2], *size), x.power / kernel, **_window(kernel, stride, 0))

    def global_average(self, x: Tensor, keep_axes: bool = False) -> Tensor:
        """Add the mean of each channel of rectified values, and drop the axes of length 1 if they are not wanted."""
        pooled = self.node("GlobalAveragePool", [x], (*x.shape[:2], 1, 1), x.power * _power_of_mean(x))
        return pooled if keep_axes else self.flatten(pooled)

    def upsample(self, x: Tensor) -> Tensor:
        """Add a repetition of each pixel, twice along either axis."""
        factors = {"region": np.float32([]), "factors": np.float32([1, 1, 2, 2])}
        shape = (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x], shape, x.power, factors, mode="nearest", **modes)

    def sum_channels(self, x: Tensor, channels: int) -> Tensor:
        """Add the sum of neighbouring channels that leaves `channels` of them."""
        batch, before, *size = x.shape
        split = (batch, channels, before // channels, *size)
        parts = self.node("Reshape", [x], split, x.power, {"shape": np.int64(split)})
        return self.node(
            "ReduceSum",
            [parts],
            (batch, channels, *size),
            x.power * before / channels,
            {"axes": np.int64([2])},
            keepdims=0,
        )

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the product of two tensors, of which the second may have axes of length 1."""
        return self.node("Mul", [x, y], x.shape, x.power * y.power)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """Add the sum of two tensors, of which the second may have axes of length 1."""
        return self.node("Add", [x, y], x.shape, x.power + y.power)

    def concat(self, *tensors: Tensor) -> Tensor:
        """Add a concatenation of channels."""
        channels = sum(tensor.shape[1] for tensor in tensors)
        power = sum(tensor.power * tensor.shape[1] for tensor in tensors) / channels
        return self.node("Concat", tensors, (tensors[0].shape[0], channels, *tensors[0].shape[2:]), power, axis=1)

    def flatten(self, x: Tensor) -> Tensor:
        """Add a change of shape to (N, everything else)."""
        return self.node("Flatten", [x], (x.shape[0], math.prod(x.shape[1:])), x.power, axis=1)

    # The graph.

    def node(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        shape: Sequence[int],
        power: float,
        weights: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> Tensor:
        """Add any node of one output; `weights` become its further inputs."""
        name = self._unique(self._scope + operator.lower())
        named = {f"{name}.{key}": np.asarray(array) for key, array in (weights or {}).items()}
        self._weights |= named
        output = Tensor(f"{name}.y", tuple(shape), power)
        sources = [*(tensor.name for tensor in inputs), *named]
        self._nodes.append(Node(operator, name, sources, output, attributes))
        return output

    def model(self, output: Tensor) -> onnx.ModelProto:
        """Return the model, whose output is called `y`, with the shapes of all values, and lose the weights."""
        from onnx import helper

        final = {output.name: "y"}
        nodes, values = [], {}
        for node in self._nodes:
            name = final.get(node.output.name, node.output.name)
            nodes.append(helper.make_node(node.operator, node.inputs, [name], node.name, **node.attributes))
            values[name] = _value_info(name, node.output.shape)
        of_input, of_output = _value_info(self.x.name, self.x.shape), values.pop("y")
        graph = helper.make_graph(nodes, self.name, [of_input], [of_output], value_info=list(values.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        for name in list(self._weights):  # into the final place, and one by one: VGG-16 has half a gigabyte
            array = self._weights.pop(name)
            weight = model.graph.initializer.add(name=name, dims=array.shape, raw_data=array.tobytes())
            weight.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        return model

    def _unique(self, name: str) -> str:
        """Number the names that come again."""
        count = self._numbers[name] = self._numbers.get(name, 0) + 1
        return name if count == 1 else f"{name}{count}"

    def _normal(self, shape: tuple[int, ...], deviation: float) -> np.ndarray:
        """Draw normally distributed numbers."""
        values = self._random.standard_normal(shape, np.float32)
        values *= np.float32(deviation)
        return values

    def _uniform(self, length: int, least: float, most: float) -> np.ndarray:
        """Draw evenly distributed numbers."""
        return self._random.uniform(least, most, length).astype(np.float32)


def _window(kernel: int, stride: int, pad: int) -> dict[str, Any]:
    """Return the attributes that convolutions and poolings share."""
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}


def _value_info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """Describe a value of the graph."""
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@cache
def _power_of_maximum(count: int) -> float:
    """Return the mean square of the largest of `count` independent rectified normal numbers."""
    x, step = np.linspace(0, 8, 1601, retstep=True)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    cumulated = 0.5 + np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)]) * step
    return float(np.sum(x**2 * count * density * cumulated ** (count - 1)) * step)


def _power_of_mean(x: Tensor) -> float:
    """Return the mean square of the mean of as many independent rectified normal numbers as a plane of x has.

    It is given as a part of the mean square of the single ones.
    """
    square = 1 / math.pi  # of the mean, as a part of the mean square
    return square + (1 - square) / math.prod(x.shape[2:])
