"""Direct convolution: two loops around one register tile, no im2col.

The tile is ``vectors x width`` accumulators in registers, and every step of the reduction multiplies `vectors` loaded
vectors with `width` broadcast scalars. It plays one of two roles (the spec's variant):

- ``channels``: lanes are output channels, scalars are pixels. Stride costs nothing; the tile is transposed in registers
  on the store. For long reductions, which pay for the transpose.
- ``strided``: the same with pixels further apart, for input that is read in place at a stride.
- ``joined``: the same for pixels of several images, which are packed as one row.
- ``edged``: the same for filters of a few common widths, whose rows of taps are straight code. There may be padding:
  pixels that a tap does not find in x are left out.
- ``pixels``: lanes are output pixels, scalars are weights. Stores are contiguous. For short reductions.
- ``masked``: the same for filters of a few common widths, read in place at stride 1 or 2: masks give zeros for padding,
  and pixels that lie apart are put in order once for all channels of the tile. For few input channels.

Input is read in place, or packed by `pack` into scratch that all threads share (few pixels, much weight: each thread
then streams only its part of the weights), by each thread for itself where it is little, or by each task for its own
rows (large maps). Where registers are few it is packed by `panels`, for all threads, for one or for a task.

A tap is an offset into the channel, so kernels of any shape, dilation and rank are one loop. Rows of taps that meet
nothing but a padding of zeros are left out: a tenth of the work on 7x7 outputs.
"""

from functools import partial

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.calls import invoke
from fastpool.kernels.columns import Columns
from fastpool.kernels.epilogue import choose_ir, for_each_image_ir, write_channels_ir, write_pixels_ir
from fastpool.kernels.fetches import fetch_line, fetch_output, fetch_pixels, fetch_row, fetches_rows, fetches_taps
from fastpool.kernels.simd import I64, Tile, keep_small, scalar
from fastpool.kernels.tile_variants import (
    is_by_channels,
    is_joined,
    is_strided,
    row_of,
    sees_edges,
    sees_masks,
    stride_of,
    tile_pixels,
)
from fastpool.routines.direct import CHANNELS_AT_ONCE, IN_PLACE, OWN, PRIVATE, is_edged, is_masked, left_out
from fastpool.routines.tiles import may_be_last


@intrinsic
def _biases(typingctx, spec, bias, channels):
    """A tile that holds the bias of each of its first `channels` channels, and anything in the others."""
    tile = Tile(spec)

    def codegen(context, builder, sig, args):
        _, bias, channels = args
        lanes, vector = spec.lanes, simd.vector_ir(spec)
        total = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for i in range(spec.vectors if is_by_channels(spec) else spec.width):
            if is_by_channels(spec):
                present = simd.range_mask_ir(builder, I64(0), channels, lanes, i * lanes)
                place = builder.gep(bias, [I64(i * lanes)])
                value = simd.masked_load_ir(builder, place, vector, present, ir.Constant(vector, None), spec.size)
                cells = range(i * spec.width, (i + 1) * spec.width)
            else:
                last_one = builder.sub(channels, I64(1))
                index = builder.select(builder.icmp_signed("<", I64(i), channels), I64(i), last_one)
                value = simd.splat_ir(builder, builder.load(builder.gep(bias, [index]), align=spec.size), lanes)
                cells = range(i, spec.vectors * spec.width, spec.width)
            for cell in cells:
                total = builder.insert_value(total, value, cell)
        return total

    return tile(spec, bias, types.intp), codegen


def _multiply_add_ir(builder, spec, cells, x, weights, places):
    """One step of the reduction: cells[v, t] += vector[v] * scalar[t], scalars from `places`; where None, no step."""
    wide = weights if is_by_channels(spec) else x
    loaded = [
        simd.load_ir(builder, builder.gep(wide, [I64(v * spec.lanes)]), simd.vector_ir(spec), spec.size)
        for v in range(spec.vectors)
    ]
    cells = list(cells)
    for t, place in enumerate(places):
        if place is None:
            continue
        broadcast = simd.splat_ir(builder, builder.load(place, align=spec.size), spec.lanes)
        for v in range(spec.vectors):
            index = v * spec.width + t
            cells[index] = simd.fma_ir(builder, loaded[v], broadcast, cells[index])
    return cells


