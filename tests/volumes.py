"""Convolutions of three dimensions from those of two, of which there is an oracle."""

import numpy as np

from fastpool import oracle

#: Taps, stride, dilation and padding of depth, and depths of x.
DEPTHS = {
    "one tap": (1, 1, 1, (0, 0), 3),
    "one tap, every second": (1, 2, 1, (1, 0), 4),
    "three taps": (3, 1, 1, (1, 1), 4),
    "three taps, every second": (3, 2, 1, (1, 1), 5),
    "two taps apart": (2, 1, 2, (0, 3), 3),
    "taps that meet nothing": (3, 1, 2, (4, 0), 1),
}


def conv3d(x, weight, bias, stride, padding, dilation, groups):
    """Each output depth as the sum of convolutions in two dimensions."""
    (front, back), *pads = padding
    outputs = (x.shape[2] + front + back - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
    found = []
    for output in range(outputs):
        depths = [output * stride[0] - front + tap * dilation[0] for tap in range(weight.shape[2])]
        parts = [
            oracle.conv2d(x[:, :, depth], weight[:, :, tap], None, stride[1:], pads, dilation[1:], groups)
            for tap, depth in enumerate(depths)
            if 0 <= depth < x.shape[2]
        ]
        zeros = np.zeros_like(x[:, :, 0])
        nothing = oracle.conv2d(zeros, weight[:, :, 0], bias, stride[1:], pads, dilation[1:], groups)
        found.append(sum(parts, nothing))
    return np.stack(found, 2)
