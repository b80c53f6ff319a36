"""Whole networks of the field as ONNX models, with seeded weights; ``python -m bench.networks`` writes them as files.

`NETWORKS` is THE table of them: tests, files and the measurement of whole networks all iterate it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.networks.allcnn import all_cnn_c, convpool_cnn_c, model_c, strided_cnn_c
from bench.networks.fishnet import fishnet99
from bench.networks.lenet import lenet5
from bench.networks.mobilenet import mobilenetv2
from bench.networks.resnet import resnet50
from bench.networks.squeezenet import squeezenet
from bench.networks.vgg import vgg16

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Network:
    """A network, and what its paper or the usual implementation says of its size, in millions.

    Where neither says it, and for All-CNN-C, whose paper has only 1.4 M, it is arithmetic on the paper's layers.
    """

    name: str
    build: Callable[[int, int], onnx.ModelProto]  # (batch, seed) -> model
    parameters: float
    multiply_adds: float  # for each image


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("resnet50", resnet50, 25.56, 4090),
        Network("squeezenet", squeezenet, 1.25, 820),
        Network("vgg16", vgg16, 138.36, 15470),
        Network("all-cnn-c", all_cnn_c, 1.37, 271),
        Network("convpool-cnn-c", convpool_cnn_c, 1.37, 398),
        Network("model-c", model_c, 0.955, 228),
        Network("strided-cnn-c", strided_cnn_c, 0.955, 101),
        Network("fishnet99", fishnet99, 16.63, 4310),
        Network("lenet5", lenet5, 0.06085, 0.3265),
        Network("mobilenetv2", mobilenetv2, 3.50, 300),
    )
}
