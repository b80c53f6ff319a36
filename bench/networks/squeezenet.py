"""SqueezeNet (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", arXiv:1602.07360)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks.builder import Builder, Tensor

if TYPE_CHECKING:
    import onnx

#: Channels of the squeezing 1x1 and of each of the two expanding convolutions; None is a max pooling.
FIRES = ((16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None, (64, 256))


def squeezenet(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return SqueezeNet 1.0: 1.25 M parameters, 0.82 G multiply-adds for each image of 3 x 224 x 224.

    Fire modules concatenate a 1x1 and a 3x3 convolution of a few channels; poolings round the output's size up.
    """
    net = Builder("squeezenet", (batch, 3, 224, 224), seed)
    with net.scope("stem"):
        y = net.max_pool(net.relu(net.conv(net.x, 96, 7, 2)), 3, 2, ceil=True)
    number = 2  # the paper counts the stem as conv1
    for fire in FIRES:
        if fire is None:
            y = net.max_pool(y, 3, 2, ceil=True)
        else:
            with net.scope(f"fire{number}"):
                y = _fire(net, y, *fire)
            number += 1
    with net.scope("head"):
        return net.model(net.global_average(net.relu(net.conv(y, 1000, 1))))


def _fire(net: Builder, x: Tensor, squeeze: int, expand: int) -> Tensor:
    """Add a fire module."""
    x = net.relu(net.conv(x, squeeze, 1))
    return net.concat(net.relu(net.conv(x, expand, 1)), net.relu(net.conv(x, expand, 3, pad=1)))
