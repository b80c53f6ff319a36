"""How should a network downsample? The comparison of Springenberg et al. (2015), on handwritten digits.

The paper takes a network that pools twice, and replaces the poolings in three ways. Here are the four networks for
images of 8 x 8 pixels, as `NETWORKS` describes them; ``train`` makes the ONNX files, ``compare`` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
CLASSES = 10
WIDTHS = (16, 32)  # channels of the two stages


@dataclass(frozen=True)
class Downsampling:
    """What one of the networks does at the end of each stage, in the paper's words."""

    convolutions: int  # of 3x3 pixels, in each stage
    stride: int  # of the last of them
    pooled: bool  # max pooling of 3x3 pixels at stride 2 follows

    def layers(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield the network's layers: ("conv" or "max", channels, kernel, stride); the padding is kernel // 2."""
        for channels in WIDTHS:
            for number in range(1, self.convolutions + 1):
                yield "conv", channels, 3, self.stride if number == self.convolutions else 1
            if self.pooled:
                yield "max", channels, 3, 2
        yield "conv", WIDTHS[-1], 3, 1
        yield "conv", WIDTHS[-1], 1, 1
        yield "conv", CLASSES, 1, 1


NETWORKS = {
    "model": Downsampling(convolutions=2, stride=1, pooled=True),  # the paper's base
    "strided-cnn": Downsampling(convolutions=2, stride=2, pooled=False),  # the convolution before it steps
    "convpool-cnn": Downsampling(convolutions=3, stride=1, pooled=True),  # as many parameters as the next
    "all-cnn": Downsampling(convolutions=3, stride=2, pooled=False),  # a strided convolution in place of the pooling
}
