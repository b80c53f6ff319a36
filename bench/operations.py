"""Every public operation, on an input of each rank: what the networks' layers in ``shapes`` do not cover."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.cases import all_cases

Run = Callable[[], Any]

#: Inputs, (N, C, H, W): two layers of networks, and one whose call costs more than its work.
INPUTS = {
    "tiny 1x16x8x8": (1, 16, 8, 8),
    **{case: all_cases()[case].input_shape for case in ("resnet50/max 3x3s2p1 64x112", "googlenet/avg 3x3s1p1 480x14")},
}
FILTERS = 16


def as_rank(x: np.ndarray, axes: int) -> np.ndarray:
    """View an input (N, C, H, W) with another number of spatial axes and as many elements."""
    n, c, h, w = x.shape
    return x.reshape({1: (n, c, h * w), 2: x.shape, 3: (n, c // 8, 8, h, w)}[axes])


def _convolution(name: str, x: np.ndarray, axes: int) -> Run:
    """3-tap filters at stride 1; prepared where the name is a class's."""
    import fastpool

    transposed = "transpose" in name.lower()
    channels = (x.shape[1], FILTERS) if transposed else (FILTERS, x.shape[1])
    weight = np.full((*channels, *[3] * axes), 0.01, x.dtype)
    function = getattr(fastpool, name)
    if name.startswith("Conv"):
        return partial(function(weight, padding=1), x)
    return partial(function, x, weight, padding=1)


def _window(name: str, x: np.ndarray, axes: int) -> Run:
    """Windows of 3 at stride 2, with a border where the operation takes one."""
    import fastpool

    function = getattr(fastpool, name)
    if name.startswith("lp_pool"):
        return partial(function, x, 2.0, 3, 2)
    return partial(function, x, 3, 2, 1)


def _other(name: str, x: np.ndarray, axes: int) -> Run:
    """Whatever has arguments of its own."""
    import fastpool

    function = getattr(fastpool, name)
    channels = x.shape[1]
    if name.startswith("subsample"):
        return partial(function, x, np.ones(channels, x.dtype), np.zeros(channels, x.dtype), 2)
    if name.startswith("max_unpool"):
        values, indices = getattr(fastpool, f"max_pool{axes}d")(x, 2, return_indices=True)
        return partial(function, values, indices, 2)
    arguments: dict[str, dict[str, Any]] = {
        "adaptive": {"output_size": 4},
        "global_lp": {"norm_type": 2.0},
        "global": {},
        "stochastic": {"kernel_size": 2, "training": True, "seed": 0},
        "fractional": {"kernel_size": 2, "output_ratio": 0.6, "seed": 0},
        "blur": {},
        "pixel_shuffle": {"upscale_factor": 2},
        "pixel_unshuffle": {"downscale_factor": 2},
        "block_reduce": {"block_size": (1, 1, 2, 2), "reduction": "mean"},
    }
    return partial(function, x, **next(known for start, known in arguments.items() if name.startswith(start)))


_RANKS = (1, 2, 3)
_CONVOLUTIONS = ("Conv", "conv", "ConvTranspose", "conv_transpose")
_WINDOWED = ("max", "min", "avg", "sum", "lp", "median")
_OTHERS = ("subsample", "max_unpool", "adaptive_avg_pool", "adaptive_max_pool")
_OTHERS += ("global_avg_pool", "global_max_pool", "global_lp_pool")
#: Public name -> (spatial axes, function that prepares a call).
OPERATIONS: dict[str, tuple[int, Callable[[str, np.ndarray, int], Run]]] = {
    **{f"{name}{axes}d": (axes, _convolution) for name in _CONVOLUTIONS for axes in _RANKS},
    **{f"{name}_pool{axes}d": (axes, _window) for name in _WINDOWED for axes in _RANKS},
    **{f"{name}{axes}d": (axes, _other) for name in _OTHERS for axes in _RANKS},
    "stochastic_pool2d": (2, _other),
    "fractional_max_pool2d": (2, _other),
    "fractional_max_pool3d": (3, _other),
    "blur_pool2d": (2, _other),
    "pixel_shuffle": (2, _other),
    "pixel_unshuffle": (2, _other),
    "block_reduce": (2, _other),
}


def prepare(name: str, input_name: str, dtype: str) -> Run:
    """Return a call of a public operation on an input."""
    axes, make = OPERATIONS[name]
    rng = np.random.default_rng(0)
    x = rng.random(INPUTS[input_name], dtype=np.dtype(dtype))
    return make(name, as_rank(x, axes), axes)
