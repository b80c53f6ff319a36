"""Exponentials and what is made of them, on vectors of float32; NaN and infinities are kept."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I32

_LOG2_E = 1.4426950408889634
#: ln 2 in two parts, of which products of the first with small integers are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
#: Beyond these, results are 0 and infinity.
_LEAST, _MOST = -104.0, 89.0
#: Added to a small number, it leaves the nearest integer in the lowest bits.
_ROUNDING = 1.5 * 2.0**23
#: Coefficients of Cephes (Moshier 1992), highest power first: (exp(x) - 1 - x) / x**2 on half of ln 2 on either side...
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
#: ... and (tanh(x) / x - 1) / x**2 as a polynomial of x**2, below _SMALL.
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_SMALL = 0.625


def _all(vector, value):
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * vector.count)


def _polynomial(builder, x, coefficients):
    value = _all(x.type, coefficients[0])
    for coefficient in coefficients[1:]:
        value = simd.fma_ir(builder, value, x, _all(x.type, coefficient))
    return value


def exp_ir(builder, x):
    """Exponentials; those below the normal numbers are rounded once more."""
    vector = x.type
    integers = ir.VectorType(I32, vector.count)
    x = simd.clamp_ir(builder, x, _all(vector, _LEAST), _all(vector, _MOST))
    rounding = _all(vector, _ROUNDING)
    shifted = builder.fadd(builder.fmul(x, _all(vector, _LOG2_E)), rounding)
    count = builder.fsub(shifted, rounding)
    rest = simd.fma_ir(builder, count, _all(vector, -_LN2_HIGH), x)
    rest = simd.fma_ir(builder, count, _all(vector, -_LN2_LOW), rest)
    value = simd.fma_ir(builder, builder.fmul(rest, rest), _polynomial(builder, rest, _EXP), rest)
    value = builder.fadd(value, _all(vector, 1.0))
    # 2**count in two factors, as one alone leaves the range of exponents at either end.
    number = builder.sub(builder.bitcast(shifted, integers), builder.bitcast(rounding, integers))
    half = builder.ashr(number, ir.Constant(integers, [1] * vector.count))
    for exponent in (half, builder.sub(number, half)):
        biased = builder.add(exponent, ir.Constant(integers, [127] * vector.count))
        bits = builder.shl(biased, ir.Constant(integers, [23] * vector.count))
        value = builder.fmul(value, builder.bitcast(bits, vector))
    return value


def _one_more_than_exp(builder, x):
    """Return 1 + exp(-x)."""
    return builder.fadd(exp_ir(builder, builder.fsub(_all(x.type, -0.0), x)), _all(x.type, 1.0))


def sigmoid_ir(builder, x):
    """Return 1 / (1 + exp(-x))."""
    return builder.fdiv(_all(x.type, 1.0), _one_more_than_exp(builder, x))


def swish_ir(builder, x):
    """Return x / (1 + exp(-x))."""
    return builder.fdiv(x, _one_more_than_exp(builder, x))


def tanh_ir(builder, x):
    """Hyperbolic tangents."""
    vector = x.type
    integers = ir.VectorType(I32, vector.count)
    bits = builder.bitcast(x, integers)
    sign = builder.and_(bits, ir.Constant(integers, [1 << 31] * vector.count))
    size = builder.bitcast(builder.xor(bits, sign), vector)
    square = builder.fmul(x, x)
    near = simd.fma_ir(builder, builder.fmul(_polynomial(builder, square, _TANH), square), x, x)
    growth = builder.fadd(exp_ir(builder, builder.fadd(size, size)), _all(vector, 1.0))
    far = builder.fsub(_all(vector, 1.0), builder.fdiv(_all(vector, 2.0), growth))
    far = builder.bitcast(builder.or_(builder.bitcast(far, integers), sign), vector)
    return builder.select(builder.fcmp_ordered("<", size, _all(vector, _SMALL)), near, far)
