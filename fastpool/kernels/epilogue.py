"""What happens to a finished sum on its way to memory: residual, activation, masked store."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64


def write_ir(builder, spec, value, out, residual, mask, low, high):
    """out[:] = clamp(value + residual[:], low, high) in the lanes of `mask`; bounds are vectors, residual or None."""
    if residual is not None:
        zero = ir.Constant(value.type, None)
        value = simd.add_ir(builder, value, simd.masked_load_ir(builder, residual, value.type, mask, zero, spec.size))
    value = simd.clamp_ir(builder, value, low, high)
    simd.masked_store_ir(builder, value, out, mask, spec.size)


def write_channels_ir(builder, spec, values, channels, out, residual, has_residual, pitch, low, high):
    """Write the first `channels` of `values`, of which each is a channel: a list of (vector, first pixel, mask).

    Channels are `pitch` apart in out and residual. The usual cases, all channels with or without a residual, are
    straight code, which the compiler can interleave: a branch for each channel cost a third of the time of an output
    transform.
    """

    def write(channel, with_residual):
        for value, pixel, mask in values[channel]:
            offset = builder.add(builder.mul(pitch, I64(channel)), I64(pixel))
            more = builder.gep(residual, [offset]) if with_residual else None
            write_ir(builder, spec, value, builder.gep(out, [offset]), more, mask, low, high)

    def write_all(guarded):
        def each(with_residual):
            for channel in range(len(values)):
                if guarded:
                    with builder.if_then(builder.icmp_signed("<", I64(channel), channels), likely=True):
                        write(channel, with_residual)
                else:
                    write(channel, with_residual)

        with builder.if_else(builder.icmp_signed("==", has_residual, I64(0)), likely=True) as (plain, more):
            with plain:
                each(False)
            with more:
                each(True)

    with builder.if_else(builder.icmp_signed(">=", channels, I64(len(values))), likely=True) as (complete, other):
        with complete:
            write_all(False)
        with other:
            write_all(True)
