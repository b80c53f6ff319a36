"""The taps of the windows of one vector of outputs, one vector for each tap, for reductions that need them all at once.

`gather_taps` brings them into a scratch of the level-1 cache: tap t of lane l stands at ``taps[t * lanes + l]``.
Windows that the border cuts have fewer taps than others; what a lane lacks is the element `missing`. Within the borders
taps come by vector loads, at column stride 1 and 2, elsewhere one by one.

Elements may be narrower than the spec's: a variant ``from int8`` reads 8 bits and widens them.
"""

from llvmlite import ir
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.simd import (
    element,
    lanes_of,
    load,
    scalar,
    store,
)


@intrinsic
def _even_then_odd(typingctx, a, b):
    """Lanes 0, 2, 4, ... of `a` followed by lanes 1, 3, 5, ... of `b`."""

    def codegen(context, builder, sig, args):
        return simd.shuffle_ir(builder, *args, [*range(0, a.lanes, 2), *range(a.lanes + 1, 2 * a.lanes, 2)])

    return a(a, b), codegen


@device
def gather_taps(spec, call, plane, row, first, taps, missing):
    """Bring the taps of the outputs from column `first` of `row` on; return how many vectors they are."""
    lanes, columns, kernel_size = lanes_of(spec), call.out_columns, call.kernel
    step, x_column, column_first, column_count = call.column_step, call.x_column, call.column_first, call.column_count
    depth, in_depth, last = row // call.out_rows, row % call.out_rows, first + lanes - 1
    depths, rows = call.depth_count[depth], call.row_count[in_depth]
    whole = call.vector_stride > 0 and last < columns
    if whole:
        whole = column_count[first] == call.whole and column_count[last] == call.whole
    at = taps
    for d in range(depths):
        for r in range(rows):
            source_depth = call.depth_first[depth] + d * call.depth_step
            source_row = call.row_first[in_depth] + r * call.row_step
            line = plane + (source_depth * call.x_depth + source_row * call.x_row)
            if whole:
                source = line + column_first[first]
                for _ in range(kernel_size):
                    if call.vector_stride == 1:
                        store(spec, at, load(spec, source))
                    else:  # what is loaded ends with the last lane's tap
                        store(spec, at, _even_then_odd(load(spec, source), load(spec, source + (lanes - 1))))
                    source = source + step
                    at = at + lanes
            else:
                for lane in range(lanes):
                    count, source = 0, line
                    if first + lane < columns:
                        count = column_count[first + lane]
                        source = line + column_first[first + lane] * x_column
                    for k in range(count):
                        at[k * lanes + lane] = scalar(spec, source[k * step * x_column])
                    for k in range(count, kernel_size):
                        at[k * lanes + lane] = missing
                at = at + kernel_size * lanes
    return depths * rows * kernel_size


@device
def rows_of(call, task):
    """Output rows of a task: some of one plane, or all of some planes."""
    first_plane = task // call.row_tasks * call.planes_per_task
    first_row = task % call.row_tasks * call.rows_per_task
    rows = min(call.rows_per_task, call.out_depths * call.out_rows - first_row)
    return min(call.planes_per_task, call.planes - first_plane) * rows


@device
def row_of(spec, call, task, item):
    """Find output row `item` of a task: its plane of x, its number in the plane, and the place of its first element."""
    rows = call.out_depths * call.out_rows
    first_row = task % call.row_tasks * call.rows_per_task
    of_plane = min(call.rows_per_task, rows - first_row)
    plane = task // call.row_tasks * call.planes_per_task + item // of_plane
    row = first_row + item % of_plane
    image, channel = plane // call.channels, plane % call.channels
    source = call.x + (image * call.x_batch + channel * call.x_channel)
    return source, row, (plane * rows + row) * call.out_columns


@intrinsic
def infinity(typingctx, spec):
    """Return +inf."""
    return spec.dtype(spec), lambda context, builder, sig, args: ir.Constant(element(spec.dtype), float("inf"))
