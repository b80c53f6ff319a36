"""Pooling with small windows at stride 1 or 2: a vector of outputs straight from the input, without a buffer.

For each vector of outputs the rows of the window are read in place, one vector for each column tap. Elements in the
padding are loaded as neutral ones by masks. The windows of up to 3x3 that networks use are at most nine taps: reading
them again for the next row from the level-1 cache costs less than the round trip through a buffered row.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import kernel
from fastpool.kernels.calls import Layout
from fastpool.kernels.columns import column_taps_ir, stride_of
from fastpool.kernels.pool import DIVIDE, SCALE, combine_all_ir, finish, neutral_of, prepare_ir
from fastpool.kernels.simd import lanes_of, masked_load, masked_store, range_mask, scalar, splat

#: Most taps of a window.
LARGEST_WINDOW = 9

SMALL_POOL = Layout(
    "small_pool",
    {
        "x_batch": "integer",
        "x_channel": "integer",
        "x_row": "integer",
        "channels": "integer",
        "width": "integer",
        "row_map": "integers",  # source of each padded row, or -1
        "row_stride": "integer",
        "row_step": "integer",
        "column_stride": "integer",
        "pad_left": "integer",
        "block_rows": "integer",  # output rows that are done before the next vector of columns
        "out_rows": "integer",
        "out_columns": "integer",
        "planes": "integer",
        "planes_per_task": "integer",
        "rows_per_task": "integer",
        "row_tasks": "integer",
        "finish": "integer",
        "row_divisor": "elements",
        "column_divisor": "elements",
        "power": "number",
    },
)


@intrinsic
def _window(typingctx, spec, plane, row_map, row_step, row_pitch, width, first, power):
    """Combine all taps of the windows of one vector of outputs, whose first column is `first`."""

    def codegen(context, builder, sig, args):
        _, plane, row_map, row_step, row_pitch, width, first, power = args
        bits = ir.VectorType(simd.I1, spec.lanes)
        everything, nothing = ir.Constant(bits, [simd.I1(1)] * spec.lanes), ir.Constant(bits, None)
        outside = neutral_of(spec)
        taps = []
        for i in range(spec.vectors):
            place = builder.gep(row_map, [builder.mul(row_step, simd.I64(i))])
            index = builder.load(place, align=8)
            inside = builder.icmp_signed(">=", index, simd.I64(0))
            exists = builder.select(inside, everything, nothing)
            row = builder.gep(plane, [builder.mul(builder.select(inside, index, simd.I64(0)), row_pitch)])
            columns = column_taps_ir(builder, spec, row, first, width, exists, stride_of(spec), outside)
            taps += [prepare_ir(builder, spec, tap, power) for tap in columns]
        return combine_all_ir(builder, spec, taps)

    number = types.intp
    vector = simd.Vector(spec.dtype, spec.lanes)
    return vector(spec, plane, row_map, number, number, number, number, spec.dtype), codegen


@kernel(SMALL_POOL)
def small_pool(call, task, thread):
    """Some output rows of one plane, or all of some planes."""
    simd.align_stack()
    spec = call.spec
    lanes, columns, width, stride = lanes_of(spec), call.out_columns, call.width, call.column_stride
    power = scalar(spec, call.power)
    row_task, plane_task = task % call.row_tasks, task // call.row_tasks
    first_row = row_task * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, call.out_rows)
    first = plane_task * call.planes_per_task
    image, channel = first // call.channels, first % call.channels
    row_map, row_step, row_pitch, row_stride = call.row_map, call.row_step, call.x_row, call.row_stride
    one = splat(spec, 1.0)
    block_rows = call.block_rows
    for index in range(first, min(first + call.planes_per_task, call.planes)):
        plane = call.x + (image * call.x_batch + channel * call.x_channel)
        weights, biases = one, one
        if call.finish == SCALE:
            weights, biases = splat(spec, call.weights[channel]), splat(spec, call.bias[channel])
        out = call.out + index * call.out_rows * columns
        for block in range(first_row, end_row, block_rows):
            for q in range(0, columns, lanes):
                mask = range_mask(spec, 0, columns - q)
                start = q * stride - call.pad_left
                divisors = one
                if call.finish == DIVIDE:
                    divisors = masked_load(spec, call.column_divisor + q, mask, one)
                for row in range(block, min(block + block_rows, end_row)):
                    rows = row_map + row * row_stride
                    total = _window(spec, plane, rows, row_step, row_pitch, width, start, power)
                    row_divisors = splat(spec, call.row_divisor[row])
                    value = finish(spec, call, total, row_divisors, divisors, weights, biases, power)
                    masked_store(spec, out + (row * columns + q), value, mask)
        channel += 1
        if channel == call.channels:
            channel = 0
            image += 1
