"""Fractional max pooling: windows whose distances differ from plane to plane, worked out from a sample for each axis.

Window i starts at ``floor((i + u) * a) - floor(u * a)`` with ``a = room / (out - 1)`` and ``room = size - kernel``, the
last at ``room``. All in integers: given ``shift = floor(u * room)``, the first floor is ``(i * room + shift)
// (out - 1)`` and the second ``shift // (out - 1)``.
"""

from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.argpool import _wins
from fastpool.kernels.pool import combine, neutral
from fastpool.kernels.simd import Pointer, lanes_of, load, masked_load, range_mask, splat, store
from fastpool.kernels.stores import masked_store


@intrinsic
def _integers(typingctx, spec, pointer):
    """View elements as 64-bit integers."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[1], simd.I64.as_pointer())

    return Pointer(types.int64)(spec, pointer), codegen


@device
def _start(i, shift, size, kernel_size, out):
    """First element of window i."""
    room = size - kernel_size
    if i == out - 1:
        return room
    return (i * room + shift) // (out - 1) - shift // (out - 1)


@device
def _combine_rows(spec, call, first, buffer):
    """Combine the rows that an output row sees, element by element."""
    width, lanes = call.width, lanes_of(spec)
    if call.x_column != 1:
        for w in range(width):
            best = neutral(spec)
            for d in range(call.depth_kernel):
                for r in range(call.row_kernel):
                    best = combine(spec, best, first[d * call.x_depth + r * call.x_row + w * call.x_column])
            buffer[w] = best
        return
    nothing = splat(spec, neutral(spec))
    whole = width - width % lanes
    for w in range(0, whole, lanes):
        best = nothing
        for d in range(call.depth_kernel):
            for r in range(call.row_kernel):
                best = combine(spec, best, load(spec, first + (d * call.x_depth + r * call.x_row + w)))
        store(spec, buffer + w, best)
    if whole < width:
        best, mask = nothing, range_mask(spec, 0, width - whole)
        for d in range(call.depth_kernel):
            for r in range(call.row_kernel):
                place = first + (d * call.x_depth + r * call.x_row + whole)
                best = combine(spec, best, masked_load(spec, place, mask, nothing))
        masked_store(spec, buffer + whole, best, mask)


@device
def _column_starts(spec, call, plane, scratch):
    """Starts of the windows of the plane's columns, in the scratch behind the buffered row."""
    starts = _integers(spec, scratch + call.buffer)
    shift = _integers(spec, call.weights)[3 * plane + 2]
    for q in range(call.out_columns):
        starts[q] = _start(q, shift, call.width, call.column_kernel, call.out_columns)
    return starts


def fractional(call, task, thread):
    """Maxima of one plane. `weights` holds its shifts, three integers: of depth, height, width."""
    spec = call.spec
    source = call.x + (task // call.channels * call.x_batch + task % call.channels * call.x_channel)
    buffer = call.scratch + thread * call.scratch_thread
    starts = _column_starts(spec, call, task, buffer)
    shifts = _integers(spec, call.weights) + 3 * task
    for d in range(call.out_depths):
        depth = _start(d, shifts[0], call.depths, call.depth_kernel, call.out_depths)
        for r in range(call.out_rows):
            row = _start(r, shifts[1], call.rows, call.row_kernel, call.out_rows)
            _combine_rows(spec, call, source + (depth * call.x_depth + row * call.x_row), buffer)
            out = call.out + ((task * call.out_depths + d) * call.out_rows + r) * call.out_columns
            for q in range(call.out_columns):
                at, best = buffer + starts[q], neutral(spec)
                for k in range(call.column_kernel):
                    best = combine(spec, best, at[k])
                out[q] = best


def fractional_indices(call, task, thread):
    """Maxima of one plane and where they stand: ties the first, NaN the last."""
    spec = call.spec
    source = call.x + (task // call.channels * call.x_batch + task % call.channels * call.x_channel)
    starts = _column_starts(spec, call, task, call.scratch + thread * call.scratch_thread)
    shifts = _integers(spec, call.weights) + 3 * task
    for d in range(call.out_depths):
        depth = _start(d, shifts[0], call.depths, call.depth_kernel, call.out_depths)
        for r in range(call.out_rows):
            row = _start(r, shifts[1], call.rows, call.row_kernel, call.out_rows)
            place = ((task * call.out_depths + d) * call.out_rows + r) * call.out_columns
            for q in range(call.out_columns):
                best, where = neutral(spec), (depth * call.rows + row) * call.width + starts[q]
                for i in range(depth, depth + call.depth_kernel):
                    for j in range(row, row + call.row_kernel):
                        for k in range(starts[q], starts[q] + call.column_kernel):
                            value = source[i * call.x_depth + j * call.x_row + k * call.x_column]
                            if _wins(spec, value, best):
                                best = value
                                where = (i * call.rows + j) * call.width + k
                call.out[place + q] = best
                call.indices[place + q] = where
