"""Rows of input taken apart into the phases of their columns: how `pack` moves its elements.

At a stride that is a power of two, up to 4, whole vectors are loaded and taken apart into even and odd lanes, as often
as it takes; at any other, and where neighbours do not lie beside each other, element follows element. Each spec has the
code of its own stride only, and all of it is emitted here at once: that takes a third of the time to compile.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.calls import field_ir
from fastpool.kernels.elements import I64, element, widen_ir

#: Vectors between what is packed and what is fetched for writing: other cores have read the packed input since.
_AHEAD = 6


def _stride_of(spec):
    """Stride at which vectors are taken apart; 0 where elements are packed one by one."""
    words = spec.variant.split()
    return int(words[1]) if words[:1] == ["stride"] else 0


def _phases_ir(builder, vectors):
    """Lanes of some vectors behind each other, sorted by their number modulo the number of vectors: one vector each."""
    if len(vectors) == 1:
        return vectors
    lanes = vectors[0].type.count
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    halves = [
        _phases_ir(builder, [simd.shuffle_ir(builder, *pair, range(odd, 2 * lanes, 2)) for pair in pairs])
        for odd in (0, 1)
    ]
    return [phase for pair in zip(*halves, strict=True) for phase in pair]


def _vectors_ir(builder, spec, kind, stride, row, exists, first, width, line, columns, places):
    """Pack vector by vector; `places` are where the phases begin in the line, and whether they are packed."""
    lanes, vector = spec.lanes, simd.vector_ir(spec)
    nothing, whole_mask = ir.Constant(vector, None), simd.range_mask_ir
    steps = [I64(i * lanes) for i in range(stride)]

    def masks(at, width, count):
        begins = [builder.add(at, step) for step in steps]
        return [
            *(whole_mask(builder, builder.neg(begin), builder.sub(width, begin), lanes) for begin in begins),
            whole_mask(builder, I64(0), count, lanes),
        ]

    def store(q, vectors, mask):
        for value, (place, is_packed) in zip(_phases_ir(builder, vectors), places, strict=True):

            def write(value=value, place=place):
                target = builder.gep(place, [q])
                simd.prefetch_ir(builder, builder.gep(target, [I64(_AHEAD * lanes)]), to_write=True)
                if mask is None:
                    simd.store_ir(builder, value, target, spec.size)
                else:
                    simd.masked_store_ir(builder, value, target, mask, spec.size)

            if is_packed is None:
                write()
            else:
                with builder.if_then(is_packed):
                    write()

    # Masks of the first vector are the same in all rows: a short row has no other, and they would take longer to make
    # than the row to copy.
    begin = masks(first, width, columns)
    is_first_known = exists
    width = builder.select(exists, width, I64(0))  # of a row of zeros nothing is loaded
    with cgutils.for_range_slice(builder, I64(0), columns, I64(lanes), I64) as (q, _):
        at = builder.add(first, builder.mul(q, I64(stride)))
        end, stored = builder.add(at, I64(stride * lanes)), builder.add(q, I64(lanes))
        is_whole = builder.and_(builder.icmp_signed(">=", at, I64(0)), builder.icmp_signed("<=", end, width))
        is_whole = builder.and_(is_whole, builder.icmp_signed("<=", stored, columns))
        with builder.if_else(is_whole, likely=True) as (whole, part):
            with whole:
                narrow = ir.VectorType(element(kind), lanes)
                loaded = [
                    simd.load_ir(builder, builder.gep(row, [builder.add(at, step)]), narrow, kind.bitwidth // 8)
                    for step in steps
                ]
                store(q, [widen_ir(builder, value, kind, spec.dtype) for value in loaded], None)
            with part:
                is_begin = builder.and_(is_first_known, builder.icmp_signed("==", q, I64(0)))
                before = builder.block
                with builder.if_then(builder.not_(is_begin)):
                    made, after = masks(at, width, builder.sub(columns, q)), builder.block
                chosen = []
                for known, new in zip(begin, made, strict=True):
                    mask = builder.phi(known.type)
                    mask.add_incoming(known, before)
                    mask.add_incoming(new, after)
                    chosen.append(mask)
                loaded = [
                    simd.widening_load_ir(builder, spec, kind, builder.gep(row, [builder.add(at, step)]), mask, nothing)
                    for step, mask in zip(steps, chosen, strict=False)
                ]
                store(q, loaded, chosen[-1])


def _elements_ir(builder, spec, kind, row, exists, first, width, line, columns, pitch, fields):
    """Pack element by element."""
    stride, step = fields["stride_column"], fields["x_column"]
    width = builder.select(exists, width, I64(0))
    zero = ir.Constant(element(spec.dtype), None if simd._of_integers(element(spec.dtype)) else 0.0)
    with cgutils.for_range(builder, fields["column_phase_count"]) as phase:
        place = builder.gep(line, [builder.mul(phase.index, pitch)])
        begin = builder.add(first, builder.load(builder.gep(fields["column_phases"], [phase.index]), align=8))
        with cgutils.for_range(builder, columns) as column:
            at = builder.add(begin, builder.mul(column.index, stride))
            before = builder.block
            with builder.if_then(builder.icmp_unsigned("<", at, width)):
                found = builder.load(builder.gep(row, [builder.mul(at, step)]), align=kind.bitwidth // 8)
                found, after = widen_ir(builder, found, kind, spec.dtype), builder.block
            value = builder.phi(zero.type)
            value.add_incoming(zero, before)
            value.add_incoming(found, after)
            builder.store(value, builder.gep(place, [column.index]), align=spec.size)


@intrinsic
def pack_row(typingctx, call, row, exists, first, width, line, columns, pitch):
    """Pack a row of `width` elements from element `first` on, or a row of zeros where there is none.

    The phases of its columns, `columns` elements each, are `pitch` apart, from `line` on.
    """
    spec = call.spec

    def codegen(context, builder, sig, args):
        block, row, exists, first, width, line, columns, pitch = args
        stride = _stride_of(spec)

        def field(name):
            return field_ir(context, builder, call, block, name)

        if not stride:
            names = ("stride_column", "x_column", "column_phase_count", "column_phases")
            fields = {name: field(name) for name in names}
            _elements_ir(builder, spec, row_type.dtype, row, exists, first, width, line, columns, pitch, fields)
            return context.get_dummy_value()
        places = [(line, None)]
        if stride > 1:
            table = field("column_places")
            numbers = [builder.load(builder.gep(table, [I64(k)]), align=8) for k in range(stride)]
            places = [
                (builder.gep(line, [builder.mul(number, pitch)]), builder.icmp_signed(">=", number, I64(0)))
                for number in numbers
            ]
        _vectors_ir(builder, spec, row_type.dtype, stride, row, exists, first, width, line, columns, places)
        return context.get_dummy_value()

    row_type, number = row, types.intp
    return types.void(call, row, types.boolean, number, number, line, number, number), codegen
