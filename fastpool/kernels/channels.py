"""Lanes on channels: rows of pixels of many channels to vectors of channels, and back."""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.epilogue import write_channels_ir
from fastpool.kernels.simd import I64, Vector


@intrinsic
def transpose_in(typingctx, spec, source, pitch, channels, first, last, target):
    """Columns first..last of a row of `channels` channels, `pitch` apart: one vector of channels a column, else 0.

    Lanes beyond the channels repeat the last one; weights that are zero await them.
    """

    def codegen(context, builder, sig, args):
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
def transpose_out(typingctx, spec, source, out, residual, flags, pitch, channels, columns, low, high):
    """`columns` vectors of channels as rows of `channels` channels, `pitch` apart, with residual and activation."""

    def codegen(context, builder, sig, args):
        _, source, out, residual, flags, pitch, channels, columns, low, high = args
        flags = [builder.extract_value(flags, i) for i in range(2)]
        lanes, vector = spec.lanes, simd.vector_ir(spec)
        low, high = simd.splat_ir(builder, low, lanes), simd.splat_ir(builder, high, lanes)
        mask = simd.range_mask_ir(builder, I64(0), columns, lanes)
        rows = [simd.load_ir(builder, builder.gep(source, [I64(t * lanes)]), vector, spec.size) for t in range(lanes)]
        values = [[(value, 0, mask)] for value in simd.transpose_ir(builder, rows)]
        write_channels_ir(builder, spec, values, channels, out, residual, pitch, flags, (low, high))
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
