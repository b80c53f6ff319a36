"""Strided convolution, subsampling and pooling directly over NCHW NumPy arrays, on the CPU.

Names are loaded when they are first used, so that ``import fastpool`` is fast and does not load Numba.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastpool import forks

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastpool.adaptive import (
        adaptive_avg_pool1d,
        adaptive_avg_pool2d,
        adaptive_avg_pool3d,
        adaptive_max_pool1d,
        adaptive_max_pool2d,
        adaptive_max_pool3d,
    )
    from fastpool.blocks import block_reduce
    from fastpool.blur import blur_pool2d
    from fastpool.convolution import Conv1d, Conv2d, Conv3d, conv1d, conv2d, conv3d
    from fastpool.fractional import fractional_max_pool2d, fractional_max_pool3d
    from fastpool.global_pooling import (
        global_avg_pool1d,
        global_avg_pool2d,
        global_avg_pool3d,
        global_lp_pool1d,
        global_lp_pool2d,
        global_lp_pool3d,
        global_max_pool1d,
        global_max_pool2d,
        global_max_pool3d,
    )
    from fastpool.max_pooling import max_pool1d, max_pool2d, max_pool3d, min_pool1d, min_pool2d, min_pool3d
    from fastpool.median import median_pool1d, median_pool2d, median_pool3d
    from fastpool.runtime import get_num_threads, info, set_num_threads, threads
    from fastpool.shuffle import pixel_shuffle, pixel_unshuffle
    from fastpool.stochastic import stochastic_pool2d
    from fastpool.subsampling import subsample1d, subsample2d, subsample3d
    from fastpool.sum_pooling import (
        avg_pool1d,
        avg_pool2d,
        avg_pool3d,
        lp_pool1d,
        lp_pool2d,
        lp_pool3d,
        sum_pool1d,
        sum_pool2d,
        sum_pool3d,
    )
    from fastpool.transposed import (
        ConvTranspose1d,
        ConvTranspose2d,
        ConvTranspose3d,
        conv_transpose1d,
        conv_transpose2d,
        conv_transpose3d,
    )
    from fastpool.unpooling import max_unpool1d, max_unpool2d, max_unpool3d

#: Public name -> module that defines it.
_HOMES = {
    "Conv1d": "convolution",
    "Conv2d": "convolution",
    "Conv3d": "convolution",
    "ConvTranspose1d": "transposed",
    "ConvTranspose2d": "transposed",
    "ConvTranspose3d": "transposed",
    "conv1d": "convolution",
    "conv2d": "convolution",
    "conv3d": "convolution",
    "conv_transpose1d": "transposed",
    "conv_transpose2d": "transposed",
    "conv_transpose3d": "transposed",
    "max_pool1d": "max_pooling",
    "max_pool2d": "max_pooling",
    "max_pool3d": "max_pooling",
    "min_pool1d": "max_pooling",
    "min_pool2d": "max_pooling",
    "min_pool3d": "max_pooling",
    "avg_pool1d": "sum_pooling",
    "avg_pool2d": "sum_pooling",
    "avg_pool3d": "sum_pooling",
    "sum_pool1d": "sum_pooling",
    "sum_pool2d": "sum_pooling",
    "sum_pool3d": "sum_pooling",
    "lp_pool1d": "sum_pooling",
    "lp_pool2d": "sum_pooling",
    "lp_pool3d": "sum_pooling",
    "adaptive_avg_pool1d": "adaptive",
    "adaptive_avg_pool2d": "adaptive",
    "adaptive_avg_pool3d": "adaptive",
    "adaptive_max_pool1d": "adaptive",
    "adaptive_max_pool2d": "adaptive",
    "adaptive_max_pool3d": "adaptive",
    "global_avg_pool1d": "global_pooling",
    "global_avg_pool2d": "global_pooling",
    "global_avg_pool3d": "global_pooling",
    "global_max_pool1d": "global_pooling",
    "global_max_pool2d": "global_pooling",
    "global_max_pool3d": "global_pooling",
    "global_lp_pool1d": "global_pooling",
    "global_lp_pool2d": "global_pooling",
    "global_lp_pool3d": "global_pooling",
    "subsample1d": "subsampling",
    "subsample2d": "subsampling",
    "subsample3d": "subsampling",
    "max_unpool1d": "unpooling",
    "max_unpool2d": "unpooling",
    "max_unpool3d": "unpooling",
    "median_pool1d": "median",
    "median_pool2d": "median",
    "median_pool3d": "median",
    "stochastic_pool2d": "stochastic",
    "fractional_max_pool2d": "fractional",
    "fractional_max_pool3d": "fractional",
    "blur_pool2d": "blur",
    "pixel_shuffle": "shuffle",
    "pixel_unshuffle": "shuffle",
    "block_reduce": "blocks",
    "set_num_threads": "runtime",
    "get_num_threads": "runtime",
    "threads": "runtime",
    "info": "runtime",
}

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "block_reduce",
    "blur_pool2d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "get_num_threads",
    "global_avg_pool1d",
    "global_avg_pool2d",
    "global_avg_pool3d",
    "global_lp_pool1d",
    "global_lp_pool2d",
    "global_lp_pool3d",
    "global_max_pool1d",
    "global_max_pool2d",
    "global_max_pool3d",
    "info",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "median_pool1d",
    "median_pool2d",
    "median_pool3d",
    "min_pool1d",
    "min_pool2d",
    "min_pool3d",
    "pixel_shuffle",
    "pixel_unshuffle",
    "set_num_threads",
    "stochastic_pool2d",
    "subsample1d",
    "subsample2d",
    "subsample3d",
    "sum_pool1d",
    "sum_pool2d",
    "sum_pool3d",
    "threads",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fastpool' has no attribute {name!r}")
    with forks.loading:
        value = getattr(importlib.import_module(f"fastpool.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
