"""Panels: pixels packed tile by tile, all that a tile is multiplied with behind each other.

In place, a tile reads some bytes of a line in each channel, and channels lie pages apart: with few registers a tile is
narrow, and finishes a channel before the next one's line has come. A panel is read from its begin to its end, as the
weights are.

    [tile][channel][tap][pixel of the tile]

Where there are taps, padding or strides, channels are packed by `pack` first, one at a time. Of several taps the rows
are then joined to lines, one for each column of the filter and phase of the rows: each tap is a part of a line, from
which whole vectors are spread over the panels.
"""

from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device, quickly
from fastpool.kernels.calls import invoke
from fastpool.kernels.simd import I64, known
from fastpool.kernels.stores import store_some_ir
from fastpool.kernels.tile_variants import tile_pixels
from fastpool.routines.panels import PANEL_CHANNELS, TOGETHER


def _pixels_of(spec):
    return spec.width if spec.variant != "pixels" else spec.vectors * spec.lanes


@known
def _reach(spec):
    """Pixels that are loaded for a tile, in whole vectors."""
    return -(-_pixels_of(spec) // spec.lanes) * spec.lanes


def _copy_ir(builder, spec, source, target, left=None, beyond=False):
    """Pixels of a tile of one channel, of which `left` are left: then the others are 0.

    What lies `beyond` the tile, up to a vector, may be written if it is written anew after that.
    """
    lanes, vector = spec.lanes, simd.vector_ir(spec)
    for first in range(0, _pixels_of(spec), lanes):
        place = builder.gep(source, [I64(first)])
        if left is None:
            value = simd.load_ir(builder, place, vector, spec.size)
        else:
            mask = simd.range_mask_ir(builder, I64(0), left, lanes, first)
            value = simd.masked_load_ir(builder, place, vector, mask, simd.ir.Constant(vector, None), spec.size)
        count = lanes if beyond else min(lanes, _pixels_of(spec) - first)
        store_some_ir(builder, value, builder.gep(target, [I64(first)]), count, spec.size)


@intrinsic
def _copy_together(typingctx, spec, source, pitch, target):
    """Pixels of a tile of some channels, `pitch` apart; those of the next channels are fetched."""

    def codegen(context, builder, sig, args):
        _, source, pitch, target = args
        for channel in range(TOGETHER):
            row = builder.gep(source, [builder.mul(pitch, I64(channel))])
            simd.prefetch_ir(builder, builder.gep(source, [builder.mul(pitch, I64(channel + TOGETHER))]))
            place = builder.gep(target, [I64(channel * _pixels_of(spec))])
            _copy_ir(builder, spec, row, place, beyond=channel < TOGETHER - 1)
        return context.get_dummy_value()

    return types.void(spec, source, types.intp, target), codegen


@intrinsic
def _copy_part(typingctx, spec, source, target, left):
    """Pixels of a tile of one channel, of which `left` are left."""

    def codegen(context, builder, sig, args):
        _copy_ir(builder, spec, *args[1:])
        return context.get_dummy_value()

    return types.void(spec, source, target, types.intp), codegen


@intrinsic
def _copy_row(typingctx, spec, source, target, count):
    """Copy at least `count` elements, in whole vectors."""

    def codegen(context, builder, sig, args):
        _, source, target, count = args
        with cgutils.for_range_slice(builder, I64(0), count, I64(spec.lanes), I64) as (first, _):
            value = simd.load_ir(builder, builder.gep(source, [first]), simd.vector_ir(spec), spec.size)
            simd.store_ir(builder, value, builder.gep(target, [first]), spec.size)
        return context.get_dummy_value()

    return types.void(spec, source, target, types.intp), codegen


@intrinsic
def _clear_tile(typingctx, spec, target):
    """Write zeros where a tile may read beyond the last row."""

    def codegen(context, builder, sig, args):
        _, target = args
        for first in range(0, _pixels_of(spec), spec.lanes):
            zero = simd.ir.Constant(simd.vector_ir(spec), None)
            simd.store_ir(builder, zero, builder.gep(target, [I64(first)]), spec.size)
        return context.get_dummy_value()

    return types.void(spec, target), codegen


def _copying(beyond):
    """Intrinsic that copies the pixels of a tile that a tap sees."""

    @intrinsic
    def copy(typingctx, spec, source, target):
        def codegen(context, builder, sig, args):
            _copy_ir(builder, spec, *args[1:], beyond=beyond)
            return context.get_dummy_value()

        return types.void(spec, source, target), codegen

    return copy


_copy_last, _copy_tap = _copying(False), _copying(True)


@device
def _flatten(call, packed, lines):
    """Lines of the rows of a packed channel without what lies between them, one for each column of taps and phase."""
    spec, columns, pitch = call.spec, call.row_pixels, call.source_row
    for number in range(call.line_count):
        row, line = packed + call.line_begins[number], lines + number * call.line
        for _ in range(call.rows):
            _copy_row(spec, row, line, columns)
            row, line = row + pitch, line + columns
        _clear_tile(spec, line)


@quickly
def pack_panels(call, x, plane, target, scratch, channels, depth, first_tile, end_tile):
    """Pack tiles first_tile..end_tile of a depth of some channels, the first of which begins at element `plane` of x.

    `scratch` has room for lines, and for a packed channel.
    """
    simd.align_stack()
    spec = call.spec
    width, panel, taps, line = tile_pixels(spec), call.panel, call.taps, call.line
    tiles, start = end_tile - first_tile, first_tile * width
    first_row = start // call.row_pixels
    skipped = start - first_row * call.row_pixels
    if taps > 1:
        packed = scratch + call.line_count * line
        for channel in range(channels):
            invoke(call.pack_channel, call.packing, x, plane + channel * call.x_channel, packed, depth, first_row, 0)
            _flatten(call, packed, scratch)
            source, place = scratch + skipped, target + channel * taps * width
            for _ in range(tiles):
                for tap in range(taps - 1):
                    _copy_tap(spec, source + call.offsets[tap], place + tap * width)
                _copy_last(spec, source + call.offsets[taps - 1], place + (taps - 1) * width)
                source, place = source + width, place + panel
        return
    left = call.pixels - start
    whole = tiles  # tiles loaded whole
    if not call.is_packed:
        whole = min(tiles, (left - _reach(spec)) // width + 1 if left >= _reach(spec) else 0)
    for first in range(0, channels, TOGETHER):
        count = min(TOGETHER, channels - first)
        source, pitch, place = scratch + skipped, line, target + first * width
        if call.is_packed:
            for number in range(count):
                begin, packed = plane + (first + number) * call.x_channel, scratch + number * line
                invoke(call.pack_channel, call.packing, x, begin, packed, depth, first_row, 0)
                _clear_tile(spec, packed + call.rows * call.row_pixels)
        else:
            begin = plane + first * call.x_channel + depth * call.x_depth
            source, pitch = x + (begin + start), call.x_channel
        for tile in range(tiles):
            if count == TOGETHER and tile < whole:
                _copy_together(spec, source, pitch, place)
            else:
                for number in range(count):
                    _copy_part(spec, source + number * pitch, place + number * width, left - tile * width)
            source, place = source + width, place + panel


def panel_input(call, task, thread):
    """Pack a depth of some channels of an image into the scratch of all threads or of this one."""
    plane_number, first = task // call.channel_tasks, task % call.channel_tasks * PANEL_CHANNELS
    image, depth = plane_number // call.depths, plane_number % call.depths
    plane = image * call.x_batch + (call.first_channel + first) * call.x_channel
    place = image * call.packed_batch + depth * call.packed_depth + first * call.step
    target = call.scratch + (thread * call.own + place)
    scratch = call.scratch + (call.lines + thread * call.scratch_thread)
    channels = min(PANEL_CHANNELS, call.channels - first)
    invoke(call.pack_panels, call.panels, call.x, plane, target, scratch, channels, depth, 0, call.tiles)
