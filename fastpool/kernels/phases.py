"""Rows of input taken apart into the phases of their columns: how `pack` moves its elements.

At most strides up to 16 whole vectors are loaded and taken apart into even and odd lanes as often as that can be, and
then lane by lane; at any other, and where neighbours do not lie beside each other, element follows element. Each spec
has the code of its own stride only, and all of it is emitted here at once: that takes a third of the time to compile.
"""

import contextlib

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.calls import field_ir
from fastpool.kernels.elements import I64, element, widen_ir
from fastpool.kernels.stores import store_first_ir
from fastpool.machine.processor import TARGET

#: Vectors between what is packed and what is fetched for writing: other cores have read the packed input since.
_AHEAD = 6


def _stride_of(spec):
    """Stride at which vectors are taken apart; 0 where elements are packed one by one."""
    words = spec.variant.split()
    return int(words[1]) if words[:1] == ["stride"] else 0


def phases_ir(builder, vectors):
    """Lanes of some vectors behind each other, sorted by their number modulo the number of vectors: one vector each."""
    if len(vectors) == 1:
        return vectors
    lanes, count = vectors[0].type.count, len(vectors)
    if count == 3 and lanes == 8 and TARGET.vector_bytes == 32:
        return _thirds_ir(builder, vectors)
    if count % 2:
        return [_phase_ir(builder, vectors, phase) for phase in range(count)]
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    halves = [
        phases_ir(builder, [simd.shuffle_ir(builder, *pair, range(odd, 2 * lanes, 2)) for pair in pairs])
        for odd in (0, 1)
    ]
    return [phase for pair in zip(*halves, strict=True) for phase in pair]


