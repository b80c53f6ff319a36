"""A matrix times a vector: each weight is read once, so that the memory sets the pace, and weights stay as they lie.

Where the weights of an output lie side by side ("rows"), several outputs are summed at a time, each over lanes that are
added up at the end. Where those of an input do ("columns"), lanes are outputs, and all sums of a task pass by for a few
inputs at a time. Rows may also be multiplied by a vector each ("dots").
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.simd import (
    I64,
    clamp,
    fma,
    known,
    lanes_of,
    load,
    masked_load,
    range_mask,
    splat,
    store,
    vectors_of,
    width_of,
)
from fastpool.kernels.stores import masked_store

#: Bytes of a cache line, and ahead of which weights are fetched: more than processors do by themselves.
_LINE = 64
_AHEAD = 1024


@known
def _is_by_rows(spec):
    """Whether the weights of an output lie side by side."""
    return spec.variant in ("rows", "dots")


def _starts(builder, spec, base, pitch, rows):
    """Where each row of a tile begins; rows from `rows` on repeat the last."""
    last = builder.sub(rows, I64(1))
    for row in range(spec.width):
        index = builder.select(builder.icmp_signed("<", I64(row), rows), I64(row), last)
        yield builder.gep(base, [builder.mul(index, pitch)])


@intrinsic
def _zeros(typingctx, spec):
    """A tile of sums."""
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(spec), codegen


@intrinsic
def _add_rows(typingctx, tile, x, x_row, weights, pitch, rows):
    """Add products of `vectors` vectors of x with as many of each row."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        tile, x, x_row, weights, pitch, rows = args
        vector = simd.vector_ir(spec)
        xs = _starts(builder, spec, x, x_row, rows) if spec.variant == "dots" else [x] * spec.width
        known = {}
        for row, (x_start, start) in enumerate(zip(xs, _starts(builder, spec, weights, pitch, rows), strict=True)):
            for line in range(0, spec.vectors * spec.lanes, _LINE // spec.size):
                simd.prefetch_ir(builder, builder.gep(start, [I64(_AHEAD // spec.size + line)]))
            for v in range(spec.vectors):
                if (x_start, v) not in known:
                    place = builder.gep(x_start, [I64(v * spec.lanes)])
                    known[x_start, v] = simd.load_ir(builder, place, vector, spec.size)
                place = builder.gep(start, [I64(v * spec.lanes)])
                weight = simd.load_ir(builder, place, vector, spec.size)
                number = v * spec.width + row
                total = simd.fma_ir(builder, weight, known[x_start, v], builder.extract_value(tile, number))
                tile = builder.insert_value(tile, total, number)
        return tile

    return tile(tile, x, types.intp, weights, types.intp, types.intp), codegen


@intrinsic
def _add_row_ends(typingctx, tile, x, x_row, weights, pitch, rows, mask):
    """Add products of the lanes in `mask` of one vector of x with one of each row."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        tile, x, x_row, weights, pitch, rows, mask = args
        vector = simd.vector_ir(spec)
        nothing = ir.Constant(vector, None)
        xs = _starts(builder, spec, x, x_row, rows) if spec.variant == "dots" else [x] * spec.width
        known = {}
        for row, (x_start, start) in enumerate(zip(xs, _starts(builder, spec, weights, pitch, rows), strict=True)):
            if x_start not in known:
                known[x_start] = simd.masked_load_ir(builder, x_start, vector, mask, nothing, spec.size)
            weight = simd.masked_load_ir(builder, start, vector, mask, nothing, spec.size)
            total = simd.fma_ir(builder, weight, known[x_start], builder.extract_value(tile, row))
            tile = builder.insert_value(tile, total, row)
        return tile

    return tile(tile, x, types.intp, weights, types.intp, types.intp, mask), codegen


@intrinsic
def _row_sums(typingctx, tile):
    """One lane for each row, the sum of its vectors' lanes, added in pairs; further lanes are 0."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        result = ir.Constant(simd.vector_ir(spec), None)
        for row in range(spec.width):
            total = builder.extract_value(args[0], row)
            for v in range(1, spec.vectors):
                total = builder.fadd(total, builder.extract_value(args[0], v * spec.width + row))
            count = spec.lanes
            while count > 1:
                count //= 2
                low = simd.shuffle_ir(builder, total, total, range(count))
                total = builder.fadd(low, simd.shuffle_ir(builder, total, total, range(count, 2 * count)))
            number = builder.extract_element(total, simd.I32(0))
            result = builder.insert_element(result, number, simd.I32(row))
        return result

    return simd.Vector(spec.dtype, spec.lanes)(tile), codegen


@intrinsic
def _add_columns(typingctx, spec, total, x, weights, pitch, mask):
    """Add products of `vectors` elements of x with one vector of as many rows of weights."""

    def codegen(context, builder, sig, args):
        _, total, x, weights, pitch, mask = args
        vector = simd.vector_ir(spec)
        for k in range(spec.vectors):
            value = simd.splat_ir(builder, builder.load(builder.gep(x, [I64(k)]), align=spec.size), spec.lanes)
            place = builder.gep(weights, [builder.mul(pitch, I64(k))])
            weight = simd.masked_load_ir(builder, place, vector, mask, ir.Constant(vector, None), spec.size)
            total = simd.fma_ir(builder, weight, value, total)
        return total

    return total(spec, total, x, weights, types.intp, mask), codegen


def gemv(call, task, thread):
    """Outputs of one task: sums, bias and bounds."""
    simd.align_stack()
    spec = call.spec
    lanes, inputs, pitch = lanes_of(spec), call.inputs, call.pitch
    nothing, low, high = splat(spec, 0.0), splat(spec, call.low), splat(spec, call.high)
    image = task // call.image_tasks
    first = (task - image * call.image_tasks) * call.outputs_per_task
    last = min(first + call.outputs_per_task, call.outputs)
    x, out = call.x + image * call.x_batch, call.out + image * call.out_batch
    if _is_by_rows(spec):
        step = vectors_of(spec) * lanes
        whole = inputs - inputs % step
        for output in range(first, last, width_of(spec)):
            rows = min(width_of(spec), last - output)
            weights, xs = call.weights + output * pitch, x + output * call.x_row
            sums = _zeros(spec)
            for k in range(0, whole, step):
                sums = _add_rows(sums, xs + k, call.x_row, weights + k, pitch, rows)
            for k in range(whole, inputs, lanes):
                mask = range_mask(spec, 0, inputs - k)
                sums = _add_row_ends(sums, xs + k, call.x_row, weights + k, pitch, rows, mask)
            mask = range_mask(spec, 0, rows)
            total = _row_sums(sums) + masked_load(spec, call.bias + output, mask, nothing)
            masked_store(spec, out + output, clamp(total, low, high), mask)
    else:
        step = vectors_of(spec)
        whole = inputs - inputs % step
        end = last - (last - first) % lanes
        everything, rest = range_mask(spec, 0, lanes), range_mask(spec, 0, last - end)
        for output in range(first, last, lanes):
            mask = everything if output < end else rest
            masked_store(spec, out + output, masked_load(spec, call.bias + output, mask, nothing), mask)
        # Sums stay in the level-1 cache, so that each row of weights is read in one go.
        for k in range(0, whole, step):
            for output in range(first, end, lanes):
                weights = call.weights + (k * pitch + output)
                store(
                    spec,
                    out + output,
                    _add_columns(spec, load(spec, out + output), x + k, weights, pitch, everything),
                )
            if end < last:
                total = masked_load(spec, out + end, rest, nothing)
                total = _add_columns(spec, total, x + k, call.weights + (k * pitch + end), pitch, rest)
                masked_store(spec, out + end, total, rest)
        for output in range(first, last, lanes):
            mask = everything if output < end else rest
            total = masked_load(spec, out + output, mask, nothing)
            for k in range(whole, inputs):
                weight = masked_load(spec, call.weights + (k * pitch + output), mask, nothing)
                total = fma(weight, splat(spec, x[k]), total)
            masked_store(spec, out + output, clamp(total, low, high), mask)
