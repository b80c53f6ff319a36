"""Depthwise convolution: each output channel sees one input channel, so there is no reduction to share registers over.

A tile is one vector of output columns by a few output rows. It reads each input row once, as one vector for each
column tap (shifted loads at stride 1; pairs of loads split into even and odd lanes at stride 2), and adds it to all
output rows that see it. The input is read in place: lanes beyond its edges, and rows in the padding, are loaded as
zeros by masks. Rows of tiles follow each other across the image, as the hardware prefetcher expects.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import kernel
from fastpool.kernels.calls import Layout
from fastpool.kernels.columns import column_taps_ir, stride_of
from fastpool.kernels.epilogue import write_ir
from fastpool.kernels.simd import I64, lanes_of, scalar

#: Output rows of a tile: with 3x3 taps, 4 accumulators, 9 weights and 3 columns of input fit 16 registers.
ROWS = 4
#: Largest filter: its weights still come from the level-1 cache, one load for each multiplication.
LARGEST_FILTER = 7

DEPTHWISE = Layout(
    "depthwise",
    {
        "channels": "integer",  # of out
        "multiplier": "integer",  # out channels of one input channel
        "x_batch": "integer",
        "x_channel": "integer",
        "x_row": "integer",
        "width": "integer",
        "row_map": "integers",
        "pad_left": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "out_batch": "integer",
        "residual_batch": "integer",
        "has_residual": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "rows_per_task": "integer",
        "row_tasks": "integer",
        "low": "number",
        "high": "number",
    },
)


@intrinsic
def _tile(typingctx, spec, source, source_pitch, taps, out, residual, has_residual, limits, rows, columns):
    """One tile.

    `source` is (plane, rows of the plane for the tile's first rows on, first column), `source_pitch` (row, width),
    `taps` (weights, bias), `limits` (row pitch of out, low, high); `rows` and `columns` are what is left of the
    output.
    """

    def codegen(context, builder, sig, args):
        _, source, source_pitch, taps, out, residual, has_residual, limits, rows, columns = args
        plane, row_map, first = (builder.extract_value(source, i) for i in range(3))
        row_pitch, width = (builder.extract_value(source_pitch, i) for i in range(2))
        weights, bias = (builder.extract_value(taps, i) for i in range(2))
        out_pitch, low, high = (builder.extract_value(limits, i) for i in range(3))
        lanes = spec.lanes
        kernel_rows, kernel_columns, stride = spec.vectors, spec.width, stride_of(spec)
        bits = ir.VectorType(simd.I1, lanes)
        everything, nothing = ir.Constant(bits, [simd.I1(1)] * lanes), ir.Constant(bits, None)

        def broadcast(pointer, index):
            value = builder.load(builder.gep(pointer, [I64(index)]), align=spec.size)
            return simd.splat_ir(builder, value, lanes)

        filters = [
            [broadcast(weights, i * kernel_columns + j) for j in range(kernel_columns)] for i in range(kernel_rows)
        ]
        totals = [broadcast(bias, 0)] * ROWS
        for i in range((ROWS - 1) * stride + kernel_rows):
            index = builder.load(builder.gep(row_map, [I64(i)]), align=8)
            inside = builder.icmp_signed(">=", index, I64(0))
            exists = builder.select(inside, everything, nothing)
            row = builder.gep(plane, [builder.mul(builder.select(inside, index, I64(0)), row_pitch)])
            columns_seen = column_taps_ir(builder, spec, row, first, width, exists, stride, 0.0)
            for r in range(ROWS):
                k = i - r * stride
                if 0 <= k < kernel_rows:
                    for j in range(kernel_columns):
                        totals[r] = simd.fma_ir(builder, columns_seen[j], filters[k][j], totals[r])
        low, high = simd.splat_ir(builder, low, lanes), simd.splat_ir(builder, high, lanes)
        mask = simd.range_mask_ir(builder, I64(0), columns, lanes)
        for r in range(ROWS):
            with builder.if_then(builder.icmp_signed("<", I64(r), rows), likely=True):
                offset = builder.mul(out_pitch, I64(r))
                write_ir(builder, spec, totals[r], out, residual, has_residual, offset, mask, low, high)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, source, source_pitch, taps, out, residual, number, limits, number, number), codegen


@kernel(DEPTHWISE)
def depthwise(call, task, thread):
    """Some output rows of one plane, or all of some planes."""
    spec = call.spec
    lanes, stride = lanes_of(spec), _stride_of(spec)
    row_task, plane_task = task % call.row_tasks, task // call.row_tasks
    first_row = row_task * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, call.out_rows)
    first_plane = plane_task * call.planes_per_task
    columns, size = call.out_columns, call.out_rows * call.out_columns
    limits = (columns, scalar(spec, call.low), scalar(spec, call.high))
    pitches = (call.x_row, call.width)
    for plane in range(first_plane, min(first_plane + call.planes_per_task, call.planes)):
        image, channel = plane // call.channels, plane % call.channels
        source = call.x + (image * call.x_batch + channel // call.multiplier * call.x_channel)
        taps = (call.weights + channel * _taps_of(spec), call.bias + channel)
        for row in range(first_row, end_row, ROWS):
            place = channel * size + row * columns
            out = call.out + (image * call.out_batch + place)
            residual = call.residual + (image * call.residual_batch + place)
            for q in range(0, columns, lanes):
                at = (source, call.row_map + row * stride, q * stride - call.pad_left)
                left = columns - q
                _tile(spec, at, pitches, taps, out + q, residual + q, call.has_residual, limits, end_row - row, left)


@intrinsic
def _stride_of(typingctx, spec):
    """Step of the windows."""
    return types.intp(spec), lambda context, builder, sig, args: I64(stride_of(spec))


@intrinsic
def _taps_of(typingctx, spec):
    """Weights of a channel."""
    return types.intp(spec), lambda context, builder, sig, args: I64(spec.vectors * spec.width)
