"""Functions of each element, of one array or of two, in one pass.

The first array is planes of as many elements as the result's. Of the second, each plane has as many, or one number, or
all planes have the same.
"""

from llvmlite import ir
from numba.extending import intrinsic

from fastpool.kernels import functions, simd
from fastpool.kernels.simd import (
    clamp,
    known,
    lanes_of,
    load,
    masked_load,
    range_mask,
    scalar,
    splat,
    store,
)
from fastpool.kernels.stores import masked_store


def _words(spec):
    name, _, operand = spec.variant.partition(" ")
    return name, operand


def _unary_ir(builder, name, x, alpha, beta):
    zero = ir.Constant(x.type, None)
    if name == "leaky":
        return builder.select(builder.fcmp_ordered("<", x, zero), builder.fmul(x, alpha), x)
    if name.startswith("hard"):
        one = ir.Constant(x.type, [ir.Constant(x.type.element, 1.0)] * x.type.count)
        part = simd.clamp_ir(builder, builder.fadd(builder.fmul(x, alpha), beta), zero, one)
        return builder.fmul(x, part) if name == "hardswish" else part
    return x if name == "clip" else getattr(functions, f"{name}_ir")(builder, x)


def _binary_ir(builder, name, x, y):
    if name == "prelu":
        below = builder.fcmp_ordered("<", x, ir.Constant(x.type, None))
        return builder.select(below, builder.fmul(x, y), x)
    return getattr(builder, f"f{name}")(x, y)


@intrinsic
def _apply(typingctx, spec, x, y, alpha, beta):
    """The function of one vector, or of two."""

    def codegen(context, builder, sig, args):
        _, x, y, alpha, beta = args
        name, operand = _words(spec)
        return _binary_ir(builder, name, x, y) if operand else _unary_ir(builder, name, x, alpha, beta)

    return x(spec, x, y, alpha, beta), codegen


@intrinsic
def _reads(typingctx, spec, pointer, mask, other):
    """A vector of the second array where it has one for each of the first; else `other`."""

    def codegen(context, builder, sig, args):
        _, pointer, mask, other = args
        if _words(spec)[1] != "array":
            return other
        return simd.masked_load_ir(builder, pointer, simd.vector_ir(spec), mask, other, spec.size)

    return other(spec, pointer, mask, other), codegen


@known
def _by_plane(spec):
    """Whether the second array has one number for each plane."""
    return _words(spec)[1] == "plane"


def elementwise(call, task, thread):
    """A piece of some planes."""
    simd.align_stack()
    spec = call.spec
    lanes, length = lanes_of(spec), call.length
    alpha, beta = splat(spec, call.alpha), splat(spec, call.beta)
    low, high = splat(spec, call.low), splat(spec, call.high)
    first = (task // call.pieces) * call.planes_per_task
    begin = (task % call.pieces) * call.piece
    end = min(begin + call.piece, length)
    whole = end - (end - begin) % lanes
    every, rest = range_mask(spec, 0, lanes), range_mask(spec, 0, end - whole)
    other = splat(spec, 1.0)  # a number that no function fails on, in the lanes that are not there
    for plane in range(first, min(first + call.planes_per_task, call.planes)):
        source, target = call.x + plane * length, call.out + plane * length
        second = call.weights + plane * call.pitch
        if _by_plane(spec):
            other = splat(spec, scalar(spec, call.weights[plane % call.period]))
        for i in range(begin, whole, lanes):
            value = _apply(spec, load(spec, source + i), _reads(spec, second + i, every, other), alpha, beta)
            store(spec, target + i, clamp(value, low, high))
        if whole < end:
            x = masked_load(spec, source + whole, rest, splat(spec, 1.0))
            value = _apply(spec, x, _reads(spec, second + whole, rest, other), alpha, beta)
            masked_store(spec, target + whole, clamp(value, low, high), rest)
