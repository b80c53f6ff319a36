"""LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.networks.builder import Builder, Tensor

if TYPE_CHECKING:
    import onnx


def lenet5(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return LeNet-5 for images of 1 x 32 x 32: 60,000 parameters, and 850 of the output layer.

    S2 and S4 are subsampling layers: the mean of each window of 2 x 2, times a weight, plus a bias, per channel. C3
    sees the maps that the paper's Table I says; the weights of the others are zero. A linear layer stands for the
    paper's radial basis functions, whose centres were fixed, and the factors of its hyperbolic tangent are parts of the
    weights. A network of 0.33 M multiply-adds.
    """
    net = Builder("lenet5", (batch, 1, 32, 32), seed)
    y = net.tanh(net.conv(net.x, 6, 5))
    y = net.tanh(_subsample(net, y))
    y = net.tanh(net.conv(y, 16, 5, links=c3_links()))
    y = net.tanh(_subsample(net, y))
    y = net.flatten(net.tanh(net.conv(y, 120, 5)))
    y = net.tanh(net.linear(y, 84))
    return net.model(net.linear(y, 10))


def c3_links() -> np.ndarray:
    """Return Table I, (16, 6): which maps of S2 each map of C3 sees."""
    maps = range(6)
    seen = [{first + offset for offset in range(3)} for first in maps]
    seen += [{first + offset for offset in range(4)} for first in maps]
    seen += [{first, first + 1, first + 3, first + 4} for first in range(3)]
    seen.append(set(maps))
    links = np.zeros((16, 6), bool)
    for row, members in enumerate(seen):
        links[row, [member % 6 for member in members]] = True
    return links


def _subsample(net: Builder, x: Tensor) -> Tensor:
    """Add a subsampling layer by operators that every runtime has."""
    mean = net.average_pool(x, 2, 2)
    return net.shift(net.scale(mean))
