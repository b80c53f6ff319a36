"""Element types in LLVM, and conversions between them: of what is read, and of what is written."""

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError

from fastpool.machine.processor import TARGET

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)

#: Targets that convert float16 in one instruction; elsewhere LLVM may call a library that is not there.
_CONVERTING = ("avx512", "neon")


class Half(types.Type):
    """float16 or bfloat16: read as float32, and rounded to 16 bits where it is written; nothing computes with it."""

    bitwidth = 16


#: Elements that Numba has no type for, or no arithmetic.
HALVES = {name: Half(name) for name in ("float16", "bfloat16")}


def element(dtype):
    """LLVM type of one element of the Numba type `dtype`."""
    if dtype == types.float32:
        return ir.FloatType()
    if dtype == types.float64:
        return ir.DoubleType()
    if isinstance(dtype, types.Integer | Half):
        return ir.IntType(dtype.bitwidth)
    raise TypingError(f"no vectors of {dtype}")


def _like(value, kind):
    """LLVM type of one `kind` for each lane of a vector, or of one where `value` is a scalar."""
    return ir.VectorType(kind, value.type.count) if isinstance(value.type, ir.VectorType) else kind


def _all_equal(kind, value):
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def widen_ir(builder, value, source, target):
    """Convert elements or vectors of `source`, as they were loaded, to the type `target`."""
    if source == target:
        return value
    wide = _like(value, element(target))
    if isinstance(source, types.Integer):
        if isinstance(target, types.Integer):
            return builder.sext(value, wide) if source.signed else builder.zext(value, wide)
        return builder.sitofp(value, wide) if source.signed else builder.uitofp(value, wide)
    if source.name == "float16" and TARGET.name in _CONVERTING:
        return builder.fpext(builder.bitcast(value, _like(value, ir.HalfType())), wide)
    kind = _like(value, I32)
    constant = lambda number: _all_equal(kind, number)  # noqa: E731
    bits = builder.zext(value, kind)
    if source.name == "bfloat16":
        return builder.bitcast(builder.shl(bits, constant(16)), wide)
    # Exponents of float16 are 112 less; the product rights subnormal numbers, too. Those of NaN and infinity are all 1.
    size = builder.and_(bits, constant(0x7FFF))
    sign = builder.shl(builder.and_(bits, constant(0x8000)), constant(16))
    shifted = builder.shl(size, constant(13))
    number = builder.fmul(builder.bitcast(shifted, wide), _all_equal(wide, 2.0**112))
    odd = builder.or_(shifted, constant(0x7F800000))
    is_odd = builder.icmp_unsigned(">=", size, constant(0x7C00))
    found = builder.select(is_odd, odd, builder.bitcast(number, kind))
    return builder.bitcast(builder.or_(found, sign), wide)


def narrow_ir(builder, value, target):
    """Round float32 elements or vectors to a `Half`, half to even; the bits of it."""
    short = _like(value, ir.IntType(16))
    if target.name == "float16" and TARGET.name in _CONVERTING:
        return builder.bitcast(builder.fptrunc(value, _like(value, ir.HalfType())), short)
    kind = _like(value, I32)
    constant = lambda number: _all_equal(kind, number)  # noqa: E731
    bits = builder.bitcast(value, kind)
    is_nan = builder.fcmp_unordered("uno", value, value)
    if target.name == "bfloat16":
        even = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        rounded = builder.lshr(builder.add(bits, builder.add(even, constant(0x7FFF))), constant(16))
        return builder.trunc(builder.select(is_nan, constant(0x7FC0), rounded), short)
    size = builder.and_(bits, constant(0x7FFFFFFF))
    sign = builder.lshr(builder.and_(bits, constant(0x80000000)), constant(16))
    even = builder.and_(builder.lshr(size, constant(13)), constant(1))
    rebased = builder.sub(builder.add(size, builder.add(even, constant(0xFFF))), constant(112 << 23))
    found = builder.lshr(rebased, constant(13))
    # Subnormal numbers: adding 0.5 lets the processor round at the right bit, which is then the last.
    half = _all_equal(value.type, 0.5)
    tiny = builder.bitcast(builder.fadd(builder.bitcast(size, value.type), half), kind)
    is_tiny = builder.icmp_unsigned("<", size, constant(113 << 23))
    found = builder.select(is_tiny, builder.sub(tiny, constant(0x3F000000)), found)
    is_huge = builder.icmp_unsigned(">=", size, constant(0x477FF000))  # 65520 and more
    found = builder.select(is_huge, constant(0x7C00), found)
    found = builder.select(is_nan, constant(0x7E00), found)
    return builder.trunc(builder.or_(found, sign), short)
