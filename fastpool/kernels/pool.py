"""Pooling: the rows of a window first, then its columns.

For each output row, the input rows that its windows see are combined into one row of an L1-sized buffer, whole vectors
at a time and independent of the stride (the vertical pass). That row is then combined along the columns into the
outputs (the horizontal pass): shifted loads at stride 1, pairs of loads and an even-lane shuffle at stride 2, scalars
for larger strides, whose outputs are few, and for the uneven windows of adaptive pooling.

The operation is the spec's variant. `max` and `min` keep NaN; `absmax` and the sums of |x| ** p are for Lp pooling.
Elements are widened as they are read: 16-bit floats to float32, integers to 64 bits where they are summed.

Windows arrive as tables of the first source row (or depth) and the number of taps, clipped to the input by plain
integer arithmetic, so that no kernel tests for padding. Columns at the border are padded in the buffer with the
neutral element.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device_with_loops, quickly_with_masks
from fastpool.kernels.simd import (
    even_lanes,
    lanes_of,
    load,
    masked_load,
    range_mask,
    scalar,
    splat,
    store,
)
from fastpool.kernels.stores import masked_store
from fastpool.routines.pool import DIVIDE, ROOT, SCALE, SQUARE_ROOT, neutral_of, operation_of


def combine_ir(builder, spec, kept, new):
    """Combine two values, or two vectors."""
    operation, signed = operation_of(spec), getattr(spec.dtype, "signed", True)
    if operation in ("max", "absmax"):
        return simd.extremum_ir(builder, ">", kept, new, signed)
    if operation in ("min", "all"):
        return simd.extremum_ir(builder, "<", kept, new, signed)
    return simd.add_ir(builder, kept, new)


def combine_all_ir(builder, spec, values):
    """Combine several values at once.

    For extrema one comparison for unordered tells of two values whether either is NaN, so that NaN costs half an
    instruction a value, and one for all at the end, instead of two.
    """
    if isinstance(spec.dtype, types.Integer) or operation_of(spec) not in ("max", "min", "absmax"):
        total = values[0]
        for value in values[1:]:
            total = combine_ir(builder, spec, total, value)
        return total
    comparison = "<" if operation_of(spec) == "min" else ">"
    best, pairs = values[0], [*values, values[-1]]
    for value in values[1:]:
        best = builder.select(builder.fcmp_ordered(comparison, value, best), value, best)
    unordered = None
    for a, b in zip(pairs[::2], pairs[1::2], strict=False):
        either = builder.fcmp_unordered("uno", a, b)
        unordered = either if unordered is None else builder.or_(unordered, either)
    nan = ir.Constant(best.type, [ir.Constant(best.type.element, float("nan"))] * best.type.count)
    return builder.select(unordered, nan, best)


def prepare_ir(builder, spec, value, power):
    """Transform an element, or a vector of them, before it is combined; Lp sums take |x| ** p."""
    operation = operation_of(spec)
    if operation in ("max", "min", "all", "sum"):
        return value
    if operation == "squaresum":
        return builder.fmul(value, value)
    lanes = spec.lanes if isinstance(value.type, ir.VectorType) else 0
    value = simd.call_ir(builder, "fabs", value)
    if operation == "powersum":
        value = simd.call_ir(builder, "pow", value, simd.splat_ir(builder, power, lanes) if lanes else power)
    return value


@intrinsic
def neutral(typingctx, spec):
    """Element that changes nothing it is combined with."""

    def codegen(context, builder, sig, args):
        return ir.Constant(simd.element(spec.dtype), neutral_of(spec))

    return spec.dtype(spec), codegen


@intrinsic
def prepare(typingctx, spec, value, power):
    """Transform an element, or a vector of them, before it is combined; Lp sums take |x| ** p."""

    def codegen(context, builder, sig, args):
        return prepare_ir(builder, spec, args[1], args[2])

    return value(spec, value, spec.dtype), codegen


@intrinsic
def combine(typingctx, spec, kept, new):
    """Combine two values, or two vectors."""

    def codegen(context, builder, sig, args):
        return combine_ir(builder, spec, args[1], args[2])

    return kept(spec, kept, new), codegen


@intrinsic
def fold(typingctx, spec, value):
    """Combine all lanes, in log2(lanes) rounds of halves."""

    def codegen(context, builder, sig, args):
        value, half = args[1], spec.lanes // 2
        while half:
            order = [*range(half, 2 * half), *range(half), *range(2 * half, spec.lanes)]
            value = combine_ir(builder, spec, value, simd.shuffle_ir(builder, value, value, order))
            half //= 2
        return builder.extract_element(value, simd.I32(0))

    return spec.dtype(spec, value), codegen


@intrinsic
def root(typingctx, spec, value, power):
    """Return value ** (1 / power); the square root is correctly rounded."""

    def codegen(context, builder, sig, args):
        _, value, power = args
        if isinstance(spec.dtype, types.Integer):
            return value
        if operation_of(spec) == "squaresum":
            return simd.call_ir(builder, "sqrt", value)
        inverse = builder.fdiv(ir.Constant(simd.element(spec.dtype), 1.0), power)
        if isinstance(value.type, ir.VectorType):
            inverse = simd.splat_ir(builder, inverse, spec.lanes)
        return simd.call_ir(builder, "pow", value, inverse)

    return value(spec, value, spec.dtype), codegen


@device_with_loops
def _combine_rows(spec, call, plane, buffer, depth, row, power, line):
    """Vertical pass: the row whose element w combines all that output (depth, row) sees of column w."""
    width, lanes = call.width, lanes_of(spec)
    first_row, rows, row_pitch = call.row_first[row], call.row_count[row], call.x_row * call.row_step
    depths, depth_pitch = call.depth_count[depth], call.x_depth * call.depth_step
    source = plane + (call.depth_first[depth] * call.x_depth + first_row * call.x_row)
    nothing = splat(spec, neutral(spec))
    if call.x_column != 1:
        # Elements of a row are apart: gather each row into a line first.
        for w in range(0, width, lanes):
            masked_store(spec, buffer + w, nothing, range_mask(spec, 0, width - w))
        for d in range(depths):
            for r in range(rows):
                apart = source + (d * depth_pitch + r * row_pitch)
                for w in range(width):
                    line[w] = scalar(spec, apart[w * call.x_column])
                for w in range(0, width, lanes):
                    mask = range_mask(spec, 0, width - w)
                    new = prepare(spec, masked_load(spec, line + w, mask, nothing), power)
                    old = masked_load(spec, buffer + w, mask, nothing)
                    masked_store(spec, buffer + w, combine(spec, old, new), mask)
    else:
        whole = width - width % lanes
        for w in range(0, whole, lanes):
            total = nothing
            for d in range(depths):
                at = source + (w + d * depth_pitch)
                for _ in range(rows):
                    total = combine(spec, total, prepare(spec, load(spec, at), power))
                    at = at + row_pitch
            store(spec, buffer + w, total)
        if whole < width:
            mask = range_mask(spec, 0, width - whole)
            total = nothing
            for d in range(depths):
                at = source + (whole + d * depth_pitch)
                for _ in range(rows):
                    value = masked_load(spec, at, mask, splat(spec, 0.0))
                    total = combine(spec, total, prepare(spec, value, power))
                    at = at + row_pitch
            masked_store(spec, buffer + whole, total, mask)


@intrinsic
def _divided(typingctx, spec, value, first, second):
    """Return value / (first * second); integers, of which no mean is taken, stay as they are."""

    def codegen(context, builder, sig, args):
        if isinstance(spec.dtype, types.Integer):
            return args[1]
        return builder.fdiv(args[1], builder.fmul(args[2], args[3]))

    return value(spec, value, value, value), codegen


@intrinsic
def _scaled(typingctx, spec, value, weight, bias):
    """Return value * weight + bias; integers stay as they are."""

    def codegen(context, builder, sig, args):
        if isinstance(spec.dtype, types.Integer):
            return args[1]
        return builder.fadd(builder.fmul(args[1], args[2]), args[3])

    return value(spec, value, value, value), codegen


@device_with_loops
def finish(spec, call, value, row_divisor, column_divisor, weight, bias, power):
    """What an output is made of the combined value, for a vector or an element."""
    if call.finish == DIVIDE:
        return _divided(spec, value, row_divisor, column_divisor)
    if call.finish == SCALE:
        return _scaled(spec, value, weight, bias)
    if call.finish == SQUARE_ROOT or call.finish == ROOT:
        return root(spec, value, power)
    return value


@device_with_loops
def _combine_columns(spec, call, buffer, out, row_divisor, weight, bias, power):
    """Horizontal pass: outputs of one row from the buffered row, whose first element is the leftmost padding."""
    columns, lanes, kernel_size = call.out_columns, lanes_of(spec), call.kernel
    stride, step = call.stride, call.column_step
    if call.regular and stride <= 2:
        row_divisors, weights, biases = splat(spec, row_divisor), splat(spec, weight), splat(spec, bias)
        for q in range(0, columns, lanes):
            mask = range_mask(spec, 0, columns - q)
            if stride == 1:
                total = load(spec, buffer + q)
                for k in range(1, kernel_size):
                    total = combine(spec, total, load(spec, buffer + (q + k * step)))
            else:
                at = buffer + 2 * q
                total = even_lanes(load(spec, at), load(spec, at + lanes))
                for k in range(1, kernel_size):
                    at = buffer + (2 * q + k * step)
                    total = combine(spec, total, even_lanes(load(spec, at), load(spec, at + lanes)))
            divisors = masked_load(spec, call.column_divisor + q, mask, row_divisors)
            value = finish(spec, call, total, row_divisors, divisors, weights, biases, power)
            masked_store(spec, out + q, value, mask)
    else:
        first, count = call.column_first, call.column_count
        for q in range(columns):
            at = buffer + (call.pad_left + first[q])
            value = neutral(spec)
            for k in range(count[q]):
                value = combine(spec, value, at[k * step])
            out[q] = finish(spec, call, value, row_divisor, call.column_divisor[q], weight, bias, power)


@quickly_with_masks
def pool(call, task, thread):
    """Some output rows of one plane, or all of some planes."""
    simd.align_stack()
    spec = call.spec
    power = scalar(spec, call.power)
    plane_task, row_task = task // call.row_tasks, task % call.row_tasks
    first_plane = plane_task * call.planes_per_task
    end_plane = min(first_plane + call.planes_per_task, call.planes)
    rows = call.out_depths * call.out_rows
    first_row = row_task * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, rows)

    buffer = call.scratch + thread * call.scratch_thread
    line = buffer + call.buffer
    nothing = splat(spec, neutral(spec))
    for q in range(0, call.buffer, lanes_of(spec)):
        store(spec, buffer + q, nothing)
    for index in range(first_plane, end_plane):
        image, channel = index // call.channels, index % call.channels
        plane = call.x + (image * call.x_batch + channel * call.x_channel)
        weight, bias = scalar(spec, 1.0), scalar(spec, 0.0)
        if call.finish == SCALE:
            weight, bias = call.weights[channel], call.bias[channel]
        for row in range(first_row, end_row):
            depth, in_depth = row // call.out_rows, row % call.out_rows
            _combine_rows(spec, call, plane, buffer + call.pad_left, depth, in_depth, power, line)
            out = call.out + (index * rows + row) * call.out_columns
            _combine_columns(spec, call, buffer, out, call.row_divisor[row], weight, bias, power)
