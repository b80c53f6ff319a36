"""Fractional max pooling: sizes shrink by any ratio, as the distances of the windows vary between two integers."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.arrays import kernel_ready
from fastpool.plans.fractional import Fractional, plan_fractional


def _fractional(
    axes: int,
    x: Any,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: Any,
    random_samples: Any,
    seed: Any,
) -> Any:
    validation.images(x, axes)
    element = validation.element_type(x)
    kernel = validation.per_axis(kernel_size, "kernel_size", axes, 1)
    outs = _outs(x.shape[-axes:], kernel, output_size, output_ratio)
    wanted = validation.flag(return_indices, "return_indices")
    ready = kernel_ready(x, element)
    batched = ready if ready.ndim == axes + 2 else ready[np.newaxis]
    samples = _samples(random_samples, seed, batched.shape[:2], axes)
    rooms = [size - k for size, k in zip(x.shape[-axes:], kernel, strict=True)]
    shape = (*x.shape[:-axes], *outs)
    out: np.ndarray = np.empty(shape, element.dtype)
    where = np.empty(shape, np.int64) if wanted else None
    if out.size:
        steps = [step // element.size for step in batched.strides]
        missing = (1,) * (3 - axes)
        problem = Fractional(
            element,
            batched.shape[0],
            batched.shape[1],
            (*missing, *batched.shape[2:]),
            (*missing, *kernel),
            (*missing, *outs),
            (*steps[:2], *(0,) * (3 - axes), *steps[2:]),
            wanted,
        )
        shifts = np.zeros((*batched.shape[:2], 3), np.int64)
        shifts[..., 3 - axes :] = _floor_of_product(samples, np.array(rooms, np.float64))
        find = runtime.engine().address
        plan = plan_fractional(problem)
        plan.run(find(ready), find(shifts), out=find(out), indices=0 if where is None else find(where))
    return out if where is None else (out, where)


def _outs(sizes: tuple[int, ...], kernel: tuple[int, ...], output_size: Any, output_ratio: Any) -> tuple[int, ...]:
    axes = len(sizes)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            "output_size or output_ratio must be given, and not both, got "
            f"output_size {validation.shown(output_size)} and output_ratio {validation.shown(output_ratio)}"
        )
    name = "output_ratio" if output_size is None else "output_size"
    if output_size is None:
        ratios = list(output_ratio) if validation.is_sequence(output_ratio) else [output_ratio]
        ratios = ratios * (axes if len(ratios) == 1 else 1)
        if len(ratios) != axes:
            raise ValueError(f"output_ratio must be a number or {axes} of them, got {validation.shown(output_ratio)}")
        numbers = [validation.number(ratio, "output_ratio") for ratio in ratios]
        if not all(0 < ratio <= 1 for ratio in numbers):
            raise ValueError(f"output_ratio must be above 0 and at most 1, got {validation.shown(output_ratio)}")
        outs = tuple(floor(size * ratio) for size, ratio in zip(sizes, numbers, strict=True))
    else:
        outs = validation.per_axis(output_size, "output_size", axes, 1)
    for size, k, out in zip(sizes, kernel, outs, strict=True):
        if k > size:
            raise ValueError(f"kernel_size must fit into x, got {kernel} for sizes {sizes}")
        if not 1 <= out <= size - k + 1:
            raise ValueError(
                f"{name} must give sizes in [1, {size - k + 1}], as many as windows of {k} have places in {size}, "
                f"got {out}"
            )
    return outs


def _samples(random_samples: Any, seed: Any, planes: tuple[int, ...], axes: int) -> np.ndarray:
    """Samples of each plane in the order of the axes."""
    if random_samples is None:
        given: Any = validation.generator(seed, "seed").random((*planes, axes))
    else:
        if seed is not None:
            raise ValueError(f"seed must be None where random_samples are given, got {validation.shown(seed)}")
        given = validation.array(random_samples, "random_samples")
        if given.shape != (*planes, axes):
            raise ValueError(f"random_samples must have shape (N, C, {axes}), {(*planes, axes)}, got {given.shape}")
        if not ((given >= 0) & (given <= 1)).all():
            raise ValueError("random_samples must be in [0, 1], got others")
    # PyTorch's order: in two dimensions the width's comes first, in three the depth's.
    return np.asarray(given[..., ::-1] if axes == 2 else given, np.float64)


def _floor_of_product(samples: np.ndarray, rooms: np.ndarray) -> np.ndarray:
    """Exact floor of sample * room, though the product may be rounded up to an integer."""
    product = samples * rooms
    # Dekker's error of the product: the halves of both factors have products without error.
    high = samples * (2.0**27 + 1)
    high = high - (high - samples)
    rooms_high = np.floor(rooms / 2**16) * 2**16
    low, rooms_low = samples - high, rooms - rooms_high
    error = ((high * rooms_high - product) + high * rooms_low + low * rooms_high) + low * rooms_low
    floors = np.floor(product)
    return np.asarray(floors - ((floors == product) & (error < 0)), np.int64)


def fractional_max_pool2d(
    x: np.ndarray,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    *,
    random_samples: np.ndarray | None = None,
    seed: Any = None,
) -> Any:
    r"""Maximum of windows at pseudo-random distances, for any ratio of sizes.

    .. math:: \text{start}_i = \lfloor (i + u) a \rfloor - \lfloor u a \rfloor, \qquad
        a = \frac{H - K}{OH - 1}, \qquad \text{start}_{OH - 1} = H - K

    Each axis of each plane has a sample u of its own; windows lie within the image.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W) or (C, H, W)
        Images, float32 or float64, with any strides.
    kernel_size : int or (int, int)
        Size of a window, (height, width).
    output_size : int or (int, int), optional
        Height and width of the result, at most ``H - kernel_size + 1``.
    output_ratio : float or (float, float), optional
        Instead of the size: ``OH = floor(H * ratio)``, above 0 and at most 1.
    return_indices : bool
        Also return where each maximum stands, as `max_pool2d` does.
    random_samples : ndarray of float, shape (N, C, 2), optional
        The samples u, in [0, 1]; as in PyTorch that of the width first, then that of the height. N is 1 for an x
        without it.
    seed : int, numpy.random.Generator or None
        Where samples come from if they are not given: the same seed gives the same samples; a generator goes on from
        where it is; None draws anew at each call.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Maxima; NaN wins. With `return_indices` a pair with the indices.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    See Also
    --------
    max_pool2d, adaptive_max_pool2d, max_unpool2d

    Notes
    -----
    Graham 2014, Fractional Max-Pooling. Follows ``torch.nn.functional.fractional_max_pool2d``, which computes the
    starts in floating point, of x's dtype; ours are exact.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> x = np.arange(25.0).reshape(1, 5, 5)
    >>> fastpool.fractional_max_pool2d(x, 2, output_size=3, random_samples=np.array([[[0.1, 0.9]]]))
    array([[[ 6.,  7.,  9.],
            [11., 12., 14.],
            [21., 22., 24.]]])
    """
    return _fractional(2, x, kernel_size, output_size, output_ratio, return_indices, random_samples, seed)


def fractional_max_pool3d(
    x: np.ndarray,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    *,
    random_samples: np.ndarray | None = None,
    seed: Any = None,
) -> Any:
    """Maximum of windows at pseudo-random distances in three dimensions.

    Parameters
    ----------
    x : ndarray, shape (N, C, D, H, W) or (C, D, H, W)
        Volumes, float32 or float64, with any strides.
    kernel_size, output_size, output_ratio, return_indices, seed
        As for `fractional_max_pool2d`, with 3 values where that has two.
    random_samples : ndarray of float, shape (N, C, 3), optional
        The samples, in [0, 1], in the order depth, height, width.

    Returns
    -------
    ndarray, shape (N, C, OD, OH, OW) or (C, OD, OH, OW)
        Maxima; with `return_indices` a pair with the indices.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, dtype, shape or range.

    Notes
    -----
    Follows ``torch.nn.functional.fractional_max_pool3d``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> fastpool.fractional_max_pool3d(np.arange(27.0).reshape(1, 3, 3, 3), 2, output_ratio=0.7, seed=1)
    array([[[[13., 14.],
             [16., 17.]],
            [[22., 23.],
             [25., 26.]]]])
    """
    return _fractional(3, x, kernel_size, output_size, output_ratio, return_indices, random_samples, seed)
