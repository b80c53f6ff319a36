"""How far ahead kernels fetch what they read from beyond the level-2 caches."""

from __future__ import annotations

from fastpool.machine.processor import THREADS
from fastpool.plans.problem import ceil_div
from fastpool.routines.tiles import LEVEL_2_BYTES

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
