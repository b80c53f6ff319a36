"""Phases of a transposed convolution put together: outputs that are `stride` apart have been computed side by side.

At a stride that is a power of two, up to 8, a vector of each phase of a row is loaded, and as many are stored, their
lanes in turns; at any other, and where a phase sees no input, element follows element.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.calls import field_ir
from fastpool.kernels.simd import I64
from fastpool.kernels.stores import store_first_ir


def _stride_of(spec):
    """Stride at which vectors are put together; 0 where elements are."""
    words = spec.variant.split()
    return int(words[1]) if words else 0


def turns_ir(builder, vectors):
    """Lanes of some vectors in turns: lane 0 of each, lane 1 of each and so on, in as many vectors."""
    if len(vectors) == 1:
        return vectors
    lanes = vectors[0].type.count
    found = []
    for pair in zip(turns_ir(builder, vectors[::2]), turns_ir(builder, vectors[1::2]), strict=True):
        for half in (0, lanes // 2):
            order = [lane for i in range(half, half + lanes // 2) for lane in (i, i + lanes)]
            found.append(simd.shuffle_ir(builder, *pair, order))
    return found


def _vectors_ir(builder, spec, target, width, sources):
    """Put whole vectors together; what is loaded beyond the end of a phase is not stored."""
    stride, lanes, vector = len(sources), spec.lanes, simd.vector_ir(spec)

    def turns(at):
        loaded = [simd.load_ir(builder, builder.gep(source, [at]), vector, spec.size) for source in sources]
        return turns_ir(builder, loaded)

    last = builder.sub(width, I64(stride * lanes - 1))
    with cgutils.for_range_slice(builder, I64(0), last, I64(stride * lanes), I64) as (q, _):
        for number, value in enumerate(turns(builder.sdiv(q, I64(stride)))):
            simd.store_ir(builder, value, builder.gep(target, [builder.add(q, I64(number * lanes))]), spec.size)
    left = builder.srem(width, I64(stride * lanes))
    with builder.if_then(builder.icmp_signed(">", left, I64(0))):
        first = builder.sub(width, left)
        for number, value in enumerate(turns(builder.sdiv(first, I64(stride)))):
            begin = I64(number * lanes)
            place = builder.gep(target, [builder.add(first, begin)])
            store_first_ir(builder, value, place, builder.sub(left, begin), spec.size)


def _elements_ir(builder, spec, target, width, stride, source_of, exists_of, nothing):
    """Put element after element; `nothing` stands where a phase sees no input."""
    with cgutils.for_range(builder, stride) as phase:
        exists, source = exists_of(phase.index), source_of(phase.index)
        count = builder.sdiv(builder.add(builder.sub(width, phase.index), builder.sub(stride, I64(1))), stride)
        with cgutils.for_range(builder, count) as column:
            before = builder.block
            with builder.if_then(exists):
                found = builder.load(builder.gep(source, [column.index]), align=spec.size)
                after = builder.block
            value = builder.phi(nothing.type)
            value.add_incoming(nothing, before)
            value.add_incoming(found, after)
            at = builder.add(builder.mul(column.index, stride), phase.index)
            builder.store(value, builder.gep(target, [at]), align=spec.size)


def _row_ir(builder, spec, target, fields, source_of, exists_of, nothing):
    stride = _stride_of(spec)
    if stride:
        _vectors_ir(builder, spec, target, fields["width"], [source_of(I64(phase)) for phase in range(stride)])
    else:
        _elements_ir(builder, spec, target, fields["width"], fields["stride_column"], source_of, exists_of, nothing)


@intrinsic
def put_together(typingctx, call, first, group, at, target, nothing):
    """Write the row at `target`: of phases from number `first` on, in a group, what lies `at` elements in each."""

    def codegen(context, builder, sig, args):
        block, first, group, at, target, nothing = args
        names = ("scratch", "phase_begins", "phase_groups", "stride_column", "width")
        fields = {name: field_ir(context, builder, call, block, name) for name in names}
        begins, groups = (builder.gep(fields[name], [first]) for name in ("phase_begins", "phase_groups"))

        def word(table, phase):
            return builder.load(builder.gep(table, [phase]), align=8)

        def source_of(phase):
            place = builder.add(word(begins, phase), builder.mul(group, word(groups, phase)))
            return builder.gep(fields["scratch"], [builder.add(place, at)])

        def exists_of(phase):
            return builder.icmp_signed(">=", word(begins, phase), I64(0))

        _row_ir(builder, call.spec, target, fields, source_of, exists_of, nothing)
        return context.get_dummy_value()

    return types.void(call, types.intp, types.intp, types.intp, target, nothing), codegen


@intrinsic
def put_rows_together(typingctx, call, rows, pitch, target):
    """Write the row at `target`: its phases lie `pitch` apart from `rows` on."""

    def codegen(context, builder, sig, args):
        block, rows, pitch, target = args
        fields = {name: field_ir(context, builder, call, block, name) for name in ("stride_column", "width")}

        def source_of(phase):
            return builder.gep(rows, [builder.mul(phase, pitch)])

        nothing = ir.Constant(target.type.pointee, None)
        _row_ir(builder, call.spec, target, fields, source_of, lambda phase: simd.I1(1), nothing)
        return context.get_dummy_value()

    return types.void(call, rows, types.intp, target), codegen


def interleave(call, task, thread):
    """Some rows of one channel of an image, counted over its depths."""
    plane, share = task // call.row_tasks, task % call.row_tasks
    channels = call.groups * call.group_channels
    image, channel = plane // channels, plane % channels
    group, number = image * call.groups + channel // call.group_channels, channel % call.group_channels
    rows, lines, nothing = call.rows, call.depths * call.rows, call.bias[channel]
    target = call.out + (image * call.out_batch + channel * call.out_channel)
    for line in range(share * lines // call.row_tasks, (share + 1) * lines // call.row_tasks):
        depth, row = line // rows, line % rows
        phase = (depth % call.stride_depth * call.stride_row + row % call.stride_row) * call.stride_column
        at = depth // call.stride_depth * call.phase_depth + row // call.stride_row * call.phase_row
        begin = depth * call.out_depth + row * call.out_row
        put_together(call, phase, group, number * call.phase_channel + at, target + begin, nothing)
