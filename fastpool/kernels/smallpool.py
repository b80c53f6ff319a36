"""Pooling with small windows at column stride 1 or 2: groups of output rows straight from the input, without a buffer.

A group is a few output rows, a vector of columns at a time. First down: each input row that the group sees is read
once, and rows that several windows share are combined once (van Herk's suffixes and prefixes, in registers). Then
along the columns: windows are shifts of what was combined, over the border to the next vector, which is why outputs
come one vector behind the input. At stride 2 even and odd columns are told apart first.

Nothing tests for padding. A row outside the input is a row of neutral elements elsewhere, columns outside are masked,
by masks that the plan has made. NaN would cost as much as the extrema themselves, which the processor's instructions
lose: it is only looked for, and rows in which there is one are done again with care.
"""

import functools

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device, quickly
from fastpool.kernels.careful import any_lane, combine_fast_ir, either, finish_code, may_lose, no_lanes, with_care
from fastpool.kernels.columns import stride_of
from fastpool.kernels.elements import element, widen_ir
from fastpool.kernels.pool import prepare_ir
from fastpool.kernels.simd import I64, known, lanes_of, load, splat
from fastpool.kernels.stores import masked_store_ir
from fastpool.routines.pool import DIVIDE, SCALE, SQUARE_ROOT, loses_nan, neutral_of, operation_of
from fastpool.routines.smallpool import NO_ROW, rows_seen


def number_after(spec, word):
    """Number that stands behind a word of the variant."""
    words = spec.variant.split()
    return int(words[words.index(word) + 1])


def group_of(spec):
    """Output rows of a group."""
    return number_after(spec, "rows")


