"""Whole networks of the field as ONNX models, with seeded weights; ``python -m bench.networks`` writes them as files.

`NETWORKS` is THE table of them: tests, files and the measurement of whole networks all iterate it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from bench.networks.mobilenet import mobilenetv2
from bench.networks.resnet import resnet50
from bench.networks.squeezenet import squeezenet


@dataclass(frozen=True)
class Network:
    """A network, and what its authors, or the usual implementation, say of its size."""

    name: str
    build: Callable[[int, int], onnx.ModelProto]  # (batch, seed) -> model
    parameters: float  # published, in millions
    multiply_adds: float  # published, in millions for each image


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("resnet50", resnet50, 25.56, 4090),
        Network("squeezenet", squeezenet, 1.25, 820),
        Network("mobilenetv2", mobilenetv2, 3.50, 300),
    )
}