def _cells_ir(builder, spec, tile):
    """Accumulators of a tile."""
    return [builder.extract_value(tile, i) for i in range(spec.vectors * spec.width)]


def _tile_ir(builder, cells):
    """Tile of some accumulators."""
    tile = ir.Constant(ir.ArrayType(cells[0].type, len(cells)), ir.Undefined)
    for i, cell in enumerate(cells):
        tile = builder.insert_value(tile, cell, i)
    return tile


#: Loops of `row_of_tiles`: over the channels of a single tap, the taps of a row of a strided tile, all taps of another.
_SINGLE, _OF_ROW, _ALL = range(3)


def _has_loop(spec, loop):
    """Whether tiles of a spec ever come to a loop."""
    if is_edged(spec.variant) or is_masked(spec.variant):
        return False
    return loop == _SINGLE or loop == (_OF_ROW if spec.variant == "strided" else _ALL)


@intrinsic(prefer_literal=True)
def _multiply_add(typingctx, accumulators, x, weights, apart, loop):
    """One step of the reduction; pixels of a strided tile are `apart`.

    Nothing in a loop to which no tile of the spec comes: it would only take time to compile.
    """
    spec = accumulators.spec

    def codegen(context, builder, sig, args):
        tile, x, weights, apart, _ = args
        if not _has_loop(spec, loop.literal_value):
            return tile
        scalars = x if is_by_channels(spec) else weights
        places = [builder.gep(scalars, [_step_ir(builder, spec, apart, t)]) for t in range(spec.width)]
        return _tile_ir(builder, _multiply_add_ir(builder, spec, _cells_ir(builder, spec, tile), x, weights, places))

    return accumulators(accumulators, x, weights, types.intp, loop), codegen


@intrinsic
def _add_channels(typingctx, accumulators, x, weights, apart, pitch):
    """Add that many channels of a 1x1 filter, `pitch` apart in x."""
    spec = accumulators.spec

    def codegen(context, builder, sig, args):
        tile, x, weights, apart, pitch = args
        by_channels = is_by_channels(spec)
        block = spec.vectors * spec.lanes if by_channels else spec.width
        cells = _cells_ir(builder, spec, tile)
        for channel in range(CHANNELS_AT_ONCE):
            pixels = builder.gep(x, [builder.mul(pitch, I64(channel))])
            of_channel = builder.gep(weights, [I64(channel * block)])
            scalars = pixels if by_channels else of_channel
            places = [builder.gep(scalars, [_step_ir(builder, spec, apart, t)]) for t in range(spec.width)]
            cells = _multiply_add_ir(builder, spec, cells, pixels, of_channel, places)
        return _tile_ir(builder, cells)

    return accumulators(accumulators, x, weights, types.intp, types.intp), codegen


def _step_ir(builder, spec, apart, t):
    """Elements from the first scalar of a step to the one numbered t."""
    return builder.mul(apart, I64(t)) if spec.variant == "strided" else I64(t)


