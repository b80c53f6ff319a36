"""ResNet-50 (He et al., "Deep residual learning for image recognition", CVPR 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks.builder import Builder, Tensor

if TYPE_CHECKING:
    import onnx

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # (channels, blocks, stride of the first block)
EXPANSION = 4  # channels of a block's output for each of its middle
BRANCH_GAIN = 0.4  # of the last normalisation of a branch: the sum grows slowly


def resnet50(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return ResNet-50 v1.5: 25.56 M parameters, 4.09 G multiply-adds for each image of 3 x 224 x 224.

    The stem is a strided convolution followed by max pooling. "v1.5" means that a block downsamples in its 3x3
    convolution, where the paper has it in the first 1x1. Batch normalisations are nodes of their own.
    """
    net = Builder("resnet50", (batch, 3, 224, 224), seed)
    with net.scope("stem"):
        y = net.max_pool(net.relu(_conv_norm(net, net.x, 64, 7, 2)), 3, 2, 1)
    for stage, (channels, blocks, stride) in enumerate(STAGES, 1):
        for block in range(blocks):
            with net.scope(f"stage{stage}/block{block + 1}"):
                y = _bottleneck(net, y, channels, stride if block == 0 else 1)
    with net.scope("head"):
        return net.model(net.linear(net.global_average(y), 1000))


def _conv_norm(net: Builder, x: Tensor, channels: int, kernel: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Add a convolution with centred windows and its normalisation."""
    return net.batch_norm(net.conv(x, channels, kernel, stride, kernel // 2, bias=False), gain)


def _bottleneck(net: Builder, x: Tensor, channels: int, stride: int) -> Tensor:
    """Add 1x1, 3x3 and 1x1 convolutions and the skip, which is a 1x1 convolution where the shape changes."""
    y = net.relu(_conv_norm(net, x, channels, 1))
    y = net.relu(_conv_norm(net, y, channels, 3, stride))
    y = _conv_norm(net, y, EXPANSION * channels, 1, gain=BRANCH_GAIN)
    if x.shape == y.shape:
        return net.relu(net.add(y, x), kept=1.0)  # the skip is positive and larger than the branch
    with net.scope("skip"):
        x = _conv_norm(net, x, EXPANSION * channels, 1, stride)
    return net.relu(net.add(y, x))
