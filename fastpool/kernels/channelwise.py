"""Depthwise convolution with lanes on channels: small maps, sequences, dilated and larger filters, large strides.

A row of 7 fills 7 of 16 lanes where lanes are columns, and shifted masked loads cost more than the multiplications.
Here a task takes one vector of channels: it transposes their pixels into vectors of channels, laid out with their
padding as ``[row][column][lane]`` (rows are those of all depths, one depth after the other), sums a run of outputs in
registers, tap by tap, each tap one vector of weights and a whole, aligned vector of input for each output, and
transposes the results back. Filters of any size and dilation are a table of offsets, and no lane is idle whatever the
width. The transposes cost about as much as 3x3 taps, so that it pays for more taps than that on small maps: 5x5 over
960 channels of 7x7 takes 30 us against 37. It takes all dilated ones, and all strides: 3x3 at stride 3 over 96 channels
of 57x57 takes 23 us, and with its columns packed 130.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.channels import masked_vector, store_tile, transpose_out
from fastpool.kernels.fetches import fetch_plane
from fastpool.kernels.simd import I64, Tile, lanes_of, scalar, splat, store, width_of
from fastpool.routines.channelwise import stride_of


@intrinsic
def _scatter_in(typingctx, spec, source, pitch, channels, count, target, places):
    """`count` pixels of `channels` channels, `pitch` apart, as vectors of channels: each to its place in `target`.

    Lanes beyond the channels repeat the last one, and pixels beyond the last are zero.
    """

    def codegen(context, builder, sig, args):
        _, source, pitch, channels, count, target, places = args
        vector = simd.vector_ir(spec)
        zero = ir.Constant(vector, None)
        inside = simd.range_mask_ir(builder, I64(0), count, spec.lanes)
        last_one = builder.sub(channels, I64(1))
        rows = []
        for lane in range(spec.lanes):
            channel = builder.select(builder.icmp_signed("<", I64(lane), channels), I64(lane), last_one)
            row = builder.gep(source, [builder.mul(pitch, channel)])
            rows.append(simd.masked_load_ir(builder, row, vector, inside, zero, spec.size))
        for pixel, value in enumerate(simd.transpose_ir(builder, rows)):
            place = builder.load(builder.gep(places, [I64(pixel)]), align=8)
            simd.store_ir(builder, value, builder.gep(target, [place]), spec.size)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, source, number, number, number, target, places), codegen


@intrinsic
def _all_equal(typingctx, spec, value):
    """A tile of which each vector is `value`."""
    tile = Tile(spec)

    def codegen(context, builder, sig, args):
        total = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for t in range(spec.width):
            total = builder.insert_value(total, args[1], t)
        return total

    return tile(spec, value), codegen


@intrinsic
def _add_tap(typingctx, total, x, step, weights):
    """total[t] += weights * vector t of x, `step` elements apart."""
    spec = total.spec

    def codegen(context, builder, sig, args):
        tile, x, step, weights = args
        vector = simd.vector_ir(spec)
        weight = simd.load_ir(builder, weights, vector, spec.size)
        for t in range(spec.width):
            value = simd.load_ir(builder, builder.gep(x, [builder.mul(step, I64(t))]), vector, spec.size)
            tile = builder.insert_value(tile, simd.fma_ir(builder, value, weight, builder.extract_value(tile, t)), t)
        return tile

    return total(total, x, types.intp, weights), codegen


@intrinsic
def _stride_or(typingctx, spec, stride):
    """Step of the windows along a row: that of the variant, known ahead, or `stride`, where it names none."""
    named = stride_of(spec.variant)
    return types.intp(spec, stride), lambda context, builder, sig, args: I64(named) if named else args[1]


@device
def _scatter(spec, source, pitch, channels, count, target, places):
    """A function of its own, called for pixels and filters: transposes are most of what is to be compiled."""
    _scatter_in(spec, source, pitch, channels, count, target, places)


def channelwise(call, task, thread):
    """Some output rows of a vector of channels of one image."""
    simd.align_stack()
    spec = call.spec
    lanes, group = lanes_of(spec), width_of(spec)
    row_task, rest = task % call.row_tasks, task // call.row_tasks
    block, image = rest % call.channel_blocks, rest // call.channel_blocks
    first_row = row_task * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, call.out_rows)
    first_channel = block * lanes
    channels = call.channels - first_channel
    scratch = call.scratch + thread * call.scratch_thread
    filters, stage = scratch + call.filters_offset, scratch + call.stage_offset
    width, columns, taps = call.width, call.out_columns, call.taps

    plane = call.x + (image * call.x_batch + first_channel * call.x_channel)
    if call.plane_ahead:
        fetch_plane(spec, plane + call.plane_ahead, call.plane)
    weights = call.weights + first_channel * taps
    for tap in range(0, taps, lanes):
        _scatter(spec, weights + tap, taps, channels, taps - tap, filters + tap * lanes, call.in_order)

    # The padded rows that the outputs see; those outside the input, and the ends of the others, are zero.
    pitch, pad, rows_before = call.padded_columns, call.pad_left, call.rows_before
    begin = call.row_starts[first_row]
    end = call.row_starts[end_row - 1] + call.reach_rows
    zero = splat(spec, 0.0)
    for row in range(begin, end):
        line = scratch + (row - begin) * pitch * lanes
        if rows_before[row] == rows_before[row + 1]:
            for column in range(pitch):
                store(spec, line + column * lanes, zero)
        else:
            for column in range(pad):
                store(spec, line + column * lanes, zero)
            for column in range(pad + width, pitch):
                store(spec, line + column * lanes, zero)
    target = scratch + -(begin * pitch * lanes)
    for pixel in range(rows_before[begin] * width, rows_before[end] * width, lanes):
        left = call.rows * width - pixel
        _scatter(spec, plane + pixel, call.x_channel, channels, left, target, call.places + pixel)

    bias = masked_vector(spec, call.bias + first_channel, channels)
    step, last = _stride_or(spec, call.stride_column) * lanes, max(0, columns - group)
    for row in range(first_row, end_row):
        line = scratch + (call.row_starts[row] - begin) * pitch * lanes
        done = stage + (row - first_row) * columns * lanes
        first_tap, end_tap = call.row_taps[2 * row], call.row_taps[2 * row + 1]
        # The last run begins earlier; where a row is shorter than a run, the next row overwrites what is beyond.
        for first in range(0, columns, group):
            column = min(first, last)
            total, at, weight = _all_equal(spec, bias), line + column * step, filters + first_tap * lanes
            for tap in range(first_tap, end_tap):
                total = _add_tap(total, at + call.offsets[tap], step, weight)
                weight = weight + lanes
            store_tile(total, done + column * lanes)

    size, first = call.out_rows * columns, first_row * columns
    low, high, flags = scalar(spec, call.low), scalar(spec, call.high), (call.has_residual, call.has_bounds)
    place = first_channel * size + first
    count = (end_row - first_row) * columns
    for pixel in range(0, count, lanes):
        transpose_out(
            spec,
            stage + pixel * lanes,
            call.out + (image * call.out_batch + place + pixel),
            call.residual + (image * call.residual_batch + place + pixel),
            flags,
            size,
            channels,
            count - pixel,
            low,
            high,
        )
