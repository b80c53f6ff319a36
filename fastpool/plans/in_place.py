"""What direct convolutions that read rows of x in place have in common: how they are cut, and most of their fields."""

from __future__ import annotations

from typing import Any

from fastpool.plans.direct import NOTHING_AHEAD, TASK_BYTES
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.tasks import Grid, Shares, pieces
from fastpool.routines.direct import IN_PLACE
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import DIRECT_TASKS, TileShape


def shares_in_place(problem: Convolution, tile: TileShape, seen: int, tiles: int = 1) -> Shares:
    """Tasks of some rows of outputs, of few rows each some of its `tiles`; of all blocks of channels, or of some.

    An output row sees `seen` rows of x that lie apart.
    """
    _, height, width = problem.axes
    group_channels, group_out = problem.channels // problem.groups, problem.out_channels // problem.groups
    blocks = ceil_div(group_out, tile.block(lanes_for(problem.element)))
    weight_bytes = problem.out_channels * group_channels * problem.taps * problem.element.size
    image_bytes = problem.channels * height.size * width.size * problem.element.size
    blocks_outermost = weight_bytes > problem.images * image_bytes
    blocks_per_task = max(1, blocks // (2 * DIRECT_TASKS)) if blocks_outermost else blocks
    others = problem.images * problem.groups * ceil_div(blocks, blocks_per_task)
    # What a task sees stays in the level-2 cache from one block to the next.
    passes_again = blocks > 1 and not blocks_outermost
    least = ceil_div(image_bytes // problem.groups * seen, TASK_BYTES) if passes_again else 1
    row_tasks = pieces(others, height.out, least)
    is_enough = tiles == 1 or others * row_tasks >= max(DIRECT_TASKS, least)
    tile_tasks = 1 if is_enough else pieces(others * row_tasks, tiles, ceil_div(least, row_tasks))
    return Shares(Grid(1, height.out, width.out), row_tasks, tile_tasks, blocks_per_task, blocks_outermost)


def fields_in_place(problem: Convolution, tile: TileShape, variant: str, shares: Shares) -> dict[str, Any]:
    """Fields of a step that reads x in place by such tiles; taps and columns are still to be said."""
    return shares.fields(problem, tile, variant) | {
        "run": problem.axes[2].kernel,
        "source": IN_PLACE,
        "source_batch": problem.x_strides[0],
        "source_channel": problem.x_strides[1],
        "source_depth": 0,
        "source_row": problem.x_strides[3] * problem.axes[1].stride,
        "channels": problem.channels // problem.groups,
        "first_channel": 0,
        "scratch_thread": 0,
        **NOTHING_AHEAD,
    }
