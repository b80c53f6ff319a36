"""Depthwise convolution: each output channel sees one input channel, so there is no reduction to share registers over.

Work goes down strips of a vector of output columns, or of two, for which each weight is loaded once. Each input row is
read once, as one vector for each column tap (shifted loads at stride 1; at stride 2 a pair of loads, split into even
and odd lanes, and these shifted), and added to all output rows that see it: the one that it completes, and those that
are under way, which are handed from row to row in registers, as are filters and masks. The input is read in place:
lanes beyond its edges are loaded as zeros by masks, and a row in the padding is passed by, or is a row of zeros. Rows
of a dilated filter are those of one phase: of a number modulo the dilation.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.columns import Columns, in_order_ir, is_dilated, is_whole, reach_of, stride_of
from fastpool.kernels.fetches import fetch_plane
from fastpool.kernels.simd import I64, clamp, known, lanes_of, masked_load, range_mask, scalar, splat
from fastpool.kernels.stores import masked_store, store_first_ir
from fastpool.machine.processor import TARGET
from fastpool.routines.depthwise import (
    NO_ROW,
    ZERO_ROW,
    in_registers,
    is_one_strip,
    skips_padding,
    under_way,
    vectors_at_once,
)


def _broadcast_ir(builder, spec, pointer, index):
    value = builder.load(builder.gep(pointer, [I64(index)]), align=spec.size)
    return simd.splat_ir(builder, value, spec.lanes)


def _in_registers(spec):
    return in_registers(spec.vectors, spec.width, stride_of(spec))


def _is_one_strip(spec):
    return is_one_strip(spec.variant)


def _under_way(spec):
    return under_way(spec.vectors, stride_of(spec))


def _at_once(spec):
    return vectors_at_once(spec.variant)


def _kept(spec):
    """How many of the taps stay in registers, the first ones.

    Half a vector at a time, two multiply-adds a cycle would take as many loads: 7x7 over 7x7 takes 232 cycles a plane
    with 16 taps in registers and 261 with none, 5x5 136 and 160. Whole vectors gain nothing, nor does stride 2.
    """
    if _in_registers(spec):
        return spec.vectors * spec.width
    has_room = spec.variant.startswith("narrow ") and stride_of(spec) == 1 and TARGET.registers > 16
    return TARGET.registers // 2 if has_room else 0


#: Cycles from one multiply-add to its next, and what else keeps it waiting now and then.
_LATENCY = 6


def _is_chained(spec):
    """Whether the sums of an output row are one chain: if all rows under way keep the units busier than that waits.

    It saves an addition for each row of taps: 7x7 over 96 channels of 56x56 takes 177 us instead of 182; two vectors at
    once of 5x5 over 240 of 28x28 33 instead of 38.
    """
    at_once = TARGET.multiplies * TARGET.vector_bytes // (spec.lanes * spec.size)
    return _at_once(spec) > 1 or stride_of(spec) * _LATENCY * at_once <= spec.vectors


@intrinsic
def _filters(typingctx, spec, weights):
    """Taps that are kept, broadcast: loaded once, as the compiler must think that stores to the output change them."""
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        filters = ir.Constant(context.get_value_type(tile), None)
        for tap in range(_kept(spec)):
            filters = builder.insert_value(filters, _broadcast_ir(builder, spec, args[1], tap), tap)
        return filters

    return tile(spec, weights), codegen


class _Strip:
    """What the two intrinsics below do with a row; emits LLVM IR."""

    def __init__(self, builder, spec, filters, taps, source):
        self.builder, self.spec, self.filters = builder, spec, filters
        self.weights, self.bias = (builder.extract_value(taps, i) for i in range(2))
        self.plane, self.offsets, self.zeros, first, width, dilation = (
            builder.extract_value(source, i) for i in range(6)
        )
        begins = [builder.add(first, I64(k * spec.lanes * stride_of(spec))) for k in range(_at_once(spec))]
        self.columns = [
            Columns(builder, spec, begin, width, dilation if is_dilated(spec) else None) for begin in begins
        ]

    def begun(self):
        """Sums of an output row of which nothing is summed."""
        return [_broadcast_ir(self.builder, self.spec, self.bias, 0)] * _at_once(self.spec)

    def taps_of(self, row):
        """What each vector sees of a row, for each column tap."""
        return list(zip(*(columns.taps_of(row) for columns in self.columns), strict=True))

    def with_row(self, totals, row):
        """`totals` of the output rows under way, and added to them what they see of a row.

        Rows are counted from the strip's current one.
        """
        builder = self.builder
        offset = builder.load(builder.gep(self.offsets, [I64(row)]), align=8)
        inside = builder.icmp_signed(">", offset, I64(ZERO_ROW))
        place = builder.select(inside, builder.gep(self.plane, [offset]), self.zeros)
        if not skips_padding(self.spec.variant, self.spec.vectors, self.spec.width):
            return self.added(totals, self.taps_of(place), row)
        before = builder.block
        with builder.if_then(builder.icmp_signed("!=", offset, I64(NO_ROW))):
            sums, after = self.added(totals, self.taps_of(place), row), builder.block
        either = []
        for total, total_and_row in zip(totals, sums, strict=True):
            either.append(builder.phi(total.type))
            either[-1].add_incoming(total, before)
            either[-1].add_incoming(total_and_row, after)
        return either

    def added(self, totals, columns, row):
        """`totals`, and added to them what they see of a row: column by column, as a sum waits for itself.

        What a row adds is summed apart where the total would wait for longer than its turn.
        """
        builder, spec, stride, at_once = self.builder, self.spec, stride_of(self.spec), _at_once(self.spec)
        under_way = [i for i in range(len(totals)) if row >= i // at_once * stride]
        sums = {i: totals[i] if _is_chained(spec) else None for i in under_way}
        for j, of_tap in enumerate(columns):
            weights = [self.weight((row - i // at_once * stride) * spec.width + j) for i in under_way[::at_once]]
            for i in under_way:
                column, weight = of_tap[i % at_once], weights[i // at_once]
                if sums[i] is None:
                    sums[i] = builder.fmul(column, weight)
                else:
                    sums[i] = simd.fma_ir(builder, column, weight, sums[i])
        if not _is_chained(spec):
            sums = {i: builder.fadd(totals[i], value) for i, value in sums.items()}
        return [sums.get(i, total) for i, total in enumerate(totals)]

    def weight(self, tap):
        """Vector of a tap."""
        if tap < _kept(self.spec):
            return self.builder.extract_value(self.filters, tap)
        return _broadcast_ir(self.builder, self.spec, self.weights, tap)


@intrinsic
def _begin(typingctx, spec, filters, source, taps):
    """Sums of the output rows that are under way before the first is complete, as the first vectors of a tile.

    `source` is (plane, offsets of its rows from the strip's first on, zeros, first column, width, dilation of columns),
    `taps` (weights, bias).
    """
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        _, filters, source, taps = args
        strip, stride = _Strip(builder, spec, filters, taps, source), stride_of(spec)
        totals = strip.begun() * _under_way(spec)
        for i in range(spec.vectors - stride):
            totals = strip.with_row(totals, i)
        state = ir.Constant(context.get_value_type(tile), None)
        for i, total in enumerate(totals):
            state = builder.insert_value(state, total, i)
        return state

    return tile(spec, filters, source, taps), codegen


@intrinsic
def _complete(typingctx, spec, state, filters, source, taps, out, left, low, high):
    """Complete one output row, of which `left` columns are left, and write it; return the sums under way then."""
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        _, state, filters, source, taps, out, left, low, high = args
        strip, stride, lanes = _Strip(builder, spec, filters, taps, source), stride_of(spec), spec.lanes
        totals = [builder.extract_value(state, i) for i in range(_under_way(spec) * _at_once(spec))] + strip.begun()
        for i in range(max(0, spec.vectors - stride), spec.vectors):
            totals = strip.with_row(totals, i)
        low, high = simd.splat_ir(builder, low, lanes), simd.splat_ir(builder, high, lanes)
        for k in range(_at_once(spec)):
            value = in_order_ir(builder, spec, simd.clamp_ir(builder, totals.pop(0), low, high))
            place = builder.gep(out, [I64(k * lanes)])
            if is_whole(spec):
                simd.store_ir(builder, value, place, spec.size)
            else:
                store_first_ir(builder, value, place, builder.sub(left, I64(k * lanes)), spec.size)
        for i, total in enumerate(totals):
            state = builder.insert_value(state, total, i)
        return state

    one = spec.dtype
    return tile(spec, state, filters, source, taps, out, types.intp, one, one), codegen


@intrinsic
def _fetch(typingctx, spec, place):
    """Bring near the input of a vector of outputs further on; returns the place of the next one.

    Strips go down an image, which no hardware foresees: 32 channels of 112x112 take 91 us instead of 100, and 96 at
    stride 2 141 instead of 152. Planes of short rows, of which there are many in each page, gain nothing.
    """

    def codegen(context, builder, sig, args):
        elements = 0 if _is_one_strip(spec) else stride_of(spec) ** 2 * spec.lanes * _at_once(spec)
        for element in range(0, elements, 64 // spec.size):
            simd.prefetch_ir(builder, builder.gep(args[1], [I64(element)]))
        return builder.gep(args[1], [I64(elements)])

    return place(spec, place), codegen


@intrinsic
def _fetch_output(typingctx, spec, place):
    """Bring near, to be written, a vector of outputs further on, where they are far; returns the place of the next one.

    Of 16 images, 3x3 over 32 channels of 112x112 takes 0.68 of the time so, over 144 of 56x56 0.66, 7x7 over 64 of
    128x128 0.77; of 64, 3x3 over 240 of 28x28 0.71, over 480 of 14x14 0.81.
    """

    def codegen(context, builder, sig, args):
        elements = spec.lanes * _at_once(spec) if "far " in spec.variant else 0
        for element in range(0, elements, 64 // spec.size):
            simd.prefetch_ir(builder, builder.gep(args[1], [I64(element)]), to_write=True)
        return builder.gep(args[1], [I64(elements)])

    return place(spec, place), codegen


@device
def _add_residual(spec, out, residual, count, low, high):
    """Residual and activation, in a pass of its own over rows that are still in the cache."""
    zero, lowest, highest = splat(spec, 0.0), splat(spec, low), splat(spec, high)
    for q in range(0, count, lanes_of(spec)):
        mask = range_mask(spec, 0, count - q)
        value = masked_load(spec, out + q, mask, zero) + masked_load(spec, residual + q, mask, zero)
        masked_store(spec, out + q, clamp(value, lowest, highest), mask)


@known
def _tells_whole(spec):
    """Whether strips that are inside of all rows have code of their own: where masks cost something."""
    return not (simd.HAS_MASKS or _is_one_strip(spec) or is_dilated(spec))


@known
def _runs_over(spec):
    """Whether the vector of a row that is shorter may be stored whole: where masks cost something."""
    return not (simd.HAS_MASKS or is_dilated(spec))


@known
def _reach_of(spec):
    """Elements of a row that a vector of outputs may load."""
    return reach_of(spec)


@intrinsic
def _whole(typingctx, spec):
    """Spec of a strip that is inside of all rows."""
    inner = simd.Spec(spec.dtype, spec.lanes, spec.vectors, spec.width, f"whole {spec.variant}")
    return inner(spec), lambda context, builder, sig, args: context.get_dummy_value()


@known
def _ends_in_half(spec):
    """Whether the last columns of a row are taken by half a vector, if that holds them."""
    return spec.variant.startswith("halved ")


@intrinsic
def _half(typingctx, spec):
    """Spec of such a strip."""
    inner = simd.Spec(spec.dtype, spec.lanes // 2, spec.vectors, spec.width, f"half {spec.variant}")
    return inner(spec), lambda context, builder, sig, args: context.get_dummy_value()


@intrinsic
def _halved(typingctx, half, filters):
    """Filters of such a strip: the same registers."""
    spec, tile = filters.spec, simd.Tile(half)

    def codegen(context, builder, sig, args):
        halves = ir.Constant(context.get_value_type(tile), None)
        if _in_registers(spec):
            for tap in range(spec.vectors * spec.width):
                whole = builder.extract_value(args[1], tap)
                halves = builder.insert_value(halves, simd.shuffle_ir(builder, whole, whole, range(half.lanes)), tap)
        return halves

    return tile(half, filters), codegen


@device
def _strip(spec, filters, taps, at, rows, out, left, low, high, ahead):
    """A vector of columns of some output rows; returns the places of what is fetched next, of input and output."""
    source, offsets, zeros, first, width, dilation = at
    begin, end, stride, pitch = rows
    x_ahead, out_ahead = ahead
    state = _begin(spec, filters, at, taps)
    for row in range(begin, end):
        x_ahead, out_ahead = _fetch(spec, x_ahead), _fetch_output(spec, out_ahead)
        at = (source, offsets, zeros, first, width, dilation)
        # A whole vector where what it has beyond the row is written after it.
        count = lanes_of(spec) if _runs_over(spec) and (end - row) * pitch >= lanes_of(spec) else left
        state = _complete(spec, state, filters, at, taps, out, count, low, high)
        offsets, out = offsets + stride, out + pitch
    return x_ahead, out_ahead


def depthwise(call, task, thread):
    """Some output rows of one plane, or all of some planes."""
    simd.align_stack()
    spec = call.spec
    lanes, stride, wide = lanes_of(spec), _stride_of(spec), _columns_of(spec)
    row_task, plane_task = task % call.row_tasks, task // call.row_tasks
    row_dilation, column_dilation = _dilation_or_1(spec, call.row_dilation), call.column_dilation
    # Rows are counted within a phase of the dilation, of which the first has most.
    first_row = row_task * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, (call.out_rows + row_dilation - 1) // row_dilation)
    first_plane = plane_task * call.planes_per_task
    columns, size = call.out_columns, call.out_rows * call.out_columns
    low, high, has_residual = scalar(spec, call.low), scalar(spec, call.high), call.has_residual
    lowest, highest = low, high
    if has_residual:  # it comes first
        lowest, highest = scalar(spec, -np.inf), scalar(spec, np.inf)
    zeros, width, pad, block_rows = call.zeros, call.width, call.pad_left, call.block_rows
    offsets, phase_rows = call.row_offsets, call.phase_rows
    # It begins early enough to be whole, as storing part of a vector takes long where there are no masks.
    last_strip = max(0, columns - wide)
    # Counted on from plane to plane: a division costs as much as a row of outputs.
    channels, multiplier = call.channels, call.multiplier
    image, channel = first_plane // channels, first_plane % channels
    x_channel, of_x_channel = channel // multiplier, channel % multiplier
    for _ in range(min(call.planes_per_task, call.planes - first_plane)):
        source = call.x + (image * call.x_batch + x_channel * call.x_channel)
        if call.plane_ahead:
            fetch_plane(spec, source + call.plane_ahead, call.plane)
        taps = (call.weights + channel * _taps_of(spec), call.bias + channel)
        filters = _filters(spec, taps[0])
        out = call.out + (image * call.out_batch + channel * size)
        block = first_row
        while block < end_row:  # a range would take a division
            block_end = min(block + block_rows, end_row)
            # Where planes lie beside each other, the next one at last.
            ahead = (
                source + block_end * stride * row_dilation * call.width,
                out + block_end * row_dilation * columns,
            )
            for phase in range(min(row_dilation, call.out_rows)):
                end = min(block_end, (call.out_rows - phase + row_dilation - 1) // row_dilation)
                rows, place = (
                    (block, end, stride, row_dilation * columns),
                    out + (block * row_dilation + phase) * columns,
                )
                for begin in range(0, _one_strip_or(spec, columns), wide):
                    q = min(begin, last_strip)
                    left, first = columns - q, q * stride - pad
                    at = (source, offsets + (phase * phase_rows + block * stride), zeros, first, width, column_dilation)
                    if _ends_in_half(spec) and 2 * (columns - begin) <= lanes:
                        half = _half(spec)
                        q = columns - lanes // 2
                        at = (source, at[1], zeros, q * stride - pad, width, column_dilation)
                        ahead = _strip(
                            half, _halved(half, filters), taps, at, rows, place + q, lanes // 2, lowest, highest, ahead
                        )
                    elif _tells_whole(spec) and left >= lanes and first >= 0 and first + _reach_of(spec) <= width:
                        ahead = _strip(_whole(spec), filters, taps, at, rows, place + q, left, lowest, highest, ahead)
                    else:
                        ahead = _strip(spec, filters, taps, at, rows, place + q, left, lowest, highest, ahead)
            block = block_end
        if has_residual:
            first = first_row * row_dilation * columns
            count = min(end_row * row_dilation, call.out_rows) * columns - first
            residual = call.residual + (image * call.residual_batch + channel * size)
            _add_residual(spec, out + first, residual + first, count, low, high)
        channel += 1
        of_x_channel += 1
        if of_x_channel == multiplier:
            x_channel += 1
            of_x_channel = 0
        if channel == channels:
            image += 1
            channel = x_channel = 0


@intrinsic
def _dilation_or_1(typingctx, spec, dilation):
    """`dilation`, or 1 where it is known ahead to be."""
    return types.intp(spec, dilation), lambda context, builder, sig, args: args[1] if is_dilated(spec) else I64(1)


@intrinsic
def _one_strip_or(typingctx, spec, columns):
    """1 where all columns are one strip, else `columns`: known ahead, so that masks are made once for all planes."""
    return types.intp(spec, columns), lambda context, builder, sig, args: I64(1) if _is_one_strip(spec) else args[1]


@known
def _columns_of(spec):
    """Columns of outputs of a strip."""
    return spec.lanes * _at_once(spec)


@known
def _stride_of(spec):
    """Step of the windows."""
    return stride_of(spec)


@known
def _taps_of(spec):
    """Weights of a channel."""
    return spec.vectors * spec.width