def _lag_of(spec):
    """Vectors that outputs are behind the input: 1 where windows reach beyond a vector."""
    return int((spec.width - 1) // stride_of(spec) > 0)


def _vectors(spec):
    """Type of a vector for each output row of a group, and at stride 2 for even and for odd columns."""
    return types.UniTuple(simd.Vector(spec.dtype, spec.lanes), group_of(spec) * stride_of(spec))


def _outputs(spec):
    return types.UniTuple(simd.Vector(spec.dtype, spec.lanes), group_of(spec))


def _each(builder, packed):
    return [builder.extract_value(packed, i) for i in range(packed.type.count)]


@intrinsic
def _rows(typingctx, spec, plane, offsets, row_stride, row_pitch, outside):
    """Pointers to the input rows that a group sees."""
    group, step = group_of(spec), number_after(spec, "step")
    count = rows_seen(spec.vectors, group, step)
    above = [min(row // step, group - 1) for row in range(count)]  # output row that is the last to begin at or above

    def codegen(context, builder, sig, args):
        _, plane, offsets, row_stride, row_pitch, outside = args
        places = [
            builder.add(builder.mul(row_stride, I64(first)), I64(row - first * step)) for row, first in enumerate(above)
        ]

        def offset_of(row):
            return builder.load(builder.gep(offsets, [places[row]]), align=8)

        first, last = offset_of(0), offset_of(-1)
        is_inside = lambda offset: builder.icmp_signed("!=", offset, I64(NO_ROW))  # noqa: E731
        with builder.if_else(builder.and_(is_inside(first), is_inside(last))) as (inner, outer):
            with inner:  # rows are evenly apart
                top = builder.gep(plane, [first])
                pitch = [builder.gep(top, [builder.mul(row_pitch, place)]) for place in places]
                inner_end = builder.block
            with outer:
                picked = []
                for row in range(count):
                    offset = offset_of(row)
                    picked.append(builder.select(is_inside(offset), builder.gep(plane, [offset]), outside))
                outer_end = builder.block
        found = []
        for row in range(count):
            pointer = builder.phi(pitch[row].type)
            pointer.add_incoming(pitch[row], inner_end)
            pointer.add_incoming(picked[row], outer_end)
            found.append(pointer)
        return context.make_tuple(builder, sig.return_type, found)

    one = types.intp
    return types.UniTuple(plane, count)(spec, plane, offsets, one, one, outside), codegen


def down_ir(builder, spec, rows):
    """Windows down the columns: suffixes and prefixes of runs of rows as long as a window, each combined once."""
    size, step = spec.vectors, number_after(spec, "step")
    suffixes, prefixes = list(rows), list(rows)
    for row in reversed(range(len(rows) - 1)):
        if (row + 1) % size:
            suffixes[row] = combine_fast_ir(builder, spec, suffixes[row + 1], rows[row])
    for row in range(1, len(rows)):
        if row % size:
            prefixes[row] = combine_fast_ir(builder, spec, prefixes[row - 1], rows[row])
    found = []
    for first in range(0, group_of(spec) * step, step):
        total = suffixes[first]
        if first % size:
            total = combine_fast_ir(builder, spec, total, prefixes[first + size - 1])
        found.append(total)
    return found


def _whole_load_ir(builder, spec, source, pointer):
    """Load a whole vector of elements of type `source`, widened to those of `spec`."""
    narrow = ir.VectorType(element(source), spec.lanes)
    return widen_ir(builder, simd.load_ir(builder, pointer, narrow, source.bitwidth // 8), source, spec.dtype)


def _is_full_word_ir(builder, masks, index, lanes):
    """Whether a word of such a table has all lanes."""
    word = builder.load(builder.gep(masks, [index]), align=8)
    return builder.icmp_unsigned("==", word, I64((1 << lanes) - 1))


@intrinsic
def _columns(typingctx, spec, rows, column, masks, index):
    """Windows down one vector of columns (a pair at stride 2), and the lanes where there is a NaN."""
    vectors, mask = _vectors(spec), simd.Mask(spec.lanes)
    result = types.Tuple([vectors, mask])

    def codegen(context, builder, sig, args):
        _, rows, column, masks, index = args
        stride, source = stride_of(spec), simd.source_of(spec)
        kind = simd.vector_ir(spec)
        fill = ir.Constant(kind, [ir.Constant(kind.element, neutral_of(spec))] * spec.lanes)
        words = [builder.add(builder.mul(index, I64(stride)), I64(part)) for part in range(stride)]

        def combined(load):
            unordered, parts = ir.Constant(ir.VectorType(simd.I1, spec.lanes), None), []
            for part, word in enumerate(words):
                place = builder.add(column, I64(part * spec.lanes))
                loaded = load([builder.gep(row, [place]) for row in _each(builder, rows)], word)
                if loses_nan(spec):  # one comparison tells of two vectors whether either has a NaN
                    for a, b in zip(loaded[::2], [*loaded[1::2], loaded[-1]], strict=False):
                        unordered = builder.or_(unordered, builder.fcmp_unordered("uno", a, b))
                parts.append(down_ir(builder, spec, [prepare_ir(builder, spec, value, None) for value in loaded]))
            if stride == 2:
                pairs, lanes = list(zip(*parts, strict=True)), 2 * spec.lanes
                parts = [[simd.shuffle_ir(builder, *pair, range(odd, lanes, 2)) for pair in pairs] for odd in range(2)]
            return [*(value for part in parts for value in part), unordered]

        def within(places, word):
            inside = simd.mask_word_ir(builder, masks, word, spec.lanes)
            return [simd.widening_load_ir(builder, spec, source, place, inside, fill) for place in places]

        def whole(places, word):
            return [_whole_load_ir(builder, spec, source, place) for place in places]

        if simd.HAS_MASKS:
            *found, unordered = combined(within)
        else:
            are_full = [_is_full_word_ir(builder, masks, word, spec.lanes) for word in words]
            *found, unordered = simd.either_ir(
                builder, functools.reduce(builder.and_, are_full), lambda: combined(whole), lambda: combined(within)
            )
        return context.make_tuple(builder, result, [context.make_tuple(builder, vectors, found), unordered])

    return result(spec, rows, types.intp, masks, types.intp), codegen


def _shifted_ir(builder, pair, by):
    """Lanes from `by` on of a vector and the next."""
    lanes = pair[0].type.count
    return simd.shuffle_ir(builder, *pair, range(by, by + lanes)) if by else pair[0]


def _along_ir(builder, spec, pair, size):
    """Windows of `size` along a vector and the next: each column is a shift; of 7 and more, windows are doubled.

    What a shift of the next vector alone brings into its last lanes has no meaning, and is not reached by windows of
    up to a vector and one lane.
    """
    if size < 7:
        total = pair[0]
        for by in range(1, size):
            total = combine_fast_ir(builder, spec, total, _shifted_ir(builder, pair, by))
        return total
    doubled = {1: pair}  # windows by their size
    width = 1
    while 2 * width <= size:
        low, high = pair
        beyond = combine_fast_ir(builder, spec, high, _shifted_ir(builder, (high, high), width))
        pair = combine_fast_ir(builder, spec, low, _shifted_ir(builder, pair, width)), beyond
        width *= 2
        doubled[width] = pair
    total, seen = pair[0], width
    if operation_of(spec) in ("max", "min", "absmax", "all"):  # which may see an element twice
        return (
            combine_fast_ir(builder, spec, total, _shifted_ir(builder, pair, size - width)) if width < size else total
        )
    while seen < size:
        width = 1 << ((size - seen).bit_length() - 1)
        total = combine_fast_ir(builder, spec, total, _shifted_ir(builder, doubled[width], seen))
        seen += width
    return total


@intrinsic
def _windows(typingctx, spec, state, new):
    """Windows of one vector of outputs in each row of a group, from what was combined down this vector and the next."""

    def codegen(context, builder, sig, args):
        group, size = group_of(spec), spec.width
        state, new = (_each(builder, packed) for packed in args[1:])
        if not _lag_of(spec):
            state = new
        found = []
        for row in range(group):
            if stride_of(spec) == 1:
                found.append(_along_ir(builder, spec, (state[row], new[row]), size))
                continue
            even, odd = ((state[row + part * group], new[row + part * group]) for part in range(2))
            total = even[0]
            if size > 1:
                both = tuple(combine_fast_ir(builder, spec, *columns) for columns in zip(even, odd, strict=True))
                total = _along_ir(builder, spec, both, size // 2)
                if size % 2:
                    total = combine_fast_ir(builder, spec, total, _shifted_ir(builder, even, size // 2))
            found.append(total)
        return context.make_tuple(builder, sig.return_type, found)

    return _outputs(spec)(spec, state, new), codegen


def _finishing(emit):
    """Intrinsic ``(spec, values, first, second)`` that does to each output row what emit(builder, value, ...) does."""

    @intrinsic
    def finishing(typingctx, spec, values, first, second):
        def codegen(context, builder, sig, args):
            _, values, first, second = args
            if isinstance(spec.dtype, types.Integer):  # of which no means are taken
                return values
            done = [emit(builder, value, first, second) for value in _each(builder, values)]
            return context.make_tuple(builder, sig.return_type, done)

        return values(spec, values, first, second), codegen

    return finishing


@intrinsic
def _divided(typingctx, spec, values, rows, columns):
    """Values of each row of a group by its divisor, and by those of the columns."""

    def codegen(context, builder, sig, args):
        _, values, rows, columns = args
        if isinstance(spec.dtype, types.Integer):  # of which no means are taken
            return values
        done = []
        for row, value in enumerate(_each(builder, values)):
            divisor = builder.load(builder.gep(rows, [I64(row)]), align=spec.size)
            done.append(builder.fdiv(value, builder.fmul(simd.splat_ir(builder, divisor, spec.lanes), columns)))
        return context.make_tuple(builder, sig.return_type, done)

    return values(spec, values, rows, columns), codegen


_scaled = _finishing(lambda builder, value, weight, bias: simd.fma_ir(builder, value, weight, bias))
_rooted = _finishing(lambda builder, value, first, second: simd.call_ir(builder, "sqrt", value))


@intrinsic
def _store(typingctx, spec, out, columns, values, masks, index):
    """Write one vector of each row of a group."""

    def codegen(context, builder, sig, args):
        _, out, columns, values, masks, index = args
        mask = simd.mask_word_ir(builder, masks, index, spec.lanes)
        for row, value in enumerate(_each(builder, values)):
            place = builder.gep(out, [builder.mul(columns, I64(row))])
            masked_store_ir(builder, simd.stored_ir(builder, out_type, value), place, mask, out_type.size)
        return context.get_dummy_value()

    out_type = out
    return types.void(spec, out, columns, values, masks, index), codegen


@intrinsic
def _nothing(typingctx, spec):
    """Neutral elements, as `_columns` gives them."""

    def codegen(context, builder, sig, args):
        kind = simd.vector_ir(spec)
        fill = ir.Constant(kind, [ir.Constant(kind.element, neutral_of(spec))] * spec.lanes)
        return context.make_tuple(builder, sig.return_type, [fill] * sig.return_type.count)

    return _vectors(spec)(spec), codegen


@intrinsic
def _fetch(typingctx, spec, rows, column):
    """Bring near what lies at a vector of columns, beyond those rows that a group is the first to see."""

    def codegen(context, builder, sig, args):
        _, rows, column = args
        new = group_of(spec) * stride_of(spec)
        for row in _each(builder, rows)[-new:]:
            for further in range(0, spec.lanes * stride_of(spec), 64 // sig.args[1].dtype.size):
                simd.prefetch_ir(builder, builder.gep(row, [builder.add(column, I64(further))]))
        return context.get_dummy_value()

    return types.void(spec, rows, column), codegen


@known
def _lag(spec):
    return _lag_of(spec)


@known
def group_rows(spec):
    """Output rows of a group."""
    return group_of(spec)


@known
def _step(spec):
    return spec.lanes * stride_of(spec)


@device
def _pool_rows(spec, call, rows, row, out, weights, biases):
    """All columns of a group of output rows; whether NaN may have been lost."""
    lanes, lag, column, ahead = lanes_of(spec), _lag(spec), call.first_column, call.ahead
    stores, loads, columns, load_masks, store_masks = (
        call.stores,
        call.loads,
        call.out_columns,
        call.load_masks,
        call.store_masks,
    )
    divisors, row_divisors, finish = call.column_divisor, call.row_divisor + row, finish_code(spec, call.finish)
    state, found = _nothing(spec), no_lanes(spec)
    for t in range(stores + lag):
        new = _nothing(spec)
        if lag == 0 or t < loads:
            if ahead:
                _fetch(spec, rows, column + ahead)
            new, unordered = _columns(spec, rows, column, load_masks, t)
            found = either(found, unordered)
        column += _step(spec)
        if t >= lag:
            q = (t - lag) * lanes
            values = _windows(spec, state, new)
            if finish == DIVIDE:
                values = _divided(spec, values, row_divisors, load(spec, divisors + q))
            elif finish == SCALE:
                values = _scaled(spec, values, weights, biases)
            elif finish == SQUARE_ROOT:
                values = _rooted(spec, values, weights, biases)
            _store(spec, out + q, columns, values, store_masks, t - lag)
        state = new
    return any_lane(found)


@quickly
def small_pool(call, task, thread):
    """Some output rows of one plane, or all of some planes; at least a group of them."""
    simd.align_stack()
    spec = call.spec
    careful, group = with_care(spec), group_rows(spec)
    row_tasks, channels, columns, out_rows = call.row_tasks, call.channels, call.out_columns, call.out_rows
    row_task, plane_task = task % row_tasks, task // row_tasks
    first_row = row_task * out_rows // row_tasks
    last = (row_task + 1) * out_rows // row_tasks - group
    first = plane_task * call.planes_per_task
    image, channel = first // channels, first % channels
    row_stride, x_row = call.row_stride, call.x_row
    weights = biases = splat(spec, 1.0)
    for index in range(first, min(first + call.planes_per_task, call.planes)):
        plane = call.x + (image * call.x_batch + channel * call.x_channel)
        if call.finish == SCALE:
            weights, biases = splat(spec, call.weights[channel]), splat(spec, call.bias[channel])
        row = first_row
        while True:
            offsets = call.row_offsets + row * row_stride
            out = call.out + (index * out_rows + row) * columns
            rows = _rows(spec, plane, offsets, row_stride, x_row, call.outside)
            lost = _pool_rows(spec, call, rows, row, out, weights, biases)
            if may_lose(spec) and lost:
                rows = _rows(careful, plane, offsets, row_stride, x_row, call.outside)
                _pool_rows(careful, call, rows, row, out, weights, biases)
            if row == last:
                break
            row = min(row + group, last)  # the last group may do some rows again
        channel += 1
        if channel == channels:
            channel = 0
            image += 1
