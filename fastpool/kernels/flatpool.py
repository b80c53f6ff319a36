"""Extrema of small windows in maps with rows so short that several fill a vector; of integers.

Rows that touch are one run of memory: a vector is loaded from where its first row begins, as one of whole rows only.
Down the columns, rows of the outputs in it are combined with the vectors that begin one, two, ... rows below. Rows
outside the input are masked, each by a word of a table.

Along the columns, a vector is combined with itself in another order, which tables have: of a window that is partly
outside the row, the nearest column within takes the place of one that is not, as an extremum may see it twice. Windows
are doubled, a step to the left or to the right, until two of them are a window of an output: see `plans.flatpool`. The
orders of these two also bring outputs to where they are stored, whatever their stride and number.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.pool import combine_ir
from fastpool.kernels.simd import I64, lanes_of
from fastpool.kernels.smallpool import down_ir, group_of, group_rows, number_after
from fastpool.kernels.stores import masked_store_ir
from fastpool.routines.flatpool import doublings
from fastpool.routines.pool import neutral_of
from fastpool.routines.smallpool import rows_seen


def _is_in_place(spec):
    return spec.variant.endswith("in place")


def _orders_of(spec):
    """Orders that are looked up: of the doublings, and of the windows that are an output."""
    last = min(spec.width, 2) - _is_in_place(spec)
    return doublings(spec.width) + last


@intrinsic
def _orders(typingctx, spec, table):
    """Vectors of the table of orders."""
    result = types.UniTuple(simd.Vector(spec.dtype, spec.lanes), _orders_of(spec))

    def codegen(context, builder, sig, args):
        kind = simd.vector_ir(spec)
        places = [builder.gep(args[1], [I64(i * spec.lanes)]) for i in range(result.count)]
        found = [simd.load_ir(builder, place, kind, spec.size) for place in places]
        return context.make_tuple(builder, result, found)

    return result(spec, table), codegen


def _in_order_ir(builder, value, order):
    """Lanes of a vector in an order that is known at run time only."""
    name = {8: "qi", 16: "hi"}[value.type.element.width]
    kind = ir.FunctionType(value.type, [value.type, value.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.permvar.{name}.512")
    return builder.call(function, [value, order])


def _along_ir(builder, spec, value, orders):
    """Windows along the rows of a vector."""
    steps, *last = doublings(spec.width), *orders[doublings(spec.width) :]
    for order in orders[:steps]:
        value = combine_ir(builder, spec, value, _in_order_ir(builder, value, order))
    found = [_in_order_ir(builder, value, order) for order in last]
    if _is_in_place(spec):
        found.append(value)
    return combine_ir(builder, spec, *found) if len(found) == 2 else found[0]


@intrinsic
def _pool_group(typingctx, spec, first_row, row_pitch, masks, pitch, orders, out, out_pitch, stored, is_inner):
    """A group of vectors of outputs; an inner one may write beyond them what is written again."""
    group, step, one = group_of(spec), number_after(spec, "step"), types.intp

    def codegen(context, builder, sig, args):
        _, first_row, row_pitch, masks, pitch, orders, out, out_pitch, stored, is_inner = args
        orders = [builder.extract_value(orders, i) for i in range(_orders_of(spec))]
        kind = simd.vector_ir(spec)
        fill = ir.Constant(kind, [ir.Constant(kind.element, neutral_of(spec))] * spec.lanes)
        loaded = []
        for row in range(rows_seen(spec.vectors, group, step)):
            first = min(row // step, group - 1)  # vector of outputs that is the last to begin at or above
            place = builder.add(builder.mul(pitch, I64(first)), I64(row - first * step))
            source = builder.gep(first_row, [builder.mul(row_pitch, place)])
            inside = simd.mask_word_ir(builder, masks, place, spec.lanes)
            loaded.append(simd.masked_load_ir(builder, source, kind, inside, fill, spec.size))
        found = [_along_ir(builder, spec, value, orders) for value in down_ir(builder, spec, loaded)]
        places = [builder.gep(out, [builder.mul(out_pitch, I64(row))]) for row in range(group)]
        with builder.if_else(is_inner, likely=True) as (inner, outer):
            with inner:
                for place, value in zip(places, found, strict=True):
                    simd.store_ir(builder, value, place, spec.size)
            with outer:
                for row, (place, value) in enumerate(zip(places, found, strict=True)):
                    mask = simd.mask_word_ir(builder, stored, I64(row), spec.lanes)
                    masked_store_ir(builder, value, place, mask, spec.size)
        return context.get_dummy_value()

    return types.void(spec, first_row, one, masks, one, orders, out, one, stored, types.boolean), codegen


def flat_pool(call, task, thread):
    """Some vectors of outputs of one plane, or all of some planes; at least a group of them."""
    simd.align_stack()
    spec = call.spec
    group, vectors, channels = group_rows(spec), call.vectors, call.channels
    vector_task, plane_task = task % call.vector_tasks, task // call.vector_tasks
    first_vector = vector_task * vectors // call.vector_tasks
    last = (vector_task + 1) * vectors // call.vector_tasks - group
    first = plane_task * call.planes_per_task
    image, channel = first // channels, first % channels
    # Loaded here: what is read after a store is read again after the next, as it may have been written.
    x, x_batch, x_channel, out, out_vector = (
        call.x + call.first,
        call.x_batch,
        call.x_channel,
        call.out,
        call.out_vector,
    )
    row_pitch, pitch, masks, stored, out_plane = (
        call.x_row,
        call.vector_rows,
        call.row_masks,
        call.store_masks,
        call.out_plane,
    )
    orders = _orders(spec, call.orders)
    end = min(first + call.planes_per_task, call.planes)
    # Stores of whole vectors are faster than masked ones; they must not reach beyond what this task writes.
    inner = (end - 1) * out_plane + min((last + group) * out_vector, out_plane) - lanes_of(spec)
    for index in range(first, end):
        plane = x + (image * x_batch + channel * x_channel)
        vector = first_vector
        while True:
            row, place = vector * pitch, index * out_plane + vector * out_vector
            is_inner = place + (group - 1) * out_vector <= inner
            _pool_group(
                spec,
                plane + row * row_pitch,
                row_pitch,
                masks + row,
                pitch,
                orders,
                out + place,
                out_vector,
                stored + vector,
                is_inner,
            )
            if vector == last:
                break
            vector = min(vector + group, last)  # the last group may do some vectors again
        channel += 1
        if channel == channels:
            channel = 0
            image += 1