@intrinsic
def _add_row(typingctx, accumulators, x, weights, block, dilation, edges):
    """All taps of a row of the filter, `block` weights each. `edges` is None where all pixels find each tap.

    Else it says how far out first pixels are, and last ones: what a tap leaves out then is known ahead.
    """
    spec = accumulators.spec

    def codegen(context, builder, sig, args):
        tile, x, weights, block, dilation, edges = args
        cells, (taps, apart) = _cells_ir(builder, spec, tile), row_of(spec)
        if not may_be_last(spec.vectors, taps):  # beside others of more
            block = I64(spec.vectors * spec.lanes)
        for tap, (first, last, level) in enumerate(left_out(taps, apart)):
            if taps > 4 and tap:  # else what so many taps load is loaded ahead, and does not find registers
                builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)
            of_tap = builder.gep(weights, [builder.mul(block, I64(tap))])
            start = builder.gep(x, [builder.mul(dilation, I64(tap))])
            places = [builder.gep(start, [I64(t * apart)]) for t in range(spec.width)]

            def step(places, of_tap=of_tap, cells=cells):
                return _multiply_add_ir(builder, spec, cells, None, of_tap, places)

            if sig.args[5] == types.none or not first + last:
                cells = step(places)
                continue
            assert not (first and last)
            is_complete = builder.icmp_signed("<", builder.extract_value(edges, int(last > 0)), I64(level))
            fewer = [place if first <= t < spec.width - last else None for t, place in enumerate(places)]
            cells = simd.either_ir(builder, is_complete, partial(step, places), partial(step, fewer))
        return _tile_ir(builder, cells)

    return accumulators(accumulators, x, weights, types.intp, types.intp, edges), codegen


@intrinsic
def _add_masked_row(typingctx, accumulators, row, weights, first, width):
    """All taps of a row of the filter for pixels that see columns from `first` on of a row of x, of `width` columns."""
    spec = accumulators.spec

    def codegen(context, builder, sig, args):
        tile, row, weights, first, width = args
        cells, (taps, stride) = _cells_ir(builder, spec, tile), row_of(spec)
        of_row = simd.Spec(spec.dtype, spec.lanes, 1, taps, f"stride {stride}")
        starts = [builder.add(first, I64(v * spec.lanes * stride)) for v in range(spec.vectors)]
        columns = [Columns(builder, of_row, start, width).taps_of(row) for start in starts]  # with AVX-512, in order
        for tap in range(taps):
            for t in range(spec.width):
                place = builder.gep(weights, [I64(tap * spec.width + t)])
                weight = simd.splat_ir(builder, builder.load(place, align=spec.size), spec.lanes)
                for v in range(spec.vectors):
                    index = v * spec.width + t
                    cells[index] = simd.fma_ir(builder, columns[v][tap], weight, cells[index])
        return _tile_ir(builder, cells)

    return accumulators(accumulators, row, weights, types.intp, types.intp), codegen


