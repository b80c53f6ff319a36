"""All-CNN-C and its relatives (Springenberg et al., "Striving for simplicity: the all convolutional net", ICLR 2015).

The paper asks what replaces max pooling. Its Model C pools twice. Strided-CNN-C drops the poolings and lets the
convolutions before them step by 2; All-CNN-C puts a strided convolution where a pooling was; ConvPool-CNN-C adds the
same convolution without the stride and pools, so that it has as many parameters as All-CNN-C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.networks.builder import Builder, Tensor

if TYPE_CHECKING:
    import onnx


def all_cnn_c(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return All-CNN-C: 1.37 M parameters, 271 M multiply-adds for each image of 3 x 32 x 32."""
    return _network("all-cnn-c", batch, seed, convolutions=3, strided=True, pooled=False)


def convpool_cnn_c(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return ConvPool-CNN-C, the max-pooling twin: 1.37 M parameters, 398 M multiply-adds."""
    return _network("convpool-cnn-c", batch, seed, convolutions=3, strided=False, pooled=True)


def model_c(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return Model C, with max pooling: 0.95 M parameters, 228 M multiply-adds."""
    return _network("model-c", batch, seed, convolutions=2, strided=False, pooled=True)


def strided_cnn_c(batch: int = 1, seed: int = 0) -> onnx.ModelProto:
    """Return Strided-CNN-C: 0.95 M parameters, 101 M multiply-adds."""
    return _network("strided-cnn-c", batch, seed, convolutions=2, strided=True, pooled=False)


def _network(name: str, batch: int, seed: int, convolutions: int, strided: bool, pooled: bool) -> onnx.ModelProto:
    """Return a network of two stages that downsample, three further convolutions, and the mean of 6 x 6 pixels."""
    net = Builder(name, (batch, 3, 32, 32), seed)
    y = net.x
    for stage, channels in enumerate((96, 192), 1):
        with net.scope(f"stage{stage}"):
            for number in range(convolutions):
                last = number == convolutions - 1
                y = _conv(net, y, channels, 3, 2 if strided and last else 1, 1)
            if pooled:
                y = net.max_pool(y, 3, 2, 1)
    with net.scope("head"):
        y = _conv(net, y, 192, 3)  # without padding: 6 x 6 pixels
        y = _conv(net, _conv(net, y, 192, 1), 10, 1)
        return net.model(net.softmax(net.global_average(y)))


def _conv(net: Builder, x: Tensor, channels: int, kernel: int, stride: int = 1, pad: int = 0) -> Tensor:
    """Add a convolution and its rectification."""
    return net.relu(net.conv(x, channels, kernel, stride, pad))
