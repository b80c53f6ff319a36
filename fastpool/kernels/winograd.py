"""Winograd convolution: filters of few forms at stride 1 or 2, by products of transformed tiles.

F(4,3) needs 36 multiplications for 4x4 outputs of a 3x3 filter where the direct sum needs 144. Lanes are channels
throughout: rows of the input are transposed into vectors of channels, transformed tile by tile, multiplied (the same
register tile as in the direct convolution, with tiles for pixels), transformed back and transposed out. With c
channels in `lanes`-wide blocks, t tiles and P = (m + r - 1)^2 products:

    V [product][group][task][panel][phase][channel block][tile][lane]   transformed input
    U [group][out block][product][phase][channel][2 * lanes]            transformed weights (`filters.py`)
    M [product][tile][2 * lanes]                                        products, of one out block

A panel has as many tiles as the register tile, so that V is read from its begin to its end, as U is.

At stride 2 the input falls into four phases (even and odd rows and columns), each of which a quarter of the filter
meets at unit stride: their products add up in one domain. The odd phases have a tap less, so that their products at
infinity are zero and left out: 81 multiplications for 4x4 outputs of a 3x3 filter instead of 144. Lanes being channels,
a phase is only a step of two columns.

Few channels would leave most lanes idle while they are transformed. Where x is *folded*, each phase of a channel is a
channel of its own: the 3 channels of a 7x7 stem at stride 2 are 12, of 4x4 filters at unit stride.

Filters of one row or one column (1x7, 3x1, those of one dimension) are transformed along one axis, whose tile is 1 x m
or m x 1: F(4,3) needs 6 multiplications for 4 outputs instead of 12.

A dilated convolution is one of its own on each of the phases modulo the dilation: its tiles take rows and columns that
lie so far apart, and tiles of all phases are done together. Groups are convolutions beside each other.

Two schedules. `shared`: all threads transform the whole input into one V, then each takes out blocks: for small maps,
whose weights are read once in all; of many images some in each pass, whose V stays in the last-level cache. `fused`:
each task does all for a group of tiles, from scratch of its own: for large maps, whose V would not stay in the cache.

A non-finite pixel would spread over its whole tile. Tiles with non-finite results are therefore computed again,
directly.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd, transforms
from fastpool.kernels._jit import device
from fastpool.kernels.calls import exists, invoke
from fastpool.kernels.channels import fold_in, masked_vector, transpose_in, transpose_out
from fastpool.kernels.simd import I64, Tile, keep_small, lanes_of, scalar, splat, store
from fastpool.kernels.winograd_forms import (
    along,
    column_stride,
    fold_of,
    is_dilated,
    output_columns,
    output_rows,
    row_stride,
    sizes_of,
    strip_column_stride,
    strip_row_stride,
    strip_strides,
    tap_columns,
    tap_rows,
)
from fastpool.routines.direct import CHANNELS_AT_ONCE
from fastpool.routines.winograd import BLOCK_VECTORS, PHASES


@intrinsic
def _column_step_of(typingctx, spec, dilation):
    """Columns from one of a tile to the next: known ahead, unless they are dilated."""
    return types.intp(spec, dilation), lambda context, builder, sig, args: args[1] if is_dilated(spec) else I64(1)


def _of_phase_ir(builder, values, phase):
    """Element `phase` of a list of zeros and ones."""
    bits = sum(value << i for i, value in enumerate(values))
    return builder.and_(builder.lshr(I64(bits), phase), I64(1))


#: Tiles between the one that is transformed and the one whose lines of V are fetched for writing. Other cores have read
#: them since, and waiting for each line to be given back costs more than the products: 3x3 stride 2, 128 channels on
#: 56x56, 1.07 ms without, 0.70 with.
_AHEAD = 2


@intrinsic
def _transform_in(typingctx, spec, strip, row_pitch, step, target, later, product_pitch, phase_pitch):
    """One tile of the strip, whose columns are `step` apart: B^T d B of each phase, each product to its place.

    `later` is the place of a later tile, whose lines are fetched.
    """

    def codegen(context, builder, sig, args):
        _, strip, row_pitch, step, target, later, product_pitch, phase_pitch = args
        vector, (down, across) = simd.vector_ir(spec), sizes_of(spec)
        strides = strip_strides(spec)

        def transform(strip, target, later):
            columns = []
            for j in range(across):
                place = builder.mul(step, I64(j * strides[1] * spec.lanes))
                rows = [builder.mul(row_pitch, I64(i * strides[0])) for i in range(down)]
                loaded = [
                    simd.load_ir(builder, builder.gep(strip, [builder.add(row, place)]), vector, spec.size)
                    for row in rows
                ]
                columns.append(transforms.input_ir(builder, loaded))
            for product in range(down * across):
                place = builder.gep(later, [builder.mul(product_pitch, I64(product))])
                simd.prefetch_ir(builder, place, to_write=True)
            for i in range(down):
                for j, value in enumerate(transforms.input_ir(builder, [column[i] for column in columns])):
                    place = builder.gep(target, [builder.mul(product_pitch, I64(i * across + j))])
                    simd.store_ir(builder, value, place, spec.size)

        if len(PHASES[strides]) == 1:
            transform(strip, target, later)
            return context.get_dummy_value()
        # A loop, as straight code of all phases takes four times as long to compile.
        with cgutils.for_range(builder, I64(len(PHASES[strides]))) as loop:
            row, column = (
                _of_phase_ir(builder, [place[axis] for place in PHASES[strides]], loop.index) for axis in (0, 1)
            )
            start = builder.add(builder.mul(row_pitch, row), builder.mul(step, builder.mul(column, I64(spec.lanes))))
            places = [builder.gep(place, [builder.mul(phase_pitch, loop.index)]) for place in (target, later)]
            transform(builder.gep(strip, [start]), *places)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, strip, number, number, target, target, number, number), codegen


@intrinsic
def _transform_out(typingctx, spec, source, product_pitch, bias, target, row_pitch, step, check):
    """One tile of products: A^T M A + bias to rows of pixels, `step` apart; `check` is NaN if one is not finite."""

    def codegen(context, builder, sig, args):
        _, source, product_pitch, bias, target, row_pitch, step, check = args
        vector, (down, across), outputs = simd.vector_ir(spec), sizes_of(spec), along(spec, spec.vectors)
        columns = []
        for j in range(across):
            places = [builder.gep(source, [builder.mul(product_pitch, I64(i * across + j))]) for i in range(down)]
            loaded = [simd.load_ir(builder, place, vector, spec.size) for place in places]
            columns.append(transforms.output_ir(builder, outputs[0], loaded))
        values = []
        for i in range(outputs[0]):
            for j, value in enumerate(transforms.output_ir(builder, outputs[1], [column[i] for column in columns])):
                value = builder.fadd(value, bias)
                values.append(value)
                place = builder.gep(
                    target, [builder.add(builder.mul(row_pitch, I64(i)), builder.mul(step, I64(j * spec.lanes)))]
                )
                simd.store_ir(builder, value, place, spec.size)
        # The sum of all is not finite if one of them is not, or if it overflows: then too many tiles are done again.
        while len(values) > 1:
            halves = zip(values[::2], values[1::2], strict=False)
            values = [*(builder.fadd(*pair) for pair in halves), *values[len(values) // 2 * 2 :]]
        return simd.fma_ir(builder, values[0], ir.Constant(vector, None), check)

    return check(spec, source, types.intp, bias, target, types.intp, types.intp, check), codegen


@intrinsic
def _has_nan(typingctx, value):
    """Whether any lane is NaN."""

    def codegen(context, builder, sig, args):
        bits = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.icmp_unsigned("!=", builder.bitcast(bits, ir.IntType(value.lanes)), ir.IntType(value.lanes)(0))

    return types.boolean(value), codegen


def transform_rows(call, plane, strip, target, channels, tile_row, first_tile, tiles, first_of_task):
    """Transform one row of `tiles` tiles of one block of `channels` channels, from its tile `first_tile` on.

    The first of them is the task's tile `first_of_task`.
    """
    simd.align_stack()
    spec = call.spec
    lanes, within = lanes_of(spec), strip_column_stride(spec)
    step = output_columns(spec) * within  # from one tile of the strip to the next
    size = (output_rows(spec) + tap_rows(spec) - 1) * strip_row_stride(spec)
    dilation = _column_step_of(spec, call.column_dilation)
    columns = ((tiles + dilation - 1) // dilation * step + (tap_columns(spec) - 1) * within) * dilation
    pitch = (columns + lanes - 1) // lanes * lanes * lanes
    first_row, first_column = call.row_starts[tile_row] * row_stride(spec), first_tile * output_columns(spec)
    start = first_column * column_stride(spec) - call.pad_left
    for i in range(size):
        line = strip + i * pitch
        if fold_of(spec) > 1:
            rows = call.row_map + (first_row + i * row_stride(spec))
            for p in range(0, columns, lanes):
                w = start + p * column_stride(spec)
                fold_in(spec, plane, rows, call.x_row, w, call.width, call.x_channel, channels, line + p * lanes)
        else:
            source = call.row_map[first_row + i * call.row_dilation]
            if source < 0 or channels == 0:
                for p in range(columns):
                    store(spec, line + p * lanes, splat(spec, 0.0))
            else:
                row = plane + source * call.x_row
                for p in range(0, columns, lanes):
                    w = start + p
                    transpose_in(spec, row + w, call.x_channel, channels, -w, call.width - w, line + p * lanes)
    phase_pitch = call.channel_blocks * call.v_tiles * lanes
    begin, phase = 0, 0  # of the tile: tiles of all phases of a dilation stand beside each other
    # Where the tile is in V, and a later one; which of their panels they are. Counted on, as divisions for each tile
    # would cost a tenth of the transform.
    v_tiles, to_next_panel = call.v_tiles, call.v_panel - call.v_tiles * lanes
    tile, later_tile = first_of_task % v_tiles, (first_of_task + _AHEAD) % v_tiles
    here = target + (first_of_task // v_tiles * call.v_panel + tile * lanes)
    later = target + ((first_of_task + _AHEAD) // v_tiles * call.v_panel + later_tile * lanes)
    for _ in range(tiles):
        _transform_in(spec, strip + (begin + phase) * lanes, pitch, dilation, here, later, call.v_product, phase_pitch)
        here, later, tile, later_tile = here + lanes, later + lanes, tile + 1, later_tile + 1
        if tile == v_tiles:
            here, tile = here + to_next_panel, 0
        if later_tile == v_tiles:
            later, later_tile = later + to_next_panel, 0
        phase += 1
        if phase == dilation:
            begin, phase = begin + step * dilation, 0


@intrinsic
def _nothing(typingctx, spec):
    """A tile of zeros."""
    tile = Tile(spec)
    return tile(spec), lambda context, builder, sig, args: ir.Constant(context.get_value_type(tile), None)


@intrinsic
def _add_up(typingctx, total, results, earlier):
    """Write sums as [column][vector][lane] of a block, added to those that are there if there are `earlier` ones."""
    spec = total.spec

    def codegen(context, builder, sig, args):
        total, results, earlier = args
        vector = simd.vector_ir(spec)

        def write(is_added):
            for t in range(spec.width):
                for i in range(spec.vectors):
                    place = builder.gep(results, [I64((t * BLOCK_VECTORS + i) * spec.lanes)])
                    value = builder.extract_value(total, i * spec.width + t)
                    if is_added:
                        value = builder.fadd(simd.load_ir(builder, place, vector, spec.size), value)
                    simd.store_ir(builder, value, place, spec.size)

        with builder.if_else(builder.icmp_signed(">", earlier, I64(0))) as (more, first):
            with more:
                write(True)
            with first:
                write(False)
        return context.get_dummy_value()

    return types.void(total, results, types.intp), codegen


def _multiply_add_ir(builder, spec, tile, v, u):
    """Add vector i of `u` * element t * lanes of `v` to accumulator [i, t]."""
    vector, lanes = simd.vector_ir(spec), spec.lanes
    loaded = [simd.load_ir(builder, builder.gep(u, [I64(i * lanes)]), vector, spec.size) for i in range(spec.vectors)]
    for t in range(spec.width):
        value = builder.load(builder.gep(v, [I64(t * lanes)]), align=spec.size)
        broadcast = simd.splat_ir(builder, value, lanes)
        for i in range(spec.vectors):
            index = i * spec.width + t
            total = simd.fma_ir(builder, loaded[i], broadcast, builder.extract_value(tile, index))
            tile = builder.insert_value(tile, total, index)
    return tile


@intrinsic
def _multiply_add(typingctx, accumulators, v, u):
    """Add the products of a channel."""
    spec = accumulators.spec

    def codegen(context, builder, sig, args):
        return _multiply_add_ir(builder, spec, *args)

    return accumulators(accumulators, v, u), codegen


@intrinsic
def _multiply_channels(typingctx, accumulators, v, u, ahead, share):
    """Add the products of some channels, and bring weights near that are `share` a channel."""
    spec = accumulators.spec

    def codegen(context, builder, sig, args):
        tile, v, u, ahead, share = args
        simd.prefetch_ir(builder, ahead, level=2)
        many = builder.icmp_signed(">", builder.mul(share, I64(CHANNELS_AT_ONCE * spec.size)), I64(64))
        with builder.if_then(many, likely=False):
            for channel in range(1, CHANNELS_AT_ONCE):
                place = builder.gep(ahead, [builder.mul(share, I64(channel))])
                simd.prefetch_ir(builder, place, level=2)
        for channel in range(CHANNELS_AT_ONCE):
            weights = builder.gep(u, [I64(channel * BLOCK_VECTORS * spec.lanes)])
            tile = _multiply_add_ir(builder, spec, tile, builder.gep(v, [I64(channel)]), weights)
        return tile

    return accumulators(accumulators, v, u, ahead, types.intp), codegen


@intrinsic
def _fetch(typingctx, spec, v, channel, u):
    """Bring near: one share of `lanes` of a block of tiles, and further away, weights of one channel."""

    def codegen(context, builder, sig, args):
        _, v, channel, u = args
        start = builder.gep(v, [builder.mul(channel, I64(spec.width))])
        for byte in range(0, spec.width * spec.size, 64):
            simd.prefetch_ir(builder, builder.gep(start, [I64(byte // spec.size)]))
        for byte in range(0, spec.vectors * spec.lanes * spec.size, 64):
            simd.prefetch_ir(builder, builder.gep(u, [I64(byte // spec.size)]), level=2)
        return context.get_dummy_value()

    return types.void(spec, v, types.intp, u), codegen


def multiply(call, v, u, m, tiles, first, next_weights):
    """M = U V for each product, of `tiles` tiles and one out block; what a panel has beyond them has no meaning.

    Of an out block of one vector the other one is left out, if the spec has one.

    U has a part of the blocks of channels, from the `first` on; what later parts give is added. Meanwhile the next
    weights are fetched from the last-level cache or memory, a share beside each channel, and the next channels of
    tiles.
    """
    simd.align_stack()
    spec = call.spec
    lanes = lanes_of(spec)
    block = BLOCK_VECTORS * lanes
    blocks = min(call.part_blocks, call.channel_blocks - first)
    multiplied = min(call.part_blocks * lanes, call.multiplied - first * lanes)
    panels = (tiles + call.v_tiles - 1) // call.v_tiles
    share = (call.fetched + panels - 1) // panels
    v_block = call.v_tiles * lanes
    for product in range(call.products):
        skipped, phases = call.segments[2 * product], call.segments[2 * product + 1]
        ahead = next_weights + product * call.fetched_product
        for panel in range(panels):
            results = m + (product * call.m_product + panel * call.v_tiles * block)
            x = v + (
                product * call.v_product + panel * call.v_panel + (skipped * call.channel_blocks + first) * v_block
            )
            weights = u + (product * call.u_product + skipped * blocks * lanes * block)
            earlier, in_phase, left = first, blocks, multiplied
            for begin in range(0, phases * blocks, call.summed_blocks):
                total = _nothing(spec)
                for _ in range(min(call.summed_blocks, phases * blocks - begin)):
                    here = min(left, lanes)  # the lanes of a block beyond the channels are left out
                    together = here // CHANNELS_AT_ONCE * CHANNELS_AT_ONCE if CHANNELS_AT_ONCE > 1 else 0
                    for c in range(0, together, CHANNELS_AT_ONCE):
                        total = _multiply_channels(total, x + c, weights + c * block, ahead, share)
                        ahead = ahead + CHANNELS_AT_ONCE * share
                    for c in range(together, here):
                        keep_small()
                        _fetch(spec, x + v_block, c, ahead)
                        total = _multiply_add(total, x + c, weights + c * block)
                        ahead = ahead + share
                    left -= lanes
                    in_phase -= 1
                    weights = weights + lanes * block
                    x = x + v_block
                    if in_phase == 0:
                        in_phase, left = blocks, multiplied
                        x = x + (call.channel_blocks - blocks) * v_block
                _add_up(total, results, earlier)
                earlier = 1


def repair_rows(call, pixels, pitch, image, group, channel, channels, first_row, rows, first_column, columns):
    """Compute the pixels of a row of tiles again, by the sums themselves; `channel` counts from the first group's.

    One code for all forms: it is rarely run.
    """
    spec = call.spec
    lanes, dilation = lanes_of(spec), call.column_dilation
    taps = call.kernel_rows * call.kernel_columns
    for i in range(rows):
        first_source = call.row_map + (first_row + i * call.row_dilation) * call.row_stride
        for j in range(columns):
            first = (first_column + j) * call.column_stride - call.pad_left
            for lane in range(channels):
                total = scalar(spec, 0.0)
                filters = call.filters + (channel + lane) * call.channels * call.slices * taps
                for c in range(call.channels):
                    for slice_ in range(call.slices):
                        depth = image % call.depths * call.depth_stride + slice_ * call.depth_dilation - call.pad_front
                        is_there = depth >= 0 and depth < call.depth_size
                        plane = call.x + (
                            image // call.depths * call.x_batch
                            + depth * call.x_depth
                            + (group * call.channels + c) * call.x_channel
                        )
                        for k in range(call.kernel_rows):
                            source = first_source[k * call.row_dilation]
                            for tap in range(call.kernel_columns):
                                w = first + tap * dilation
                                inside = is_there and source >= 0 and w >= 0 and w < call.width
                                value = plane[source * call.x_row + w] if inside else scalar(spec, 0.0)
                                total = simd.fma(filters[tap], value, total)
                            filters = filters + call.kernel_columns
                pixels[i * pitch + j * lanes + lane] = total + call.bias[channel + lane]


def finish_rows(call, m, pixels, out_block, group, image, tile_row, first_tile, tiles):
    """Transform one row of tiles back, in all channels of an out block; `pixels` is scratch for rows of channels."""
    simd.align_stack()
    spec = call.spec
    lanes, outputs = lanes_of(spec), output_columns(spec)
    dilation = _column_step_of(spec, call.column_dilation)
    columns = (tiles + dilation - 1) // dilation * outputs * dilation
    columns_here = min(columns, call.out_columns - first_tile * outputs)
    first_row, row_step = call.row_starts[tile_row], call.row_dilation
    rows_here = min(output_rows(spec), (call.out_rows - first_row + row_step - 1) // row_step)
    pitch = (columns + lanes) * lanes
    out_channel = call.out_channel
    before = image // call.depths, image % call.depths * call.out_rows * call.out_columns
    low, high, flags = scalar(spec, call.low), scalar(spec, call.high), (call.has_residual, call.has_bounds)
    for half in range(2):
        channel = (2 * out_block + half) * lanes
        channels = min(lanes, call.out_channels - channel)
        channel += group * call.out_channels
        if channels > 0:
            bias = masked_vector(spec, call.bias + channel, channels)
            check = splat(spec, 0.0)
            begin, phase = 0, 0
            for t in range(tiles):
                source = m + (2 * t + half) * lanes
                target = pixels + (begin + phase) * lanes
                check = _transform_out(spec, source, call.m_product, bias, target, pitch, dilation, check)
                phase += 1
                if phase == dilation:
                    begin, phase = begin + outputs * dilation, 0
            if _has_nan(check):
                if exists(call.repair_rows):
                    invoke(
                        call.repair_rows,
                        call,
                        pixels,
                        pitch,
                        image,
                        group,
                        channel,
                        channels,
                        first_row,
                        rows_here,
                        first_tile * outputs,
                        columns_here,
                    )
                else:
                    call.missed[0] = 1
            for i in range(rows_here):
                row = first_row + i * row_step
                place = before[1] + channel * out_channel + row * call.out_columns + first_tile * outputs
                for j in range(0, columns_here, lanes):
                    transpose_out(
                        spec,
                        pixels + (i * pitch + j * lanes),
                        call.out + (before[0] * call.out_batch + place + j),
                        call.residual + (before[0] * call.residual_batch + place + j),
                        flags,
                        out_channel,
                        channels,
                        columns_here - j,
                        low,
                        high,
                    )


@device
def _plane_of(call, image, group, block, lanes):
    """Plane of the first channel of a block, and how many channels follow: none where a tap of depth meets padding."""
    slice_, before = block // call.slice_blocks, block % call.slice_blocks * (lanes // call.fold)
    depth = image % call.depths * call.depth_stride + slice_ * call.depth_dilation - call.pad_front
    first_channel = group * call.channels + before
    plane = call.x + (image // call.depths * call.x_batch + depth * call.x_depth + first_channel * call.x_channel)
    return plane, call.channels - before if 0 <= depth < call.depth_size else 0


def winograd_input(call, task, thread):
    """First half of `shared`: transform one row of tiles of one channel block into the common V."""
    spec = call.spec
    lanes = lanes_of(spec)
    block, row = task % (call.groups * call.channel_blocks), task // (call.groups * call.channel_blocks)
    group, block = block // call.channel_blocks, block % call.channel_blocks
    image, tile_row = call.first_image + row // call.tile_rows, row % call.tile_rows
    plane, channels = _plane_of(call, image, group, block, lanes)
    strip = call.scratch + (call.shared + thread * call.scratch_thread + call.strip_offset)
    of_task = (group * call.row_groups + row // call.group_rows) * call.v_task
    target = call.scratch + (of_task + block * call.v_tiles * lanes)
    first = row % call.group_rows * call.tile_columns
    invoke(call.transform_rows, call, plane, strip, target, channels, tile_row, 0, call.tile_columns, first)


def winograd_output(call, task, thread):
    """Second half of `shared`: one out block for a group of rows of tiles.

    On the fly, its weights are transformed here, as many channels at a time as the level-2 cache holds.
    """
    spec = call.spec
    lanes = lanes_of(spec)
    own = call.scratch + (call.shared + thread * call.scratch_thread)
    m, pixels = own + call.m_offset, own + call.strip_offset
    rows, out_block = task % call.row_groups, task // call.row_groups
    group, out_block = out_block // call.out_blocks, out_block % call.out_blocks
    first = rows * call.group_rows
    end = min(first + call.group_rows, call.images * call.tile_rows)
    columns = call.tile_columns
    v, tiles = call.scratch + (group * call.row_groups + rows) * call.v_task, (end - first) * columns
    weights = call.weights + (group * call.out_blocks + out_block) * call.weights_block
    multiply_block = call.multiply_last if out_block == call.out_blocks - 1 else call.multiply
    if call.on_the_fly:
        u, part = own + call.u_offset, call.part_blocks * call.weights_channels
        for block in range(0, call.channel_blocks, call.part_blocks):
            invoke(call.transform_filters, call, weights, u, block)
            weights = weights + part
            invoke(multiply_block, call, v, u, m, tiles, block, weights)
    else:
        invoke(multiply_block, call, v, weights, m, tiles, 0, weights + call.u_product)
    for row in range(first, end):
        image, tile_row = call.first_image + row // call.tile_rows, row % call.tile_rows
        source = m + (row - first) * columns * 2 * lanes
        invoke(call.finish_rows, call, source, pixels, out_block, group, image, tile_row, 0, columns)


def winograd_fused(call, task, thread):
    """All of a group of tiles, through scratch of this thread."""
    spec = call.spec
    lanes = lanes_of(spec)
    column_group, rest = task % call.column_groups, task // call.column_groups
    row_group, rest = rest % call.row_groups, rest // call.row_groups
    group, image = rest % call.groups, rest // call.groups
    first_row, first_tile = row_group * call.group_rows, column_group * call.group_columns
    end_row = min(first_row + call.group_rows, call.tile_rows)
    tiles = min(call.group_columns, call.tile_columns - first_tile)
    own = call.scratch + (call.shared + thread * call.scratch_thread)
    v, m, strip = own + call.v_offset, own + call.m_offset, own + call.strip_offset
    for block in range(call.channel_blocks):
        plane, channels = _plane_of(call, image, group, block, lanes)
        for row in range(first_row, end_row):
            target, first = v + block * call.v_tiles * lanes, (row - first_row) * tiles
            invoke(call.transform_rows, call, plane, strip, target, channels, row, first_tile, tiles, first)
    for out_block in range(call.out_blocks):
        u = call.weights + (group * call.out_blocks + out_block) * call.weights_block
        multiply_block = call.multiply_last if out_block == call.out_blocks - 1 else call.multiply
        invoke(multiply_block, call, v, u, m, (end_row - first_row) * tiles, 0, u + call.u_product)
        for row in range(first_row, end_row):
            source = m + (row - first_row) * tiles * 2 * lanes
            invoke(call.finish_rows, call, source, strip, out_block, group, image, row, first_tile, tiles)