@intrinsic
def _store(typingctx, tile, residual, flags, out, pitch, channels, first, last, low, high, images):
    """Finish the tile and write pixels first..last of its first `channels` channels, `pitch` apart.

    out = clamp(tile + residual, low, high); `residual` is laid out as `out`. What `images` says, joined tiles need:
    pixels of the row before the tile, those of an image, and by how much the next image lies further away in out and
    in residual.
    """
    spec = tile.spec

    def codegen(context, builder, sig, args):
        tile, residual, flags, out, pitch, channels, first, last, low, high, images = args
        lanes, vector = spec.lanes, simd.vector_ir(spec)
        zero = ir.Constant(vector, None)
        low, high = simd.splat_ir(builder, low, lanes), simd.splat_ir(builder, high, lanes)
        flags = [builder.extract_value(flags, i) for i in range(2)]

        def part(v, t):
            return builder.extract_value(tile, v * spec.width + t)

        pixels = spec.width if is_by_channels(spec) else spec.vectors * lanes
        counts = [min(lanes, pixels - t0) for t0 in range(0, pixels, lanes)]

        def make_masks(first, last):
            return [simd.range_mask_ir(builder, first, last, lanes, begin) for begin in range(0, pixels, lanes)]

        masks = make_masks(first, last) if simd.HAS_MASKS and not is_joined(spec) else None  # all vectors need them

        def write_part(values, first_channel, channels, first, last, out, residual):
            starts, ends = builder.icmp_signed("<=", first, I64(0)), builder.icmp_signed(">=", last, I64(pixels))
            place = [builder.gep(p, [builder.mul(pitch, I64(first_channel))]) for p in (out, residual)]
            bounds, is_whole = (low, high), builder.and_(starts, ends)
            masked = partial(make_masks, first, last) if masks is None else lambda: masks
            write_channels_ir(
                builder, spec, values, masked, channels, *place, pitch, flags, bounds, is_whole, counts, True
            )

        def write(values, first_channel, channels):
            if not is_joined(spec):
                write_part(values, first_channel, channels, first, last, out, residual)
                return
            for_each_image_ir(
                builder, images, first, last, (out, residual), partial(write_part, values, first_channel, channels)
            )

        def write_channels():
            groups = range(0, spec.width, lanes)
            for v in range(spec.vectors):
                rest = builder.sub(channels, I64(v * lanes))
                with builder.if_then(builder.icmp_signed(">", rest, I64(0)), likely=True):
                    values = [[] for _ in range(lanes)]
                    for t0 in groups:
                        rows = [part(v, t0 + t) if t0 + t < spec.width else zero for t in range(lanes)]
                        for lane, value in enumerate(simd.transpose_ir(builder, rows)):
                            values[lane].append((value, t0))
                    write(values, v * lanes, rest)

        def write_pixels():
            vectors = [[part(v, t) for v in range(spec.vectors)] for t in range(spec.width)]
            write_pixels_ir(builder, spec, vectors, channels, images, first, last, (out, residual), flags, (low, high))

        if is_joined(spec):
            are_alone = builder.icmp_signed("==", builder.extract_value(images, 1), I64(1))
            choose_ir(builder, are_alone, None, write_pixels, write_channels)
        elif is_by_channels(spec):
            write_channels()
        else:
            values = [[(part(v, t), v * lanes) for v in range(spec.vectors)] for t in range(spec.width)]
            write(values, 0, channels)
        return context.get_dummy_value()

    number, one = types.intp, spec.dtype
    return types.void(tile, residual, flags, out, number, number, number, number, one, one, images), codegen


