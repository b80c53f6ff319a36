"""Packing: weights and input rows, laid out as the micro-kernels read them.

**Input, polyphase.** Output row o of an axis with stride s reads, for tap k, the padded row o*s + k*dilation. With the
padded rows sorted by phase (index modulo s), tap k reads row o + (k*dilation)//s of phase (k*dilation) % s: once
packed, stride and dilation are gone, and a tap is one offset into the packed channel. Only phases that some tap needs
are packed. A packed channel is

    [depth phase][row phase][column phase][depth][row][column]

Padding of every mode happens here, by tables from padded to source index, and so does the walk over awkward strides of
the input: nothing after this file knows of either.

**Weights.** Channels of one block beside each other, ``[group][block][channel][tap][block width]``, which is a
transpose of (out channel, channel * tap) per block, done with register transposes. Missing channels of the last block
are zero.
"""

from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.calls import invoke
from fastpool.kernels.simd import (
    even_lanes,
    fetch_to_write,
    lanes_of,
    masked_load,
    masked_store,
    odd_lanes,
    range_mask,
    splat,
)

#: Vectors between what is packed and what is fetched for writing: other cores have read the packed input since.
_AHEAD = 6


@device
def _zero_row(spec, target, count):
    zero = splat(spec, 0.0)
    for q in range(0, count, lanes_of(spec)):
        masked_store(spec, target + q, zero, range_mask(spec, 0, count - q))


