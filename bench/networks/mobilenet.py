"""MobileNetV2 (Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks.builder import Builder, Tensor

if TYPE_CHECKING:
    import onnx

#: Rows of the paper's Table 2: (expansion, channels, blocks, stride of the first block).
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return MobileNetV2 1.0: 3.50 M parameters, 0.30 G multiply-adds for each image of 3 x 224 x 224."""
    net = Builder("mobilenetv2", (batch, 3, 224, 224), seed)
    with net.scope("stem"):
        y = net.relu6(_conv_norm(net, net.x, 32, 3, 2))
    number = 1
    for expansion, channels, blocks, stride in STAGES:
        for block in range(blocks):
            with net.scope(f"block{number}"):
                y = _inverted_residual(net, y, channels, expansion, stride if block == 0 else 1)
            number += 1
    with net.scope("head"):
        y = net.relu6(_conv_norm(net, y, 1280, 1))
        return net.model(net.linear(net.global_average(y), 1000))


def _conv_norm(net: Builder, x: Tensor, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> Tensor:
    """Add a convolution with centred windows and its normalisation."""
    return net.batch_norm(net.conv(x, channels, kernel, stride, kernel // 2, groups, bias=False))


def _inverted_residual(net: Builder, x: Tensor, channels: int, expansion: int, stride: int) -> Tensor:
    """Add a widening 1x1, a depthwise 3x3 and a linear 1x1 convolution, and the skip where the shape stays."""
    y, wide = x, expansion * x.shape[1]
    if expansion > 1:
        y = net.relu6(_conv_norm(net, y, wide, 1))
    y = net.relu6(_conv_norm(net, y, wide, 3, stride, groups=wide))
    y = _conv_norm(net, y, channels, 1)
    return net.add(x, y) if x.shape == y.shape else y