def row_of_tiles(
    call, x, weights, ahead, bias, residual, out, channels, first_tile, end_tile, first_tap, end_tap, fetching
):
    """Tiles first_tile..end_tile of one output row, in `channels` channels; x, residual and out point at the row.

    Taps first_tap..end_tap are summed, whole rows of the filter; the others meet nothing but padding. Meanwhile weights
    that are `ahead` are fetched from the last-level cache or memory, some lines beside each channel of as many tiles
    as are `fetching`.
    """
    simd.align_stack()
    spec = call.spec
    pixels = tile_pixels(spec)
    columns, last_start = call.out_columns, call.last_start
    low, high, flags = scalar(spec, call.low), scalar(spec, call.high), (call.has_residual, call.has_bounds)
    fetches_output, out_ahead, x_ahead = call.fetches_output, call.out_ahead, call.x_ahead
    channels_in, pitch_in, block = call.channels, call.source_channel, call.block
    taps, offsets, steps, run = call.taps, call.offsets, call.steps, call.run
    dilation, apart, width, pad_left = call.dilation, call.apart, call.width, call.pad_left
    edges_begin, edges_end, panel = call.edges_begin, call.edges_end, call.panel
    of_row = run * block
    omitted = (taps - (end_tap - first_tap)) // call.run_used * of_row  # weights of a channel
    weights = weights + first_tap // call.run_used * of_row
    # Pixels that lie apart have too many addresses for several channels.
    together = channels_in // CHANNELS_AT_ONCE if CHANNELS_AT_ONCE > 1 and not is_strided(spec) else 0
    for tile in range(first_tile, end_tile):
        # In place, the last tile of a row begins earlier, so as not to read past the input's end; what its neighbour
        # has written is not written again.
        start = min(tile * pixels, last_start)
        place, pitch = out + start, call.out_channel
        lines_ahead = call.lines_ahead if tile - first_tile < fetching else 0
        if fetches_output:
            fetch_output(spec, place + out_ahead, pitch, channels)
        # The reduction stands here, and not in a function of its own, whose tile would be returned through memory.
        total, at, w = _biases(spec, bias, channels), x + (tile * panel if panel else start * apart), weights
        if taps == 1 and first_tap < end_tap:
            at = at + offsets[0]
            for _ in range(together):
                for _ in range(lines_ahead):
                    keep_small()
                    ahead = fetch_line(spec, ahead)
                total = _add_channels(total, at, w, apart, pitch_in)
                at, w = at + CHANNELS_AT_ONCE * pitch_in, w + CHANNELS_AT_ONCE * block
            for _ in range(channels_in - CHANNELS_AT_ONCE * together):
                keep_small()
                for _ in range(0 if together else lines_ahead):
                    keep_small()
                    ahead = fetch_line(spec, ahead)
                if x_ahead:
                    fetch_pixels(spec, at + x_ahead, apart, 2)
                total = _multiply_add(total, at, w, apart, _SINGLE)
                at, w = at + pitch_in, w + block
        elif sees_edges(spec):
            edges = call.edges + 2 * min(tile, max(edges_begin, tile + edges_begin + 1 - edges_end))
            first_edge, last_edge = edges[0], edges[1]
            # Complete tiles, most of a long row, have a loop without branches.
            if edges_begin <= tile < edges_end:
                for _ in range(channels_in):
                    for _ in range(lines_ahead):
                        keep_small()
                        ahead = fetch_line(spec, ahead)
                    for first in range(first_tap, end_tap, run):
                        if fetches_rows(spec):
                            fetch_row(spec, at + (offsets[first] + x_ahead))
                        total = _add_row(total, at + offsets[first], w, block, dilation, None)
                        w = w + of_row
                    at, w = at + pitch_in, w + omitted
            else:
                for _ in range(channels_in):
                    for _ in range(lines_ahead):
                        keep_small()
                        ahead = fetch_line(spec, ahead)
                    for first in range(first_tap, end_tap, run):
                        if fetches_rows(spec):
                            fetch_row(spec, at + (offsets[first] + x_ahead))
                        total = _add_row(total, at + offsets[first], w, block, dilation, (first_edge, last_edge))
                        w = w + of_row
                    at, w = at + pitch_in, w + omitted
        elif sees_masks(spec):
            column = start * stride_of(spec) - pad_left
            for _ in range(channels_in):
                for first in range(first_tap, end_tap, run):
                    if fetches_rows(spec):
                        fetch_row(spec, at + (offsets[first] + x_ahead + column))
                    total = _add_masked_row(total, at + offsets[first], w, column, width)
                    w = w + of_row
                at, w = at + pitch_in, w + omitted
        elif fetches_taps(spec) and x_ahead:
            for _ in range(channels_in):
                for tap in range(first_tap, end_tap):
                    fetch_pixels(spec, at + (offsets[tap] + x_ahead), apart, 1)
                    total = _multiply_add(total, at + offsets[tap], w, apart, _ALL)
                    w = w + steps[tap]
                at, w = at + pitch_in, w + omitted
        elif is_strided(spec):
            # Each pixel has an address of its own: with one loop over all taps they would be computed at each tap.
            for _ in range(channels_in):
                for first_tap_of_row in range(0, taps, run):
                    tap_at = at + offsets[first_tap_of_row]
                    for _ in range(run):
                        keep_small()
                        total = _multiply_add(total, tap_at, w, apart, _OF_ROW)
                        tap_at, w = tap_at + dilation, w + block
                at = at + pitch_in
        else:
            for _ in range(channels_in):
                for _ in range(lines_ahead):
                    keep_small()
                    ahead = fetch_line(spec, ahead)
                for tap in range(first_tap, end_tap):
                    total = _multiply_add(total, at + offsets[tap], w, apart, _ALL)
                    w = w + steps[tap]
                at, w = at + pitch_in, w + omitted
        first, last = tile * pixels - start, min(columns - start, pixels)
        images = start, call.image_pixels, call.image_gap, call.residual_gap
        _store(total, residual + start, flags, place, pitch, channels, first, last, low, high, images)


