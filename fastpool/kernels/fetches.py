"""What kernels fetch beside their sums: lines that are read or written next come nearer meanwhile."""

from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels._jit import device
from fastpool.kernels.simd import I64, known, prefetch
from fastpool.kernels.tile_variants import is_by_channels, row_of
from fastpool.routines.direct import CHANNELS_AHEAD, is_edged, is_masked


@known
def _per_line(spec):
    """Elements of a cache line."""
    return 64 // spec.size


@device
def fetch_plane(spec, place, elements):
    """Bring near so many elements."""
    for element in range(0, elements, _per_line(spec)):
        prefetch(place + element)


@intrinsic
def fetch_output(typingctx, spec, out, pitch, channels):
    """Fetch the lines that a tile will be written to: they arrive while it, or one before it, is summed."""

    def codegen(context, builder, sig, args):
        _, out, pitch, channels = args
        lanes = spec.lanes
        count, pixels = (
            (spec.vectors * lanes, spec.width) if is_by_channels(spec) else (spec.width, spec.vectors * lanes)
        )
        last_one = builder.sub(channels, I64(1))
        for channel in range(count):
            index = builder.select(builder.icmp_signed("<", I64(channel), channels), I64(channel), last_one)
            row = builder.gep(out, [builder.mul(pitch, index)])
            for pixel in range(0, pixels, lanes):
                simd.prefetch_ir(builder, builder.gep(row, [I64(pixel)]), to_write=True)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, out, number, number), codegen


@intrinsic
def fetch_line(typingctx, spec, place):
    """Bring a cache line into the level-2 cache; returns the place of the next one."""

    def codegen(context, builder, sig, args):
        _, place = args
        simd.prefetch_ir(builder, place, level=2)
        return builder.gep(place, [I64(64 // spec.size)])

    return place(spec, place), codegen


@intrinsic(prefer_literal=True)
def fetch_pixels(typingctx, spec, place, apart, level):
    """Bring the pixels of a tile into the cache of a level: each vector, or the first pixel and the last."""

    def codegen(context, builder, sig, args):
        _, place, apart, _ = args
        by_channels = is_by_channels(spec)
        places = (
            [I64(0), builder.mul(apart, I64(spec.width - 1))]
            if by_channels
            else [I64(v * spec.lanes) for v in range(spec.vectors)]
        )
        for offset in places:
            simd.prefetch_ir(builder, builder.gep(place, [offset]), level=level.literal_value)
        return context.get_dummy_value()

    return types.void(spec, place, types.intp, level), codegen


@known
def fetches_taps(spec):
    """Whether tiles may fetch the pixels of each tap: those of runs of columns, which are for many registers."""
    return int(spec.variant == "channels" and CHANNELS_AHEAD == 0)


@known
def fetches_rows(spec):
    """Whether edged or masked tiles fetch rows that are read later.

    Beside 7 taps not all of an edged tile would stay in registers.
    """
    return int(_is_far(spec) or (is_edged(spec.variant) and CHANNELS_AHEAD > 0 and row_of(spec)[0] <= 5))


def _is_far(spec):
    """Whether x lies in memory."""
    return spec.variant.endswith(" far")


@intrinsic
def fetch_row(typingctx, spec, place):
    """Bring the pixels near that a tile sees of a row: a line of them from place on, or a pixel at each end."""

    def codegen(context, builder, sig, args):
        taps, apart = row_of(spec)
        ends = 0, (spec.width - 1) * apart + taps - 1
        lines = range(0, spec.vectors * spec.lanes * apart, 64 // spec.size)
        for element in lines if is_masked(spec.variant) else ends:
            simd.prefetch_ir(builder, builder.gep(args[1], [I64(element)]), level=2 if _is_far(spec) else 1)
        return context.get_dummy_value()

    return types.void(spec, place), codegen
