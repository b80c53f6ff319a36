"""How far ahead kernels fetch what they read from beyond the level-2 caches."""

from __future__ import annotations

from math import prod

from fastpool.machine.processor import THREADS
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.windows import Pooling
from fastpool.routines.tiles import CACHED_BYTES, LEVEL_2_BYTES

#: Bytes of input or output of a convolution that are likely to come from memory in part, and take longer than a tile.
#: From 8 to 14 MB tiles of pixels side by side take 0.89 to 1.01 of the time where they fetch them ahead; of 4 MB 1.0
#: to 1.04.
FAR_BYTES = CACHED_BYTES // 2


def is_far(problem: Convolution) -> bool:
    """Whether all of x takes so many bytes."""
    return input_bytes(problem) > FAR_BYTES


def is_output_far(problem: Convolution) -> bool:
    """Whether all results take so many bytes."""
    return problem.images * problem.out_batch * problem.element.size > FAR_BYTES


def input_bytes(problem: Convolution) -> int:
    """Bytes of all of x."""
    return problem.images * problem.channels * prod(a.size for a in problem.axes) * problem.element.size


#: Bytes to what is fetched: with 2 to 16 KiB pooling takes as long.
AHEAD_BYTES = 8192


def steps_ahead(total_bytes: int, step_bytes: int) -> int:
    """Rows or planes, of so many bytes, to the one that is fetched; 0 if all that is read is in level-2 caches.

    What lies in rows and planes side by side the hardware hardly foresees. Measured on a Zen 5 with 16 to 128 images:
    extrema of 2x2 over 28x28 and 14x14 take 0.5 of the time so, of 3x3 over 7x7 0.5, depthwise 3x3 over 14x14 0.35 to
    0.5, over 7x7 0.75.
    """
    is_near = total_bytes <= THREADS * LEVEL_2_BYTES
    return 0 if is_near else ceil_div(AHEAD_BYTES, max(1, step_bytes))


#: Bytes of planes that are fetched at once, at most: more would take the place of what is read first.
_MOST_BYTES = 2 * AHEAD_BYTES
#: Of rows that are fetched as their sums go along, and of planes that are parted among threads.
NO_PLANES = {"plane": 0, "plane_ahead": 0}


def planes_ahead(problem: Convolution | Pooling, size: int, together: int = 1) -> dict[str, int]:
    """Fields that say which planes are fetched, so many `together`, of elements of `size` bytes: small ones in a row.

    Of those that lie apart, lines that nobody reads would be fetched, too.
    """
    _, height, width = problem.axes
    plane = height.size * width.size
    is_dense = problem.x_strides[1] == plane and problem.x_strides[3] == width.size
    is_small = together * plane * size <= _MOST_BYTES
    total = problem.images * problem.channels * plane * size if is_dense and is_small else 0
    return {"plane": together * plane, "plane_ahead": together * plane * steps_ahead(total, together * plane * size)}
