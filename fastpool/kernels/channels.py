"""Lanes on channels: rows of pixels of many channels to vectors of channels, and back."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.epilogue import write_channels_ir
from fastpool.kernels.phases import phases_ir
from fastpool.kernels.simd import I64, Vector


def is_folded(spec):
    """Whether the phases of a channel lie in lanes beside each other."""
    return spec.variant.endswith(" folded")


@intrinsic
def transpose_in(typingctx, spec, source, pitch, channels, first, last, target):
    """Columns first..last of a row of `channels` channels, `pitch` apart: one vector of channels a column, else 0.

    Lanes beyond the channels repeat the last one. Nothing where phases are folded, as `fold_in` is called.
    """

    def codegen(context, builder, sig, args):
        if is_folded(spec):
            return context.get_dummy_value()
        _, source, pitch, channels, first, last, target = args
        vector = simd.vector_ir(spec)
        zero = ir.Constant(vector, None)
        inside = simd.range_mask_ir(builder, first, last, spec.lanes)
        rows = []
        for lane in range(spec.lanes):
            last_one = builder.sub(channels, I64(1))
            channel = builder.select(builder.icmp_signed("<", I64(lane), channels), I64(lane), last_one)
            place = builder.gep(source, [builder.mul(pitch, channel)])
            rows.append(simd.masked_load_ir(builder, place, vector, inside, zero, spec.size))
        for column, value in enumerate(simd.transpose_ir(builder, rows)):
            simd.store_ir(builder, value, builder.gep(target, [I64(column * spec.lanes)]), spec.size)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, source, number, number, number, number, target), codegen


@intrinsic
def fold_in(typingctx, spec, plane, rows, x_row, first, width, pitch, channels, target):
    """Columns of `channels` channels, `pitch` apart, whose phases modulo the stride s are channels of their own.

    A vector holds phases (0, 0), (0, 1), ... (s-1, s-1) of a channel, then those of the next one: column j has, in
    phase (a, b), element ``first + j*s + b`` of row ``rows[a]``; 0 beyond `width`, and where that row is -1. Lanes
    beyond the channels repeat the last one. Nothing where phases are not folded, as `transpose_in` is called.
    """
    stride = int(spec.variant.split()[2])

    def codegen(context, builder, sig, args):
        if not is_folded(spec):
            return context.get_dummy_value()
        _, plane, rows, x_row, first, width, pitch, channels, target = args
        lanes, vector = spec.lanes, simd.vector_ir(spec)
        zero = ir.Constant(vector, None)
        parts = []  # of each row: where it begins, and which of its next s * lanes elements there are
        for a in range(stride):
            row = builder.load(builder.gep(rows, [I64(a)]), align=8)
            exists = builder.icmp_signed(">=", row, I64(0))
            place = builder.add(builder.mul(builder.select(exists, row, I64(0)), x_row), first)
            low, high = builder.neg(first), builder.select(exists, builder.sub(width, first), I64(0))
            parts.append((place, [simd.range_mask_ir(builder, low, high, lanes, lanes * b) for b in range(stride)]))
        found = []
        for lane in range(lanes // stride**2):
            last_one = builder.sub(channels, I64(1))
            channel = builder.select(builder.icmp_signed("<", I64(lane), channels), I64(lane), last_one)
            start = builder.gep(plane, [builder.mul(pitch, channel)])
            for place, masks in parts:
                loaded = [
                    simd.masked_load_ir(
                        builder, builder.gep(start, [builder.add(place, I64(lanes * b))]), vector, mask, zero, spec.size
                    )
                    for b, mask in enumerate(masks)
                ]
                found += phases_ir(builder, loaded)
        for column, value in enumerate(simd.transpose_ir(builder, found)):
            simd.store_ir(builder, value, builder.gep(target, [I64(column * lanes)]), spec.size)
        return context.get_dummy_value()

    number = types.intp
    return types.void(spec, plane, rows, number, number, number, number, number, target), codegen


@intrinsic
def transpose_out(typingctx, spec, source, out, residual, flags, pitch, channels, columns, low, high):
    """`columns` vectors of channels as rows of `channels` channels, `pitch` apart, with residual and activation."""

    def codegen(context, builder, sig, args):
        _, source, out, residual, flags, pitch, channels, columns, low, high = args
        flags = [builder.extract_value(flags, i) for i in range(2)]
        lanes, vector = spec.lanes, simd.vector_ir(spec)
        low, high = simd.splat_ir(builder, low, lanes), simd.splat_ir(builder, high, lanes)

        def make_masks():
            return [simd.range_mask_ir(builder, I64(0), columns, lanes)]

        rows = [simd.load_ir(builder, builder.gep(source, [I64(t * lanes)]), vector, spec.size) for t in range(lanes)]
        values = [[(value, 0)] for value in simd.transpose_ir(builder, rows)]
        is_whole = builder.icmp_signed(">=", columns, I64(lanes))
        bounds = low, high
        write_channels_ir(
            builder, spec, values, make_masks, channels, out, residual, pitch, flags, bounds, is_whole, [lanes], False
        )
        return context.get_dummy_value()

    number, one = types.intp, spec.dtype
    return types.void(spec, source, out, residual, flags, number, number, number, one, one), codegen


@intrinsic
def masked_vector(typingctx, spec, pointer, count):
    """First `count` elements at `pointer`, then zeros."""

    def codegen(context, builder, sig, args):
        vector = simd.vector_ir(spec)
        mask = simd.range_mask_ir(builder, I64(0), args[2], spec.lanes)
        return simd.masked_load_ir(builder, args[1], vector, mask, ir.Constant(vector, None), spec.size)

    return Vector(spec.dtype, spec.lanes)(spec, pointer, types.intp), codegen


@intrinsic
def store_tile(typingctx, tile, target):
    """Write the tile as [column][vector][lane]."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        for t in range(spec.width):
            for i in range(spec.vectors):
                place = builder.gep(args[1], [I64((t * spec.vectors + i) * spec.lanes)])
                simd.store_ir(builder, builder.extract_value(args[0], i * spec.width + t), place, spec.size)
        return context.get_dummy_value()

    return types.void(tile, target), codegen