def _thirds_ir(builder, vectors):
    """The three phases of vectors of eight lanes, whose halves are put side by side first: both are then sorted alike.

    AVX2 sorts lanes of both halves at once by one instruction, if they stay in their half, and takes three otherwise.
    """

    def of(a, b, *half):
        """Lanes of the first halves of two vectors, numbered on from a's, and the same ones of the second halves."""
        places = [lane + lane // 4 * 4 for lane in half]
        return simd.shuffle_ir(builder, a, b, [*places, *(lane + 4 for lane in places)])

    first, second, third = vectors
    ahead = simd.shuffle_ir(builder, first, second, [0, 1, 2, 3, 12, 13, 14, 15])
    amid = simd.shuffle_ir(builder, first, third, [4, 5, 6, 7, 8, 9, 10, 11])
    behind = simd.shuffle_ir(builder, second, third, [0, 1, 2, 3, 12, 13, 14, 15])
    # Of elements 0 to 11 of a half, `ahead` has the first four, `amid` the next and `behind` the last.
    late, early = of(amid, behind, 2, 3, 5, 6), of(ahead, amid, 1, 2, 4, 5)
    return [of(ahead, late, 0, 3, 4, 6), of(early, late, 0, 2, 5, 7), of(early, behind, 1, 3, 4, 7)]


def _phase_ir(builder, vectors, phase):
    """Every so many-th lane of some vectors, from lane `phase` on, gathered from one vector after the other."""
    lanes, count = vectors[0].type.count, len(vectors)
    places = [divmod(phase + lane * count, lanes) for lane in range(lanes)]
    found = simd.shuffle_ir(builder, vectors[0], vectors[1], [min(at, 1) * lanes + lane for at, lane in places])
    for number, vector in enumerate(vectors[2:], 2):
        order = [lanes + lane if at == number else i for i, (at, lane) in enumerate(places)]
        found = simd.shuffle_ir(builder, found, vector, order)
    return found


def _vectors_ir(builder, spec, kind, stride, row, ahead, exists, first, width, columns, lines):
    """Pack vector by vector; `lines` are where each phase begins, and whether it is packed (None: it is).

    What lies `ahead` of the row is fetched.
    """
    lanes, vector = spec.lanes, simd.vector_ir(spec)
    nothing = ir.Constant(vector, None)

    def begins(at):
        return [builder.add(at, I64(i * lanes)) for i in range(stride)]

    def masks(at, width):
        return [simd.range_mask_ir(builder, builder.neg(i), builder.sub(width, i), lanes) for i in begins(at)]

    def store(q, vectors, count=None):
        for value, (line, is_packed) in zip(phases_ir(builder, vectors), lines, strict=True):
            with contextlib.nullcontext() if is_packed is None else builder.if_then(is_packed):
                target = builder.gep(line, [q])
                if count is None:
                    simd.prefetch_ir(builder, builder.gep(target, [I64(_AHEAD * lanes)]), to_write=True)
                    simd.store_ir(builder, value, target, spec.size)
                else:
                    store_first_ir(builder, value, target, count, spec.size)

    def fetch(at):
        per_line = 64 * 8 // kind.bitwidth
        for past in range(0, stride * lanes, per_line):
            place = builder.gep(row, [builder.add(builder.add(at, ahead), I64(past))])
            simd.prefetch_ir(builder, place)

    def copy_part(q, at, inside, count=None):
        fetch(at)
        rows = [builder.gep(row, [i]) for i in begins(at)]
        loaded = [
            simd.widening_load_ir(builder, spec, kind, place, mask, nothing)
            for place, mask in zip(rows, inside, strict=True)
        ]
        store(q, loaded, count)

    def masks_of_row(at):
        """Masks that are the same in all rows, and are made before them: it would take longer than a short row."""
        inside = masks(at, width)
        none = ir.Constant(inside[0].type, None)
        return [builder.select(exists, mask, none) for mask in inside]

    def place_of(q):
        return builder.add(first, builder.mul(q, I64(stride)))

    # The first vector may be the only one. The last one begins early enough to be whole.
    last = builder.sub(columns, I64(lanes))
    copy_part(I64(0), first, masks_of_row(first), columns)
    with cgutils.for_range_slice(builder, I64(lanes), last, I64(lanes), I64) as (q, _):
        at = place_of(q)
        is_whole = builder.and_(
            builder.icmp_signed(">=", at, I64(0)),
            builder.icmp_signed("<=", builder.add(at, I64(stride * lanes)), builder.select(exists, width, I64(0))),
        )
        with builder.if_else(is_whole, likely=True) as (whole, part):
            with whole:
                narrow, size = ir.VectorType(element(kind), lanes), kind.bitwidth // 8
                fetch(at)
                loaded = [simd.load_ir(builder, builder.gep(row, [i]), narrow, size) for i in begins(at)]
                store(q, [widen_ir(builder, value, kind, spec.dtype) for value in loaded])
            with part:
                copy_part(q, at, masks(at, builder.select(exists, width, I64(0))))
    with builder.if_then(builder.icmp_signed(">", last, I64(0)), likely=True):
        at = place_of(last)
        copy_part(last, at, masks_of_row(at))


def _elements_ir(builder, spec, kind, row, exists, first, width, line, columns, pitch, fields):
    """Pack element by element."""
    stride, step = fields["stride_column"], fields["x_column"]
    width = builder.select(exists, width, I64(0))
    zero = ir.Constant(element(spec.dtype), None)
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
def column_places(typingctx, call):
    """For each phase of the columns which one it is of those that are packed, or -1; () where vectors do not matter."""
    count = _stride_of(call.spec)

    def codegen(context, builder, sig, args):
        table = field_ir(context, builder, call, args[0], "column_places")
        places = [builder.load(builder.gep(table, [I64(k)]), align=8) for k in range(count)]
        return context.make_tuple(builder, sig.return_type, places)

    return types.UniTuple(types.intp, count)(call), codegen


@intrinsic
def pack_row(typingctx, call, row, exists, first, width, line, columns, pitch, places):
    """Pack a row of `width` elements from element `first` on, or a row of zeros where there is none.

    The phases of its columns, `columns` elements each, are `pitch` apart, from `line` on; `places` say which those are.
    """
    spec, kind = call.spec, row.dtype

    def codegen(context, builder, sig, args):
        block, row, exists, first, width, line, columns, pitch, places = args
        stride = _stride_of(spec)
        if not stride:
            names = ("stride_column", "x_column", "column_phase_count", "column_phases")
            fields = {name: field_ir(context, builder, call, block, name) for name in names}
            _elements_ir(builder, spec, kind, row, exists, first, width, line, columns, pitch, fields)
            return context.get_dummy_value()
        lines = [(line, None)]  # stride 1 has one phase
        if stride > 1:
            places = [builder.extract_value(places, k) for k in range(stride)]
            lines = [
                (builder.gep(line, [builder.mul(place, pitch)]), builder.icmp_signed(">=", place, I64(0)))
                for place in places
            ]
        ahead = field_ir(context, builder, call, block, "x_ahead")
        _vectors_ir(builder, spec, kind, stride, row, ahead, exists, first, width, columns, lines)
        return context.get_dummy_value()

    number = types.intp
    return types.void(call, row, types.boolean, number, number, line, number, number, places), codegen