@device
def _inside(call, shift):
    """Packed columns low..high of a phase come from the input: 0 <= q*stride + shift < width."""
    count, stride = call.packed_columns, call.stride_column
    low = min(count, max(0, -(shift // stride)))
    return low, max(low, min(count, (call.width - 1 - shift) // stride + 1))


@device
def _pack_row(spec, call, source, target, phase_pitch, first_column):
    """One source row, from an output column on, into its column phases, `phase_pitch` apart."""
    count, width, stride = call.packed_columns, call.width, call.stride_column
    pad = call.pad_left - first_column * stride  # the input begins so many padded columns after the first one packed
    phases, phase_count = call.column_phases, call.column_phase_count
    lanes = lanes_of(spec)
    zero, everything = splat(spec, 0.0), range_mask(spec, 0, lanes)
    if stride == 1 and call.x_column == 1:
        for q in range(0, count, lanes):
            first = q - pad
            fetch_to_write(target + (q + _AHEAD * lanes))
            if first >= 0 and first + lanes <= width and q + lanes <= count:
                masked_store(spec, target + q, masked_load(spec, source + first, everything, zero), everything)
            else:
                value = masked_load(spec, source + first, range_mask(spec, -first, width - first), zero)
                masked_store(spec, target + q, value, range_mask(spec, 0, count - q))
    elif stride == 2 and call.x_column == 1:
        # Two vectors hold 2 * lanes padded columns: even ones are phase 0, odd ones phase 1.
        has_even, has_odd = phases[0] == 0, phases[phase_count - 1] == 1
        odd_target = target + (phase_count - 1) * phase_pitch
        for q in range(0, count, lanes):
            first = 2 * q - pad
            second = first + lanes
            if has_even:
                fetch_to_write(target + (q + _AHEAD * lanes))
            if has_odd:
                fetch_to_write(odd_target + (q + _AHEAD * lanes))
            if first >= 0 and second + lanes <= width and q + lanes <= count:
                a = masked_load(spec, source + first, everything, zero)
                b = masked_load(spec, source + second, everything, zero)
                mask = everything
            else:
                a = masked_load(spec, source + first, range_mask(spec, -first, width - first), zero)
                b = masked_load(spec, source + second, range_mask(spec, -second, width - second), zero)
                mask = range_mask(spec, 0, count - q)
            if has_even:
                masked_store(spec, target + q, even_lanes(a, b), mask)
            if has_odd:
                masked_store(spec, odd_target + q, odd_lanes(a, b), mask)
    elif stride == 4 and call.x_column == 1:
        # Four vectors, taken apart twice: even lanes of even ones are phase 0, odd lanes of even ones phase 2.
        for q in range(0, count, lanes):
            first = 4 * q - pad
            a = masked_load(spec, source + first, range_mask(spec, -first, width - first), zero)
            first += lanes
            b = masked_load(spec, source + first, range_mask(spec, -first, width - first), zero)
            first += lanes
            c = masked_load(spec, source + first, range_mask(spec, -first, width - first), zero)
            first += lanes
            d = masked_load(spec, source + first, range_mask(spec, -first, width - first), zero)
            even_a, even_b, odd_a, odd_b = even_lanes(a, b), even_lanes(c, d), odd_lanes(a, b), odd_lanes(c, d)
            mask = range_mask(spec, 0, count - q)
            for p in range(phase_count):
                line, phase = target + (p * phase_pitch + q), phases[p]
                if phase == 0:
                    masked_store(spec, line, even_lanes(even_a, even_b), mask)
                elif phase == 1:
                    masked_store(spec, line, even_lanes(odd_a, odd_b), mask)
                elif phase == 2:
                    masked_store(spec, line, odd_lanes(even_a, even_b), mask)
                else:
                    masked_store(spec, line, odd_lanes(odd_a, odd_b), mask)
    else:
        column = call.x_column
        for p in range(phase_count):
            row = target + p * phase_pitch
            shift = phases[p] - pad
            low, high = _inside(call, shift)
            for q in range(low):
                row[q] = simd.scalar(spec, 0.0)
            for q in range(low, high):
                row[q] = source[(q * stride + shift) * column]
            for q in range(high, count):
                row[q] = simd.scalar(spec, 0.0)
    if call.pads_with_data:
        for p in range(phase_count):
            row, columns = target + p * phase_pitch, call.column_map + (call.column_begins[p] + first_column)
            low, high = _inside(call, phases[p] - pad)
            for q in range(low):
                row[q] = source[columns[q] * call.x_column]
            for q in range(high, count):
                row[q] = source[columns[q] * call.x_column]


def pack_channel(call, x, plane_start, target, first_depth, first_row, first_column):
    """Pack the channel at element `plane_start` of x, starting at the given output depth, row and column.

    This is the only routine that knows the type of x where its elements are narrower than those of the sums: here they
    are widened, the caller counts them.
    """
    spec = call.spec
    source = x + plane_start
    depths, rows, columns = call.packed_depths, call.packed_rows, call.packed_columns
    plane = depths * rows * columns
    column_phase_count = call.column_phase_count
    row_phase_count = call.row_phase_count
    depth_map, row_map = call.depth_map, call.row_map
    # Rows of a vector at most: masks are the same for all, and would take longer to make than the rows to copy.
    stride, lanes = call.stride_column, lanes_of(spec)
    is_short = columns <= lanes and stride <= 2 and call.x_column == 1 and not call.pads_with_data
    first = first_column * stride - call.pad_left
    second, phases = first + lanes, call.column_phases
    inside, further = range_mask(spec, -first, call.width - first), range_mask(spec, -second, call.width - second)
    kept, zero = range_mask(spec, 0, columns), splat(spec, 0.0)
    has_even, has_odd = phases[0] == 0, stride == 2 and phases[column_phase_count - 1] == 1
    for i in range(call.depth_phase_count):
        for d in range(depths):
            source_depth = depth_map[call.depth_begins[i] + first_depth + d]
            for j in range(row_phase_count):
                block = target + ((i * row_phase_count + j) * column_phase_count * plane + d * rows * columns)
                for r in range(rows):
                    source_row = row_map[call.row_begins[j] + first_row + r]
                    if source_depth < 0 or source_row < 0:
                        for p in range(column_phase_count):
                            _zero_row(spec, block + (p * plane + r * columns), columns)
                        continue
                    row = source + (source_depth * call.x_depth + source_row * call.x_row)
                    if not is_short:
                        _pack_row(spec, call, row, block + r * columns, plane, first_column)
                        continue
                    line, a = block + r * columns, masked_load(spec, row + first, inside, zero)
                    if stride == 1:
                        masked_store(spec, line, a, kept)
                        continue
                    b = masked_load(spec, row + second, further, zero)
                    if has_even:
                        masked_store(spec, line, even_lanes(a, b), kept)
                    if has_odd:
                        masked_store(spec, line + (column_phase_count - 1) * plane, odd_lanes(a, b), kept)


def pack_input(call, task, thread):
    """Pack channel ``task % channels`` of image ``task // channels`` into the shared scratch."""
    image, channel = task // call.channels, task % call.channels
    plane = image * call.x_batch + channel * call.x_channel
    invoke(call.pack_channel, call.packing, call.x, plane, call.scratch + task * call.packed_channel, 0, 0, 0)


@intrinsic
def _transpose_block(typingctx, spec, source, row_pitch, rows, columns, target, target_pitch, width):
    """Rows x columns of `source` (at most lanes each), transposed, into `width` columns of `target`; else zero."""

    def codegen(context, builder, sig, args):
        _, source, row_pitch, rows, columns, target, target_pitch, width = args
        vector = simd.vector_ir(spec)
        zero = simd.ir.Constant(vector, None)
        inside = simd.range_mask_ir(builder, simd.I64(0), columns, spec.lanes)
        nothing = simd.ir.Constant(inside.type, None)
        loaded = []
        for r in range(spec.lanes):
            mask = builder.select(builder.icmp_signed("<", simd.I64(r), rows), inside, nothing)
            row = builder.gep(source, [builder.mul(row_pitch, simd.I64(r))])
            loaded.append(simd.masked_load_ir(builder, row, vector, mask, zero, spec.size))
        kept = simd.range_mask_ir(builder, simd.I64(0), width, spec.lanes)
        for c, column in enumerate(simd.transpose_ir(builder, loaded)):
            mask = builder.select(builder.icmp_signed("<", simd.I64(c), columns), kept, nothing)
            place = builder.gep(target, [builder.mul(target_pitch, simd.I64(c))])
            simd.masked_store_ir(builder, column, place, mask, spec.size)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, source, number, number, number, target, number, number), codegen


def pack_weights(call, task, thread):
    """Pack block ``task % blocks`` of group ``task // blocks``: weights (out channel, reduction) -> out."""
    simd.align_stack()
    spec = call.spec
    lanes = lanes_of(spec)
    block, reduction = call.block, call.reduction
    group, first = task // call.blocks, (task % call.blocks) * block
    target = call.out + task * reduction * block
    for j in range(0, block, lanes):
        rows = call.group_channels - first - j
        source = call.weights + (group * call.group_channels + first + j) * reduction
        for k in range(0, reduction, lanes):
            _transpose_block(
                spec, source + k, reduction, rows, reduction - k, target + (k * block + j), block, block - j
            )
