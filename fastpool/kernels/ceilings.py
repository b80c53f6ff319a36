"""What the machine can do at best: multiply-adds that stay in registers, and memory that is read or copied.

These kernels compute nothing of use. They are made like the others, of the same vectors and through the same launch,
so that what they reach is a limit for the others.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.simd import lanes_of, load, store, width_of


@intrinsic
def _vectors(typingctx, spec, pointer):
    """Load as many vectors as the tile has, one after the other."""
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        vector = simd.vector_ir(spec)
        value = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for i in range(spec.width):
            place = builder.gep(args[1], [simd.I64(i * spec.lanes)])
            value = builder.insert_value(value, simd.load_ir(builder, place, vector, spec.size), i)
        return value

    return tile(spec, pointer), codegen


@intrinsic
def _fused(typingctx, tile, factor, summand):
    """Every vector of a tile times `factor` plus `summand`."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        tile, factor, summand = args
        for i in range(spec.width):
            value = simd.fma_ir(builder, builder.extract_value(tile, i), factor, summand)
            tile = builder.insert_value(tile, value, i)
        return tile

    return tile(tile, factor, summand), codegen


@intrinsic
def _added(typingctx, tile, other):
    """Sums of the vectors of two tiles."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        tile, other = args
        for i in range(spec.width):
            value = simd.add_ir(builder, builder.extract_value(tile, i), builder.extract_value(other, i))
            tile = builder.insert_value(tile, value, i)
        return tile

    return tile(tile, other), codegen


@intrinsic
def _keep(typingctx, pointer, tile):
    """Store the sum of a tile's vectors, so that none of them is computed for nothing."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        total = builder.extract_value(args[1], 0)
        for i in range(1, spec.width):
            total = simd.add_ir(builder, total, builder.extract_value(args[1], i))
        simd.store_ir(builder, total, args[0], spec.size)
        return context.get_dummy_value()

    return types.void(pointer, tile), codegen


def peak(call, task, thread):
    """Fused multiply-adds on registers, `count` for each accumulator."""
    spec = call.spec
    factor, summand = load(spec, call.weights), load(spec, call.bias)
    total = _vectors(spec, call.x)
    for _ in range(call.count):
        total = _fused(total, factor, summand)
    _keep(call.out + task * lanes_of(spec), total)


def stream_read(call, task, thread):
    """Sum of the task's elements, `count` times over."""
    spec = call.spec
    step = width_of(spec) * lanes_of(spec)
    first = call.x + task * call.elements
    total = _vectors(spec, first)
    for _ in range(call.count):
        for i in range(0, call.elements, step):
            total = _added(total, _vectors(spec, first + i))
    _keep(call.out + task * lanes_of(spec), total)


def stream_copy(call, task, thread):
    """Copy the task's elements, `count` times over; scaled, as a plain copy becomes a call of the C library."""
    spec = call.spec
    lanes, factor = lanes_of(spec), load(spec, call.weights)
    first, out = call.x + task * call.elements, call.out + task * call.elements
    for _ in range(call.count):
        for i in range(0, call.elements, lanes):
            store(spec, out + i, load(spec, first + i) * factor)
