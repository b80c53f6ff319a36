"""FishNet-99 (Sun et al., "FishNet: a versatile backbone for image, region, and pixel level prediction", NeurIPS 2018).

A tail makes maps smaller by max pooling, a body makes them larger again, a head smaller once more. Body and head never
sum maps of different sizes: they concatenate what came from below with what an earlier part computed at that size. So
no 1x1 convolution stands on a skip: in the head, blocks keep their channels, and max pooling alone downsamples; in the
body, the skip sums each k neighbouring channels into one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks.builder import Builder, Tensor

if TYPE_CHECKING:
    import onnx

TAIL = ((128, 2), (256, 2), (512, 6))  # (channels, blocks before the pooling)
BODY = ((512, 1), (384, 2), (256, 4))  # (channels, dilation) of the one block before the upsampling
HEAD = ((320, 1, 1), (832, 2, 1), (1600, 2, 4))  # (channels, blocks before the pooling, blocks for the earlier maps)


def fishnet99(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return the whole of FishNet-99: 16.63 M parameters, 4.31 G multiply-adds for each image of 3 x 224 x 224."""
    net = Builder("fishnet99", (batch, 3, 224, 224), seed)
    with net.scope("stem"):
        y = net.x
        for channels, stride in ((32, 2), (32, 1), (64, 1)):
            y = net.relu(net.batch_norm(net.conv(y, channels, 3, stride, 1, bias=False)))
        y = net.max_pool(y, 3, 2, 1)
    of_tail = [y]  # by size, the largest first
    for stage, (channels, blocks) in enumerate(TAIL, 1):
        with net.scope(f"tail{stage}"):
            y = net.max_pool(_blocks(net, y, channels, blocks), 2, 2)
        of_tail.append(y)
    with net.scope("bridge"):
        y = _bridge(net, of_tail.pop())
    of_body = [y]  # the smallest first
    for stage, (channels, dilation) in enumerate(BODY, 1):
        with net.scope(f"body{stage}"):
            trunk = net.upsample(_block(net, y, channels, dilation, sums=True))
            with net.scope("transfer"):
                earlier = of_tail.pop()
                earlier = _block(net, earlier, earlier.shape[1])
            y = net.concat(trunk, earlier)
        of_body.append(y)
    of_body.pop()  # goes on as y
    for stage, (channels, blocks, transfers) in enumerate(HEAD, 1):
        with net.scope(f"head{stage}"):
            trunk = net.max_pool(_blocks(net, y, channels, blocks), 2, 2)
            with net.scope("transfer"):
                earlier = of_body.pop()
                earlier = _blocks(net, earlier, earlier.shape[1], transfers)
            y = net.concat(trunk, earlier)
    with net.scope("score"):
        y = _pre_activated(net, y, y.shape[1] // 2, 1)
        y = net.conv(net.global_average(_active(net, y), keep_axes=True), 1000, 1)
        return net.model(net.flatten(y))


def _bridge(net: Builder, x: Tensor) -> Tensor:
    """Add the way from tail to body: two 1x1 convolutions, and blocks weighted by an attention to channels."""
    channels = x.shape[1]
    y = _pre_activated(net, x, channels // 2, 1)
    wide = net.conv(_active(net, y), 2 * channels, 1)
    with net.scope("attention"):
        mean = net.global_average(_active(net, wide), keep_axes=True)
        squeezed = net.relu(net.conv(mean, channels // 16, 1))
        attention = net.sigmoid(net.conv(squeezed, channels, 1))
    return net.add(net.multiply(_blocks(net, wide, channels, 2), attention), attention)


def _blocks(net: Builder, x: Tensor, channels: int, count: int) -> Tensor:
    """Add several residual blocks."""
    for number in range(1, count + 1):
        with net.scope(f"block{number}"):
            x = _block(net, x, channels)
    return x


def _block(net: Builder, x: Tensor, channels: int, dilation: int = 1, sums: bool = False) -> Tensor:
    """Add a residual block of 1x1, 3x3 and 1x1 convolutions, each after a normalisation and a rectification.

    Where the number of channels changes, the skip is a 1x1 convolution, or, on request, sums neighbouring channels.
    """
    y = _pre_activated(net, x, channels // 4, 1)
    y = _pre_activated(net, y, channels // 4, 3, dilation)
    y = _pre_activated(net, y, channels, 1)
    if x.shape[1] != channels:
        with net.scope("skip"):
            x = net.sum_channels(x, channels) if sums else _pre_activated(net, x, channels, 1)
    return net.add(y, x)


def _pre_activated(net: Builder, x: Tensor, channels: int, kernel: int, dilation: int = 1) -> Tensor:
    """Add a normalisation, a rectification and a convolution."""
    return net.conv(_active(net, x), channels, kernel, 1, dilation * (kernel // 2), dilation=dilation, bias=False)


def _active(net: Builder, x: Tensor) -> Tensor:
    """Add a normalisation and a rectification."""
    return net.relu(net.batch_norm(x))
