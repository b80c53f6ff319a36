"""What happens to a finished sum on its way to memory: residual, activation, masked store."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64


def write_ir(builder, spec, value, out, residual, mask, bounds):
    """out[:] = clamp(value + residual[:], *bounds) in the lanes of `mask`; residual and bounds may be None."""
    if residual is not None:
        zero = ir.Constant(value.type, None)
        value = simd.add_ir(builder, value, simd.masked_load_ir(builder, residual, value.type, mask, zero, spec.size))
    if bounds is not None:
        value = simd.clamp_ir(builder, value, *bounds)
    simd.masked_store_ir(builder, value, out, mask, spec.size)


def write_channels_ir(builder, spec, values, channels, out, residual, pitch, flags, bounds):
    """Write the first `channels` of `values`, of which each is a channel: a list of (vector, first pixel, mask).

    Channels are `pitch` apart in out and residual; `flags` say whether there is a residual, and whether there are
    bounds. The usual cases, all channels, are straight code, which the compiler can interleave: a branch for each
    channel cost a third of the time of an output transform.
    """
    has_residual, has_bounds = (builder.icmp_signed("!=", flag, I64(0)) for flag in flags)

    def write(channel, with_residual, with_bounds):
        for value, pixel, mask in values[channel]:
            offset = builder.add(builder.mul(pitch, I64(channel)), I64(pixel))
            more = builder.gep(residual, [offset]) if with_residual else None
            write_ir(builder, spec, value, builder.gep(out, [offset]), more, mask, bounds if with_bounds else None)

    def write_all(with_residual, with_bounds):
        for channel in range(len(values)):
            write(channel, with_residual, with_bounds)

    def choose(flag, likely, yes, no):
        with builder.if_else(flag, likely=likely) as (then, other):
            with then:
                yes()
            with other:
                no()

    def complete():
        choose(
            has_residual,
            False,
            lambda: write_all(True, True),
            lambda: choose(has_bounds, None, lambda: write_all(False, True), lambda: write_all(False, False)),
        )

    def incomplete():
        for channel in range(len(values)):
            with builder.if_then(builder.icmp_signed("<", I64(channel), channels), likely=True):
                choose(
                    has_residual,
                    False,
                    lambda channel=channel: write(channel, True, True),
                    lambda channel=channel: write(channel, False, True),
                )

    choose(builder.icmp_signed(">=", channels, I64(len(values))), True, complete, incomplete)
