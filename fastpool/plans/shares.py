"""How planes and their rows are shared out among tasks."""

from __future__ import annotations

from fastpool.machine.processor import THREADS
from fastpool.plans.problem import ceil_div
from fastpool.routines.tiles import TASKS

#: Elements that a task reads, or taps that it brings, at least: 10 us, many times what taking a task costs.
TASK_WORK = 16 * 1024
#: Bytes of an element that it is meant for: of narrower ones a task takes more.
USUAL_BYTES = 4


def shares(planes: int, rows: int, work: int) -> tuple[int, int]:
    """Planes and rows of one task, where a plane is that much work: whole planes, unless they are few and large."""
    if work >= 4 * TASK_WORK and planes < TASKS:
        pieces = min(rows, -(-TASKS // planes), work // TASK_WORK)
        return 1, -(-rows // pieces)
    tasks = -(-planes // max(1, min(-(-TASK_WORK // work), planes), planes // (4 * TASKS)))
    # As many for each thread: 7 tasks on two threads take as long as 8 of the same size, which would be smaller.
    return -(-planes // min(planes, ceil_div(tasks, THREADS) * THREADS)), rows
