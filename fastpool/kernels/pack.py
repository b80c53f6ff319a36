"""Packing: weights and input rows, laid out as the micro-kernels read them.

**Input, polyphase.** Output row o of an axis with stride s reads, for tap k, the padded row o*s + k*dilation. With the
padded rows sorted by phase (index modulo s), tap k reads row o + (k*dilation)//s of phase (k*dilation) % s: once
packed, stride and dilation are gone, and a tap is one offset into the packed channel. Only phases that some tap needs
are packed. A packed channel is

    [depth phase][row phase][column phase][depth][row][column]

Padding of every mode happens here, by tables from padded to source index, and so does the walk over awkward strides of
the input: nothing after this file knows of either. Rows are packed in vectors; where they have a few elements each, a
table says where every element of the packed channel comes from.

**Weights.** Channels of one block beside each other, ``[group][block][channel][tap][block width]``, which is a
transpose of (out channel, channel * tap) per block, done with register transposes. Missing channels of the last block
are zero.
"""

from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.calls import invoke
from fastpool.kernels.phases import column_places, pack_row
from fastpool.kernels.simd import lanes_of, scalar
from fastpool.kernels.stores import masked_store_ir
from fastpool.routines.pack import NOWHERE


def pack_channel(call, x, plane_start, target, first_depth, first_row, first_column):
    """Pack the channel at element `plane_start` of x, starting at the given output depth, row and column.

    This is the only routine that knows the type of x where its elements are narrower than those of the sums: here they
    are widened, the caller counts them.
    """
    source, columns, column_phases = x + plane_start, call.packed_columns, call.column_phase_count
    depths, rows, width, pads_with_data = call.packed_depths, call.packed_rows, call.width, call.pads_with_data
    depth_map, row_map, x_depth, x_row = call.depth_map, call.row_map, call.x_depth, call.x_row
    plane, places = depths * rows * columns, column_places(call)
    first = first_column * call.stride_column - call.pad_left  # element of a row at which the packed columns begin
    line = target
    for i in range(call.depth_phase_count):
        begin_depth = call.depth_begins[i] + first_depth
        for j in range(call.row_phase_count):
            begin_row = call.row_begins[j] + first_row
            for d in range(depths):
                source_depth = depth_map[begin_depth + d]
                for r in range(rows):
                    source_row = row_map[begin_row + r]
                    exists = source_depth >= 0 and source_row >= 0
                    row = source + (source_depth * x_depth + source_row * x_row)
                    pack_row(call, row, exists, first, width, line, columns, plane, places)
                    if pads_with_data and exists:
                        for p in range(column_phases):
                            place, begin = line + p * plane, call.column_begins[p] + first_column
                            low, high = call.column_lows[p] - first_column, call.column_highs[p] - first_column
                            q = 0
                            while q < columns:
                                if low <= q < high:
                                    q = high
                                else:
                                    place[q] = row[call.column_map[begin + q] * call.x_column]
                                    q += 1
                    line = line + columns
            line = line + (column_phases - 1) * plane


def pack_by_table(call, x, plane_start, target, first_depth, first_row, first_column):
    """Pack a whole channel, element by element, from where a table says: for rows of a few elements each."""
    source, places, zero, run = x + plane_start, call.places, scalar(call.spec, 0), call.place_run
    for _ in range(call.place_count // run):
        for i in range(run):
            place = places[i]
            # Something is loaded in any case: a branch would be taken as padding has it.
            value = source[0 if place == NOWHERE else place]
            target[i] = zero if place == NOWHERE else value
        places, target = places + run, target + call.panel


def pack_input(call, task, thread):
    """Pack some channels behind each other, of all images, into the scratch of all threads or of this one."""
    channels, together = call.channels, call.together
    first, end = task * together, min((task + 1) * together, call.images * channels)
    image, channel = first // channels, first % channels
    target = call.scratch + (thread * call.own + first * call.packed_channel)
    for _ in range(first, end):
        plane = image * call.x_batch + channel * call.x_channel
        invoke(call.pack_channel, call.packing, call.x, plane, target, 0, 0, 0)
        target, channel = target + call.packed_channel, channel + 1
        if channel == channels:
            image, channel = image + 1, 0


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
            exists = builder.icmp_signed("<", simd.I64(r), rows)
            mask = builder.select(exists, inside, nothing)
            # Where there is no memory, loading nothing takes long.
            row = builder.gep(source, [builder.select(exists, builder.mul(row_pitch, simd.I64(r)), simd.I64(0))])
            loaded.append(simd.masked_load_ir(builder, row, vector, mask, zero, spec.size))
        kept = simd.range_mask_ir(builder, simd.I64(0), width, spec.lanes)
        for c, column in enumerate(simd.transpose_ir(builder, loaded)):
            mask = builder.select(builder.icmp_signed("<", simd.I64(c), columns), kept, nothing)
            place = builder.gep(target, [builder.mul(target_pitch, simd.I64(c))])
            masked_store_ir(builder, column, place, mask, spec.size)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, source, number, number, number, target, number, number), codegen


def pack_images(call, task, thread):
    """Pack some elements of all images for all threads or for this one: (image, element) -> (panel, element, image)."""
    simd.align_stack()
    spec = call.spec
    lanes, images, width, end = lanes_of(spec), call.images, call.width, min((task + 1) * call.together, call.elements)
    for k in range(task * call.together, end, lanes):
        target = call.scratch + (thread * call.own + k * width)
        # Whole vectors where the next ones write over what is too much: parts of one take some times as long.
        written = lanes if width <= lanes and k + lanes < end else width
        for first in range(0, images, width):
            for j in range(0, min(width, images - first), lanes):
                image = first + j
                source = call.x + (image * call.x_batch + k)
                _transpose_block(spec, source, call.x_batch, images - image, end - k, target + j, width, written - j)
            target = target + call.panel


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
