"""Panels: pixels packed tile by tile, all channels of a tile behind each other, for filters of one tap.

In place, a tile reads some bytes of a line in each channel, and channels lie pages apart: with few registers a tile is
narrow, and finishes a channel before the next one's line has come. A panel is read from its begin to its end.

    [tile][channel][pixel of the tile]
"""

from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.calls import invoke
from fastpool.kernels.direct import tile_pixels
from fastpool.kernels.simd import I64, known
from fastpool.routines.panels import PANEL_CHANNELS, TOGETHER


def _pixels_of(spec):
    return spec.width if spec.variant != "pixels" else spec.vectors * spec.lanes


@known
def _reach(spec):
    """Pixels that are loaded for a tile, in whole vectors."""
    return -(-_pixels_of(spec) // spec.lanes) * spec.lanes


def _copy_ir(builder, spec, source, target, left=None):
    """Pixels of a tile of one channel, of which `left` are left: then the others are 0."""
    lanes, vector = spec.lanes, simd.vector_ir(spec)
    for first in range(0, _pixels_of(spec), lanes):
        place = builder.gep(source, [I64(first)])
        if left is None:
            value = simd.load_ir(builder, place, vector, spec.size)
        else:
            mask = simd.range_mask_ir(builder, I64(0), left, lanes, first)
            value = simd.masked_load_ir(builder, place, vector, mask, simd.ir.Constant(vector, None), spec.size)
        count = min(lanes, _pixels_of(spec) - first)
        simd.store_some_ir(builder, value, builder.gep(target, [I64(first)]), count, spec.size)


@intrinsic
def _copy_together(typingctx, spec, source, pitch, target):
    """Pixels of a tile of some channels, `pitch` apart; those of the next channels are fetched."""

    def codegen(context, builder, sig, args):
        _, source, pitch, target = args
        for channel in range(TOGETHER):
            row = builder.gep(source, [builder.mul(pitch, I64(channel))])
            simd.prefetch_ir(builder, builder.gep(source, [builder.mul(pitch, I64(channel + TOGETHER))]))
            _copy_ir(builder, spec, row, builder.gep(target, [I64(channel * _pixels_of(spec))]))
        return context.get_dummy_value()

    return types.void(spec, source, types.intp, target), codegen


@intrinsic
def _copy_part(typingctx, spec, source, target, left):
    """Pixels of a tile of one channel, of which `left` are left."""

    def codegen(context, builder, sig, args):
        _copy_ir(builder, spec, *args[1:])
        return context.get_dummy_value()

    return types.void(spec, source, target, types.intp), codegen


@device
def _gather(call, x, line, first, end):
    """Pixels first..end of a channel, one after the other."""
    columns, pitch = call.row_pixels, call.x_pixel
    row, column = first // columns, first % columns
    while first < end:
        count, source = min(columns - column, end - first), x + (row * call.x_row + column * pitch)
        for _ in range(count):
            line[0] = source[0]
            source, line = source + pitch, line + 1
        first, row, column = first + count, row + 1, 0


def pack_panels(call, x, target, lines, channels, first_tile, end_tile):
    """Pack tiles first_tile..end_tile of some channels, the first of which x points at."""
    simd.align_stack()
    spec = call.spec
    width, pitch, panel, line = tile_pixels(spec), call.x_channel, call.panel, call.line
    start, end = first_tile * width, min(end_tile * width, call.pixels)
    tiles, left = end_tile - first_tile, call.pixels - start
    if line == 0:
        x = x + start
    whole = min(tiles, (left - _reach(spec)) // width + 1 if left >= _reach(spec) else 0)  # that are loaded whole
    for first in range(0, channels, TOGETHER):
        count = min(TOGETHER, channels - first)
        source, between, place = x + first * pitch, pitch, target + first * width
        if line:
            for channel in range(count):
                _gather(call, source + channel * pitch, lines + channel * line, start, end)
            source, between = lines, line
        for tile in range(tiles):
            if count == TOGETHER and tile < whole:
                _copy_together(spec, source, between, place)
            else:
                for channel in range(count):
                    _copy_part(spec, source + channel * between, place + channel * width, left - tile * width)
            source, place = source + width, place + panel


def panel_input(call, task, thread):
    """Pack some channels of an image into the shared scratch."""
    image, first = task // call.channel_tasks, task % call.channel_tasks * PANEL_CHANNELS
    source = call.x + (image * call.x_batch + first * call.x_channel)
    target = call.scratch + (image * call.packed_batch + first * call.width)
    lines = call.scratch + (call.lines + thread * call.scratch_thread)
    channels = min(PANEL_CHANNELS, call.channels - first)
    invoke(call.pack_panels, call.panels, source, target, lines, channels, 0, call.tiles)
