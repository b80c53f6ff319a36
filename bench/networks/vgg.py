"""VGG-16 (Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks.builder import Builder

if TYPE_CHECKING:
    import onnx

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, 3x3 convolutions before the pooling)


def vgg16(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return VGG-16 (configuration D): 138.36 M parameters, 15.47 G multiply-adds for each image of 3 x 224 x 224.

    Max pooling of disjoint windows ends each of the five stages.
    """
    net = Builder("vgg16", (batch, 3, 224, 224), seed)
    y = net.x
    for stage, (channels, convolutions) in enumerate(STAGES, 1):
        with net.scope(f"stage{stage}"):
            for _ in range(convolutions):
                y = net.relu(net.conv(y, channels, 3, pad=1))
            y = net.max_pool(y, 2, 2)
    with net.scope("head"):
        y = net.flatten(y)
        for _ in range(2):
            y = net.relu(net.linear(y, 4096))
        return net.model(net.linear(y, 1000))
