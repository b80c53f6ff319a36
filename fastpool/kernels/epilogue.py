"""What happens to a finished sum on its way to memory: residual, activation, masked store."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64


def _plus_ir(builder, spec, value, residual, mask):
    """Add residual[:] in the lanes of `mask`; the others stay as they are, down to the sign of a zero."""
    element = value.type.element
    nothing = -0.0 if isinstance(element, ir.FloatType | ir.DoubleType) else 0
    fill = ir.Constant(value.type, [ir.Constant(element, nothing)] * value.type.count)
    return simd.add_ir(builder, value, simd.masked_load_ir(builder, residual, value.type, mask, fill, spec.size))


def write_ir(builder, spec, value, out, residual, mask, bounds):
    """out[:] = clamp(value + residual[:], *bounds) in the lanes of `mask`; residual and bounds may be None."""
    if residual is not None:
        value = _plus_ir(builder, spec, value, residual, mask)
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
            more = builder.gep(residual, [offset]) if with_residual is not False else None
            if with_residual is None:  # known at run time only
                present = builder.select(has_residual, mask, ir.Constant(mask.type, None))
                value = _plus_ir(builder, spec, value, more, present)
                more = None
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
        # Rare: one way for all, as each takes its time to compile. Bounds that are open change nothing, and neither
        # does a residual of nothing.
        for channel in range(len(values)):
            with builder.if_then(builder.icmp_signed("<", I64(channel), channels), likely=True):
                write(channel, None, True)

    choose(builder.icmp_signed(">=", channels, I64(len(values))), True, complete, incomplete)
