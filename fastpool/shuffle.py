"""Pixels into channels and back: elements are moved, none is computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpool import validation


def _checked(x: Any, factor: Any, name: str) -> tuple[np.ndarray, int]:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a NumPy array, got {type(x).__name__}")
    if validation.is_masked(x):
        raise TypeError("x must be a plain NumPy array, got a masked one, whose mask would be ignored")
    if x.ndim < 3:
        raise ValueError(f"x must have shape (..., C, H, W), got {x.shape}")
    return x, validation.integer(factor, name, 1)


def pixel_unshuffle(x: np.ndarray, downscale_factor: int) -> np.ndarray:
    r"""Space to depth: every square of r x r pixels of a channel becomes one pixel of r * r channels.

    .. math:: y_{c r^2 + i r + j,\,h,\,w} = x_{c,\,h r + i,\,w r + j}

    Parameters
    ----------
    x : ndarray, shape (..., C, H, W)
        Of any dtype, with any strides; sizes may be zero.
    downscale_factor : int
        r, which divides H and W.

    Returns
    -------
    ndarray, shape (..., C * r * r, H / r, W / r)
        A new array of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    See Also
    --------
    pixel_shuffle : The way back.

    Notes
    -----
    Follows ``torch.nn.functional.pixel_unshuffle``. ONNX's SpaceToDepth is another operation: its channels are in the
    order (i, j, c).

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.pixel_unshuffle(np.array([[[1, 2, 3, 4], [5, 6, 7, 8]]]), 2)
    array([[[1, 3]],
           [[2, 4]],
           [[5, 7]],
           [[6, 8]]])
    """
    x, r = _checked(x, downscale_factor, "downscale_factor")
    *batch, channels, height, width = x.shape
    if height % r or width % r:
        raise ValueError(f"downscale_factor must divide height and width of x, {height} and {width}, got {r}")
    y: np.ndarray = np.empty((*batch, channels, r, r, height // r, width // r), validation.native(x))
    if x.size:
        y[...] = np.moveaxis(x.reshape(*batch, channels, height // r, r, width // r, r), (-3, -1), (-4, -3))
    return y.reshape(*batch, channels * r * r, height // r, width // r)


def pixel_shuffle(x: np.ndarray, upscale_factor: int) -> np.ndarray:
    r"""Depth to space: every r * r channels become squares of r x r pixels of one channel.

    .. math:: y_{c,\,h r + i,\,w r + j} = x_{c r^2 + i r + j,\,h,\,w}

    Parameters
    ----------
    x : ndarray, shape (..., C * r * r, H, W)
        Of any dtype, with any strides; sizes may be zero.
    upscale_factor : int
        r, whose square divides the channels.

    Returns
    -------
    ndarray, shape (..., C, H * r, W * r)
        A new array of x's dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or range.

    See Also
    --------
    pixel_unshuffle : The way back.

    Notes
    -----
    Follows ``torch.nn.functional.pixel_shuffle``; ONNX's DepthToSpace in its mode CRD.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.pixel_shuffle(np.array([[[1]], [[2]], [[3]], [[4]]]), 2)
    array([[[1, 2],
            [3, 4]]])
    """
    x, r = _checked(x, upscale_factor, "upscale_factor")
    *batch, channels, height, width = x.shape
    if channels % (r * r):
        raise ValueError(f"upscale_factor must have a square that divides the {channels} channels of x, got {r}")
    y: np.ndarray = np.empty((*batch, channels // (r * r), height, r, width, r), validation.native(x))
    if x.size:
        y[...] = np.moveaxis(x.reshape(*batch, channels // (r * r), r, r, height, width), (-4, -3), (-3, -1))
    return y.reshape(*batch, channels // (r * r), height * r, width * r)
