"""Extrema of floats at the speed of the processor's instructions, which lose NaN, and with care.

NaN would cost as much as the extrema themselves: it is only looked for, and what there is one in is done again by the
code of the spec `with_care`.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.pool import combine_ir
from fastpool.kernels.simd import I64, known
from fastpool.routines.pool import PLAIN, loses_nan, operation_of


def combine_fast_ir(builder, spec, kept, new):
    """Combine two values, or two vectors; a NaN may be lost where `loses_nan` says so."""
    if not loses_nan(spec):
        return combine_ir(builder, spec, kept, new)
    comparison = "<" if operation_of(spec) == "min" else ">"
    return builder.select(builder.fcmp_ordered(comparison, new, kept), new, kept)


def either_nan_ir(builder, spec, found, values):
    """Lanes where there was a NaN or is one; a comparison tells of two vectors whether either has one."""
    if loses_nan(spec):
        for a, b in zip(values[::2], [*values[1::2], values[-1]], strict=False):
            found = builder.or_(found, builder.fcmp_unordered("uno", a, b))
    return found


@intrinsic
def no_lanes(typingctx, spec):
    """Mask of no lane."""
    bits = ir.VectorType(simd.I1, spec.lanes)
    return simd.Mask(spec.lanes)(spec), lambda context, builder, sig, args: ir.Constant(bits, None)


@intrinsic
def either(typingctx, a, b):
    """Lanes of two masks."""
    return a(a, b), lambda context, builder, sig, args: builder.or_(*args)


@intrinsic
def any_lane(typingctx, mask):
    """Whether a mask has a lane."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.lanes))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(mask), codegen


@known
def may_lose(spec):
    """Whether `_pool_rows` has to be asked; where it never loses a NaN the compiler drops the second attempt."""
    return loses_nan(spec)


@intrinsic
def with_care(typingctx, spec):
    """Spec of the same windows with NaN kept wherever it is; of no effect where none is lost."""
    careful = spec
    if loses_nan(spec):
        careful = simd.Spec(spec.dtype, spec.lanes, spec.vectors, spec.width, _careful(spec.variant))
    return careful(spec), lambda context, builder, sig, args: context.get_dummy_value()


def _careful(variant):
    """Variant with the word that says so; the stride stays the last."""
    head, _, stride = variant.partition(" stride ")
    return f"{head} careful stride {stride}"


@intrinsic
def finish_code(typingctx, spec, code):
    """What becomes of a combined value; nothing, of extrema, for which the compiler drops the rest."""

    def codegen(context, builder, sig, args):
        return args[1] if operation_of(spec) in ("sum", "squaresum") else I64(PLAIN)

    return types.intp(spec, types.intp), codegen
