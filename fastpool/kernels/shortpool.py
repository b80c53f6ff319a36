"""Extrema of small windows in maps with short rows: each row is one vector, or at stride 2 may be a pair of them.

Elements of 8 bits are so many to a vector that the rows of most maps fit into one. Then there is no loop over the
columns and no border between vectors: a group of output rows is straight code from its loads to its stores, and masks
stay in registers from the first plane to the last. What is left to an input row is a table entry and the load itself.

Nothing tests for padding. An extremum may see an element twice, so that a row outside the input is the nearest one
within: all windows that see the one see the other, too. Columns outside are masked. NaN is only looked for, see
`careful`.
"""

from itertools import chain

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.careful import combine_fast_ir, may_lose, with_care
from fastpool.kernels.columns import stride_of
from fastpool.kernels.fetches import fetch_plane
from fastpool.kernels.simd import I64
from fastpool.kernels.smallpool import down_ir, group_of, group_rows, number_after
from fastpool.kernels.stores import masked_store_ir
from fastpool.routines.pool import loses_nan, neutral_of
from fastpool.routines.smallpool import rows_seen


def _parts_of(spec):
    return number_after(spec, "parts")


@intrinsic
def _masks(typingctx, spec, words):
    """Masks of the vectors of an input row, and of an output row."""
    result = types.UniTuple(simd.Mask(spec.lanes), _parts_of(spec) + 1)

    def codegen(context, builder, sig, args):
        found = [simd.mask_word_ir(builder, args[1], I64(i), spec.lanes) for i in range(result.count)]
        return context.make_tuple(builder, result, found)

    return result(spec, words), codegen


def _picked_ir(builder, parts, first, stride):
    """Lanes first, first + stride, ... of a row; those beyond its end have no meaning."""
    low, high = parts if len(parts) == 2 else (*parts, ir.Constant(parts[0].type, ir.Undefined))
    lanes = low.type.count
    return simd.shuffle_ir(builder, low, high, [min(first + i * stride, 2 * lanes - 1) for i in range(lanes)])


def _along_ir(builder, spec, value, size):
    """Windows of `size` along a vector: each column is a shift; of 6 and more, windows double until two overlap."""
    if size < 6:
        found = value
        for by in range(1, size):
            found = combine_fast_ir(builder, spec, found, _picked_ir(builder, [value], by, 1))
        return found
    width = 1
    while width < size:
        by = min(width, size - width)
        value = combine_fast_ir(builder, spec, value, _picked_ir(builder, [value], by, 1))
        width += by
    return value


def _windows_ir(builder, spec, parts):
    """Windows along a row that is combined down the columns."""
    size = spec.width
    if stride_of(spec) == 1:
        return _along_ir(builder, spec, parts[0], size)
    found = _picked_ir(builder, parts, 0, 2)
    if size > 1:
        found = combine_fast_ir(builder, spec, found, _picked_ir(builder, parts, 1, 2))
        found = _along_ir(builder, spec, found, size // 2)
        if size % 2:
            found = combine_fast_ir(builder, spec, found, _picked_ir(builder, parts, size - 1, 2))
    return found


def _is_nan_ir(builder, spec, values):
    """Whether there is a NaN; one comparison tells of two vectors whether either has one."""
    found = ir.Constant(ir.VectorType(simd.I1, spec.lanes), None)
    for a, b in zip(values[::2], [*values[1::2], values[-1]], strict=False):
        found = builder.or_(found, builder.fcmp_unordered("uno", a, b))
    bits = builder.bitcast(found, ir.IntType(spec.lanes))
    return builder.icmp_unsigned("!=", bits, bits.type(0))


@intrinsic
def _pool_group(typingctx, spec, plane, offsets, masks, out, columns):
    """A group of output rows; whether NaN may have been lost."""
    group, parts = group_of(spec), _parts_of(spec)
    seen = rows_seen(spec.vectors, group, number_after(spec, "step"))

    def codegen(context, builder, sig, args):
        _, plane, offsets, masks, out, columns = args
        *inside, stored = (builder.extract_value(masks, i) for i in range(parts + 1))
        kind = simd.vector_ir(spec)
        fill = ir.Constant(kind, [ir.Constant(kind.element, neutral_of(spec))] * spec.lanes)
        rows = [builder.gep(plane, [builder.load(builder.gep(offsets, [I64(row)]), align=8)]) for row in range(seen)]
        loaded, down = [], []
        for part, mask in enumerate(inside):
            places = [builder.gep(row, [I64(part * spec.lanes)]) for row in rows]
            loaded.append([simd.masked_load_ir(builder, place, kind, mask, fill, spec.size) for place in places])
            down.append(down_ir(builder, spec, loaded[-1]))
        for row, combined in enumerate(zip(*down, strict=True)):
            place = builder.gep(out, [builder.mul(columns, I64(row))])
            masked_store_ir(builder, _windows_ir(builder, spec, combined), place, stored, spec.size)
        return _is_nan_ir(builder, spec, list(chain(*loaded))) if loses_nan(spec) else simd.I1(0)

    return types.boolean(spec, plane, offsets, masks, out, columns), codegen


def short_pool(call, task, thread):
    """Some output rows of one plane, or all of some planes; at least a group of them."""
    simd.align_stack()
    spec = call.spec
    careful, group, step = with_care(spec), group_rows(spec), call.row_stride
    row_tasks, channels, columns, out_rows = call.row_tasks, call.channels, call.out_columns, call.out_rows
    row_task, plane_task = task % row_tasks, task // row_tasks
    first_row = row_task * out_rows // row_tasks
    last = (row_task + 1) * out_rows // row_tasks - group
    first = plane_task * call.planes_per_task
    image, channel = first // channels, first % channels
    # Loaded here: what is read after a store is read again after the next, as it may have been written.
    x, x_batch, x_channel, out = call.x + call.first_column, call.x_batch, call.x_channel, call.out
    row_offsets, masks = call.row_offsets, _masks(spec, call.masks)
    plane_ahead, elements = call.plane_ahead, call.plane
    for index in range(first, min(first + call.planes_per_task, call.planes)):
        plane = x + (image * x_batch + channel * x_channel)
        if plane_ahead:
            fetch_plane(spec, plane + plane_ahead, elements)
        row = first_row
        while True:
            offsets, place = row_offsets + row * step, out + (index * out_rows + row) * columns
            lost = _pool_group(spec, plane, offsets, masks, place, columns)
            if may_lose(spec) and lost:
                _pool_group(careful, plane, offsets, masks, place, columns)
            if row == last:
                break
            row = min(row + group, last)  # the last group may do some rows again
        channel += 1
        if channel == channels:
            channel = 0
            image += 1