def direct(call, task, thread):
    """Output channels of some blocks, for some rows and tiles of one image and group."""
    channels, blocks, row_tasks = call.channels, call.blocks, call.row_tasks

    # Task number -> which blocks, which image and group, which rows and tiles.
    pixel_tasks = call.out_depths * row_tasks * call.tile_tasks
    if call.blocks_outermost:
        pixel_task, rest = task % pixel_tasks, task // pixel_tasks
        block_task, rest = rest // (call.images * call.groups), rest % (call.images * call.groups)
    else:
        block_task, rest = task % call.block_tasks, task // call.block_tasks
        pixel_task, rest = rest % pixel_tasks, rest // pixel_tasks
    image, group = rest // call.groups, rest % call.groups
    tile_task, row_task = pixel_task % call.tile_tasks, pixel_task // call.tile_tasks
    depth, row_task = row_task // row_tasks, row_task % row_tasks
    # Shares that differ by one row or tile at most.
    first_row, end_row = row_task * call.out_rows // row_tasks, (row_task + 1) * call.out_rows // row_tasks
    first_tile, end_tile = tile_task * call.tiles // call.tile_tasks, (tile_task + 1) * call.tiles // call.tile_tasks
    first_block = block_task * call.blocks_per_task
    end_block = min(first_block + call.blocks_per_task, blocks)

    first_channel = group * call.group_inputs + call.first_channel
    if call.source == PRIVATE:
        first_column = first_tile * call.pixels
        source, plane = call.scratch + thread * call.scratch_thread, image * call.x_batch
        if call.panel:
            start, lines = plane + first_channel * call.x_channel, source + call.lines
            count = call.panel_channels
            invoke(call.pack_panels, call.panels, call.x, start, source, lines, count, depth, first_tile, end_tile)
        else:
            for channel in range(first_channel, first_channel + channels):
                target = source + (channel - first_channel) * call.source_channel
                start = plane + channel * call.x_channel
                invoke(call.pack_channel, call.packing, call.x, start, target, depth, first_row, first_column)
        # Tiles count columns, or panels, from the begin of the row.
        source = source + -(first_tile * call.panel if call.panel else first_column)
    else:
        start = image * call.source_batch + first_channel * call.source_channel
        start += depth * call.source_depth + first_row * call.source_row
        packed = call.scratch + (thread * call.scratch_thread if call.source == OWN else 0)
        source = call.x + start if call.source == IN_PLACE else packed + start

    bias, residual = call.bias, call.residual
    if call.adds:
        bias, residual = call.no_bias, call.out
    for block in range(first_block, end_block):
        in_group = block * call.block
        weights = call.weights + ((group * blocks + block) * call.weights_block + call.first_weight)
        channel = group * call.group_channels + in_group
        ahead, fetching = weights + call.weights_block, call.tiles_fetching
        row_of_tiles, whole = call.row_of_tiles, call.whole_tiles
        if block == blocks - 1:
            row_of_tiles, whole = call.row_of_last, call.whole_of_last
        for row in range(first_row, end_row):
            place = channel * call.out_channel + (depth * call.out_rows + row) * call.out_row + call.first_column
            taps = call.row_taps + 2 * row
            # The last tile of a row may be narrower. It has a routine of its own, to which it is the first one.
            for is_rest in range(1 + (whole < end_tile)):
                skip = whole * call.pixels if is_rest else 0
                begin, end = (0, 1) if is_rest else (first_tile, min(end_tile, whole))
                invoke(
                    call.row_of_rest if is_rest else row_of_tiles,
                    call,
                    source + ((row - first_row) * call.source_row + skip * call.apart),
                    weights,
                    ahead,
                    bias + channel,
                    residual + (image * call.residual_batch + place + skip),
                    call.out + (image * call.out_batch + place + skip),
                    call.group_channels - in_group,
                    begin,
                    end,
                    taps[0],
                    taps[1],
                    fetching,
                )
                ahead, fetching = ahead + (end - begin) * call.tile_ahead, fetching - (end - begin)
