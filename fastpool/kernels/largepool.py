"""Pooling with large windows at column stride 1 or 2, at a cost that hardly depends on the window.

First down the columns (van Herk, Gil and Werman): a group of output rows, all of whose windows have a row in common.
From there upwards suffixes of what is above are kept in a buffer, from there downwards prefixes run in registers: two
combinations for each input row and one for each output row, however high the window. Then along each row of the
buffer, in registers: windows of 1 column become such of 2, 4, 8 ... up to a vector, by shifts over the border to the
vector before; where windows are of several vectors they go on doubling, vector by vector, through a line in the
cache. What is left is to combine two of these for an extremum, which may see an element twice; for a sum those whose
widths add up to the window's.

A sum is one of elements of its own window only: nothing is subtracted, nothing drifts, and no infinity leaks.

Nothing tests for padding: rows outside the input are left out by counts that the plan has made, and columns outside
are neutral elements in the buffer. NaN is only looked for, see `careful`.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device, quickly
from fastpool.kernels.calls import field_ir
from fastpool.kernels.careful import any_lane, combine_fast_ir, either, either_nan_ir, may_lose, no_lanes
from fastpool.kernels.columns import stride_of
from fastpool.kernels.pool import neutral, prepare_ir
from fastpool.kernels.simd import (
    I64,
    keep_rolled,
    known,
    lanes_of,
    load,
    masked_load,
    range_mask,
    scalar,
    splat,
    store,
    vectors_of,
    width_of,
)
from fastpool.kernels.stores import masked_store, masked_store_ir
from fastpool.routines.largepool import ROWS, overlaps
from fastpool.routines.pool import DIVIDE, SCALE, loses_nan, neutral_of, operation_of


def _is_fused(spec):
    """Whether prefixes are made a row at a time, along with its windows: where each output row has one more."""
    return "step 1 " in spec.variant


def _rows_of(spec):
    """Output rows that are done together: their prefixes are then loaded and stored once."""
    return ROWS if _is_fused(spec) else 1


def _levels(spec):
    """How often windows are doubled in registers."""
    return spec.width.bit_length() - 1


def _vector(spec):
    return simd.Vector(spec.dtype, spec.lanes)


def _each(builder, packed):
    return [builder.extract_value(packed, i) for i in range(packed.type.count)]


@known
def _overlapping(spec):
    return overlaps(operation_of(spec))


@known
def _fused(spec):
    return _is_fused(spec)


@known
def _rows(spec):
    return _rows_of(spec)


@intrinsic
def _neighbours(typingctx, spec, value):
    """So many times that vector as are taken down the columns together."""
    result = types.UniTuple(value, spec.vectors)

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, result, [args[1]] * spec.vectors)

    return result(spec, value), codegen


@intrinsic
def _inside(typingctx, spec, masks):
    """Masks of neighbouring vectors, from a table of words."""
    result = types.UniTuple(simd.Mask(spec.lanes), spec.vectors)

    def codegen(context, builder, sig, args):
        found = [simd.mask_word_ir(builder, args[1], I64(i), spec.lanes) for i in range(spec.vectors)]
        return context.make_tuple(builder, result, found)

    return result(spec, masks), codegen


@intrinsic
def _with_row(typingctx, spec, totals, found, row, masks, fill, power):
    """Neighbouring vectors of a row combined with what was above or below, and lanes where there is or was a NaN."""
    result = types.Tuple([totals, found])

    def codegen(context, builder, sig, args):
        _, totals, found, row, masks, fill, power = args
        source = simd.source_of(spec)
        loaded = [
            simd.widening_load_ir(builder, spec, source, builder.gep(row, [I64(i * spec.lanes)]), mask, fill)
            for i, mask in enumerate(_each(builder, masks))
        ]
        found = either_nan_ir(builder, spec, found, loaded)
        combined = [
            combine_fast_ir(builder, spec, total, prepare_ir(builder, spec, value, power))
            for total, value in zip(_each(builder, totals), loaded, strict=True)
        ]
        totals = context.make_tuple(builder, sig.args[1], combined)
        return context.make_tuple(builder, result, [totals, found])

    return result(spec, totals, found, row, masks, fill, power), codegen


@intrinsic
def _put(typingctx, spec, place, totals, merging):
    """Store neighbouring vectors, combined with what is stored where they are `merging`."""

    def codegen(context, builder, sig, args):
        _, place, totals, merging = args
        values = _each(builder, totals)
        places = [builder.gep(place, [I64(i * spec.lanes)]) for i in range(len(values))]
        with builder.if_else(merging) as (together, alone):
            with together:
                for at, value in zip(places, values, strict=True):
                    kept = simd.load_ir(builder, at, simd.vector_ir(spec), spec.size)
                    simd.store_ir(builder, combine_fast_ir(builder, spec, kept, value), at, spec.size)
            with alone:
                for at, value in zip(places, values, strict=True):
                    simd.store_ir(builder, value, at, spec.size)
        return context.get_dummy_value()

    return types.void(spec, place, totals, types.boolean), codegen


@device
def _down(spec, call, row, x_row, masks, loads, counts, step, rows, place, pitch, merging):
    """Suffixes or prefixes of each column of a strip, to some rows of the buffer; lanes where there is a NaN."""
    lanes, together = lanes_of(spec), vectors_of(spec)
    power, fill = scalar(spec, call.power), splat(spec, neutral(spec))
    nothing, found = _neighbours(spec, fill), no_lanes(spec)
    for v in range(0, loads, together):
        inside = _inside(spec, masks + v)
        total, at, to = nothing, row + v * lanes, place + v * lanes
        for i in range(rows):
            for _ in range(counts[i * step]):
                keep_rolled()
                total, found = _with_row(spec, total, found, at, inside, fill, power)
                at = at + x_row
            _put(spec, to, total, merging)
            to = to + pitch
    return found


@intrinsic
def _no_windows(typingctx, spec, value):
    """Windows of each width before the first column, for each of the rows that are done together."""
    result = types.UniTuple(value, _rows_of(spec) * (_levels(spec) + 1))

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, result, [args[1]] * result.count)

    return result(spec, value), codegen


def _doubled_ir(builder, spec, before, value):
    """Windows of 1, 2, 4 ... columns that end in each lane, from those of the vector before and the next columns."""
    windows, lanes = [value], spec.lanes
    for level, past in enumerate(before[:-1]):
        here, by = windows[-1], 1 << level
        shifted = simd.shuffle_ir(builder, past, here, range(lanes - by, 2 * lanes - by))
        windows.append(combine_fast_ir(builder, spec, here, shifted))
    return windows


@intrinsic
def _next_columns(typingctx, spec, call, before, found, sources, column, mask, fill, power, kept, prefixes, line):
    """Go on by a vector of columns in each of some rows: down the columns, where that is not done, and along.

    The widest windows are stored to the rows' lines; of a sum those of each width, to lines of their own.
    """
    result = types.Tuple([before, found])

    def codegen(context, builder, sig, args):
        _, call, before, found, sources, column, mask, fill, power, kept, prefixes, line = args
        rows, vector = _rows_of(spec), simd.vector_ir(spec)
        pitch, row_lines, line_pitch = (
            field_ir(context, builder, sig.args[1], call, name) for name in ("pitch", "row_lines", "line_pitch")
        )
        places = [builder.gep(kept, [builder.mul(pitch, I64(row))]) for row in range(rows)]
        values = [simd.load_ir(builder, place, vector, spec.size) for place in places]
        if _is_fused(spec):
            inside = simd.mask_word_ir(builder, mask, I64(0), spec.lanes)
            loaded = [
                simd.widening_load_ir(builder, spec, simd.source_of(spec), builder.gep(source, [column]), inside, fill)
                for source in _each(builder, sources)
            ]
            found = either_nan_ir(builder, spec, found, loaded)
            prefix = simd.load_ir(builder, prefixes, vector, spec.size)
            for row, value in enumerate(loaded):
                prefix = combine_fast_ir(builder, spec, prefix, prepare_ir(builder, spec, value, power))
                values[row] = combine_fast_ir(builder, spec, values[row], prefix)
            simd.store_ir(builder, prefix, prefixes, spec.size)
        past, after = _each(builder, before), []
        count = _levels(spec) + 1
        for row, value in enumerate(values):
            windows = _doubled_ir(builder, spec, past[row * count : (row + 1) * count], value)
            after += windows
            place = builder.gep(line, [builder.mul(row_lines, I64(row))])
            for level, wide in enumerate(windows[-1:] if overlaps(operation_of(spec)) else windows):
                simd.store_ir(builder, wide, builder.gep(place, [builder.mul(line_pitch, I64(level))]), spec.size)
        after = context.make_tuple(builder, sig.args[2], after)
        return context.make_tuple(builder, result, [after, found])

    return result(spec, call, before, found, sources, types.intp, mask, fill, power, kept, prefixes, line), codegen


@intrinsic
def _sources(typingctx, spec, row, pitch, outside, above, left, is_first):
    """Pointers to the last input rows that the windows of some output rows see, of which so many are left.

    The first output row of a group has seen its last row among the suffixes.
    """
    result = types.UniTuple(row, _rows_of(spec))

    def codegen(context, builder, sig, args):
        _, row, pitch, outside, above, left, is_first = args
        found = []
        for index in range(result.count):
            exists = builder.icmp_signed("<", I64(index), left)
            exists = builder.and_(exists, builder.icmp_signed(">=", I64(index), above))
            if index == 0:
                exists = builder.and_(exists, builder.not_(is_first))
            place = builder.gep(row, [builder.mul(pitch, I64(index))])
            found.append(builder.select(exists, place, outside))
        return context.make_tuple(builder, result, found)

    return result(spec, row, types.intp, outside, types.intp, types.intp, types.boolean), codegen


def _winner(spec):
    """Infinity that an extremum prefers to all else."""
    return float("-inf" if operation_of(spec) == "min" else "inf")


@intrinsic
def _marked(typingctx, spec, value):
    """Infinity that wins where there is a NaN, else what loses to all."""

    def codegen(context, builder, sig, args):
        kind = args[1].type
        if not loses_nan(spec):
            return args[1]
        wins, loses = (ir.Constant(kind, [number] * spec.lanes) for number in (_winner(spec), neutral_of(spec)))
        return builder.select(builder.fcmp_unordered("uno", args[1], args[1]), wins, loses)

    return value(spec, value), codegen


@intrinsic
def _spoil(typingctx, spec, out, marks, inside):
    """Write NaN where a window saw a mark."""

    def codegen(context, builder, sig, args):
        _, out, marks, inside = args
        if loses_nan(spec):
            wins, nan = (ir.Constant(marks.type, [number] * spec.lanes) for number in (_winner(spec), float("nan")))
            mask = builder.and_(inside, builder.fcmp_ordered("==", marks, wins))
            masked_store_ir(builder, simd.stored_ir(builder, sig.args[1], nan), out, mask, sig.args[1].size, True)
        return context.get_dummy_value()

    return types.void(spec, out, marks, inside), codegen


def _pointer_to(dtype_of):
    @intrinsic
    def pointer(typingctx, spec, place):
        result = simd.Pointer(dtype_of(spec))

        def codegen(context, builder, sig, args):
            return builder.bitcast(args[1], context.get_value_type(result))

        return result(spec, place), codegen

    return pointer


#: Scratch as what is read, and as what is written.
_as_source, _as_result = _pointer_to(simd.source_of), _pointer_to(simd.result_of)


@intrinsic
def _mask(typingctx, spec, masks):
    """Mask from a table of words."""
    codegen = lambda context, builder, sig, args: simd.mask_word_ir(builder, args[1], I64(0), spec.lanes)  # noqa: E731
    return simd.Mask(spec.lanes)(spec, masks), codegen


@known
def _lines_in_registers(spec):
    """Lines that `_keep` writes."""
    count = 1 if overlaps(operation_of(spec)) else _levels(spec) + 1
    return count


@intrinsic
def _doubled(typingctx, spec, place, back, ahead):
    """Combine a vector of a line with one that far before it, and store it to the next line."""

    def codegen(context, builder, sig, args):
        _, place, back, ahead = args
        past = builder.gep(place, [builder.neg(back)])
        values = [simd.load_ir(builder, at, simd.vector_ir(spec), spec.size) for at in (place, past)]
        simd.store_ir(builder, combine_fast_ir(builder, spec, *values), builder.gep(place, [ahead]), spec.size)
        return context.get_dummy_value()

    return types.void(spec, place, types.intp, types.intp), codegen


@intrinsic
def _windows(typingctx, spec, line, offsets, terms):
    """Windows of a vector of outputs, the first of which begins at `line`: what is at `terms` offsets from there."""

    def codegen(context, builder, sig, args):
        _, line, offsets, terms = args
        stride, lanes = stride_of(spec), spec.lanes

        def seen(term):
            at = builder.gep(line, [builder.load(builder.gep(offsets, [term]), align=8)])
            places = [builder.gep(at, [I64(part * lanes)]) for part in range(stride)]
            return [simd.load_ir(builder, place, simd.vector_ir(spec), spec.size) for place in places]

        def both(kept, new):
            return [combine_fast_ir(builder, spec, *pair) for pair in zip(kept, new, strict=True)]

        total = seen(I64(0))
        if overlaps(operation_of(spec)):
            total = both(total, seen(I64(1)))
        else:
            kept = [cgutils.alloca_once_value(builder, value) for value in total]  # which become registers
            with cgutils.for_range(builder, terms, start=I64(1)) as loop:
                for place, value in zip(kept, both(map(builder.load, kept), seen(loop.index)), strict=True):
                    builder.store(value, place)
            total = [builder.load(place) for place in kept]
        return total[0] if stride == 1 else simd.shuffle_ir(builder, *total, range(0, 2 * lanes, 2))

    return _vector(spec)(spec, line, offsets, types.intp), codegen


@known
def _step(spec):
    """Columns from one vector of outputs to the next."""
    return spec.lanes * stride_of(spec)


@intrinsic
def _finished(typingctx, spec, value, code, rows, columns, weights, biases):
    """What an output is made of a sum; extrema stay as they are."""

    def codegen(context, builder, sig, args):
        _, value, code, rows, columns, weights, biases = args
        operation = operation_of(spec)
        if operation == "squaresum":
            return simd.call_ir(builder, "sqrt", value)
        if operation != "sum" or isinstance(spec.dtype, types.Integer):
            return value
        found = cgutils.alloca_once_value(builder, value)
        with builder.if_then(builder.icmp_signed("==", code, I64(DIVIDE))):
            builder.store(builder.fdiv(value, builder.fmul(rows, columns)), found)
        with builder.if_then(builder.icmp_signed("==", code, I64(SCALE))):
            builder.store(builder.fadd(builder.fmul(value, weights), biases), found)
        return builder.load(found)

    return value(spec, value, code, rows, columns, weights, biases), codegen


@device
def _along(spec, call, line, shift, out, first, columns, row_divisor, weight, bias):
    """One row of outputs of a strip, from the windows in its lines."""
    lanes, line_pitch = lanes_of(spec), call.line_pitch
    widest, past, end = line + (_lines_in_registers(spec) - 1) * line_pitch, width_of(spec), call.vectors * lanes
    for _ in range(call.doublings):
        keep_rolled()
        for c in range(0, end, lanes):
            keep_rolled()
            _doubled(spec, widest + c, past, line_pitch)
        widest = widest + line_pitch
        past = 2 * past
    row_divisors, weights, biases = splat(spec, row_divisor), splat(spec, weight), splat(spec, bias)
    offsets, terms, code, step = call.term_offsets, call.terms, call.finish, _step(spec)
    window, divisors, rest = line + shift, call.column_divisor + first, range_mask(spec, 0, columns % lanes)
    for q in range(0, columns, lanes):
        keep_rolled()
        value = _windows(spec, window, offsets, terms)
        value = _finished(spec, value, code, row_divisors, load(spec, divisors + q), weights, biases)
        if q + lanes <= columns:
            store(spec, out + q, value)
        else:
            masked_store(spec, out + q, value, rest)
        window = window + step


@device
def _clear(spec, call, loads, buffer):
    """Neutral elements where the input has no columns, and before the lines."""
    lanes, fill, line = lanes_of(spec), splat(spec, neutral(spec)), buffer + call.line_start
    for row in range(call.prefix_row // call.pitch):
        for c in range(loads * lanes, call.vectors * lanes, lanes):
            keep_rolled()
            store(spec, buffer + (row * call.pitch + c), fill)
    for index in range(_rows(spec) * call.lines):
        for c in range(0, call.lead, lanes):
            keep_rolled()
            store(spec, line + (index * call.line_pitch + c), fill)


@device
def _pool_group(spec, call, source, x_row, out, out_pitch, group, strip, buffer, weight, bias):
    """Some output rows of a strip, without NaN; whether there is any."""
    lanes, vectors, pitch, loads = lanes_of(spec), call.vectors, call.pitch, call.strip_loads[strip]
    first_column, columns = call.strip_first[strip], call.strip_first[strip + 1] - call.strip_first[strip]
    masks, shift = call.load_masks + strip * call.mask_words, call.strip_shift[strip]
    first, end, together = call.group_first[group], call.group_first[group + 1], _rows(spec)
    bottom, rows = source + call.suffix_start[group] * x_row, end - first
    counts, place = call.suffix_rows + (end - 1), buffer + (rows - 1) * pitch
    found = _down(spec, call, bottom, -x_row, masks, loads, counts, -1, rows, place, -pitch, False)
    prefixes, line = buffer + call.prefix_row, buffer + (call.line_start + call.lead)
    power, fill = scalar(spec, call.power), splat(spec, neutral(spec))
    if _fused(spec):
        for c in range(0, vectors * lanes, lanes):
            keep_rolled()
            store(spec, prefixes + c, fill)
    else:
        counts, place = call.prefix_rows + (first + 1), buffer + pitch
        below = _down(spec, call, bottom + x_row, x_row, masks, loads, counts, 1, rows - 1, place, pitch, True)
        found = either(found, below)
    for o in range(first, end, together):
        last, row = o + call.last_row, buffer + (o - first) * pitch
        sources = _sources(spec, source + last * x_row, x_row, call.outside, -last, call.height - last, o == first)
        before = _no_windows(spec, fill)
        for v in range(vectors):
            keep_rolled()
            c = v * lanes
            before, found = _next_columns(
                spec, call, before, found, sources, c, masks + v, fill, power, row + c, prefixes + c, line + c
            )
        for i in range(min(together, end - o)):
            keep_rolled()
            to, lines = out + ((o + i - first) * out_pitch), line + i * call.row_lines
            _along(spec, call, lines, shift, to, first_column, columns, call.row_divisor[o + i], weight, bias)
    return any_lane(found)


@device
def _pool_marks(spec, call, source, x_row, out, out_pitch, group, strip, buffer):
    """Put NaN wherever a window sees one: where pooling finds marks in place of them."""
    lanes, pitch, loads = lanes_of(spec), call.pitch, call.strip_loads[strip]
    first, end = call.group_first[group], call.group_first[group + 1]
    columns = call.strip_first[strip + 1] - call.strip_first[strip]
    masks, fill = call.load_masks + strip * call.mask_words, splat(spec, neutral(spec))
    top = max(0, first * call.row_stride + call.last_row + 1 - call.kernel_rows)
    below = min(call.height, (end - 1) * call.row_stride + call.last_row + 1)
    one, marks = scalar(spec, 1.0), _as_source(spec, buffer + call.marks)
    found = _as_result(spec, buffer + call.found)
    for row in range(top, below):
        for v in range(loads):
            keep_rolled()
            values = masked_load(spec, source + (row * x_row + v * lanes), _mask(spec, masks + v), fill)
            store(spec, marks + ((row - top) * pitch + v * lanes), _marked(spec, values))
    _pool_group(spec, call, marks + -top * pitch, pitch, found, pitch, group, strip, buffer, one, one)
    for row in range(end - first):
        for q in range(0, columns, lanes):
            keep_rolled()
            inside = range_mask(spec, 0, columns - q)
            seen = masked_load(spec, found + (row * pitch + q), inside, fill)
            _spoil(spec, out + (row * out_pitch + q), seen, inside)


@quickly
def large_pool(call, task, thread):
    """Some groups of output rows, of a strip of the columns of a plane, or of some planes."""
    simd.align_stack()
    spec = call.spec
    strip, rest = task % call.strips, task // call.strips
    group_task, plane_task = rest % call.group_tasks, rest // call.group_tasks
    first = plane_task * call.planes_per_task
    buffer, columns = call.scratch + thread * call.scratch_thread, call.out_columns
    _clear(spec, call, call.strip_loads[strip], buffer)
    weight, bias = scalar(spec, 1.0), scalar(spec, 0.0)
    for index in range(first, min(first + call.planes_per_task, call.planes)):
        image, channel = index // call.channels, index % call.channels
        source = call.x + (image * call.x_batch + channel * call.x_channel + call.strip_input[strip])
        if call.finish == SCALE:
            weight, bias = call.weights[channel], call.bias[channel]
        for group in range(
            group_task * call.groups // call.group_tasks, (group_task + 1) * call.groups // call.group_tasks
        ):
            row = index * call.out_rows + call.group_first[group]
            out = call.out + (row * columns + call.strip_first[strip])
            lost = _pool_group(spec, call, source, call.x_row, out, columns, group, strip, buffer, weight, bias)
            if may_lose(spec) and lost:
                _pool_marks(spec, call, source, call.x_row, out, columns, group, strip, buffer)
