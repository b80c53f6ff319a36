"""Packing of planes of a few elements, which are kept in registers: vectors of a packed channel are put together there.

Each vector that is written has elements of one plane, in an order that a table says. A lane beyond the plane is zero,
and stands for what is padding. That takes a few cycles, whatever the taps, strides and dilations are, where one element
after the other takes some each.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd
from fastpool.kernels.simd import I64
from fastpool.kernels.stores import masked_store_ir

#: Integers of a table that hold the order of a vector of 64 bytes: an index of the size of each lane.
_ORDER = 8
#: Endings of the instructions that permute, by bytes of a lane.
_NAMES = {4: ("sf", "ps"), 8: ("df", "pd")}


@intrinsic
def _load_plane(typingctx, spec, plane, size):
    """Vectors of a plane of so many elements; further lanes are zero."""
    tile = simd.Tile(spec)

    def codegen(context, builder, sig, args):
        _, plane, size = args
        vector = simd.vector_ir(spec)
        found = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for v in range(spec.vectors):
            mask = simd.range_mask_ir(builder, I64(0), size, spec.lanes, v * spec.lanes)
            place = builder.gep(plane, [I64(v * spec.lanes)])
            loaded = simd.masked_load_ir(builder, place, vector, mask, ir.Constant(vector, None), spec.size)
            found = builder.insert_value(found, loaded, v)
        return found

    return tile(spec, plane, size), codegen


@intrinsic
def _write_ordered(typingctx, tile, orders, target, count):
    """Write the first `count` lanes of a vector whose elements are those of the plane in the order of a table."""
    spec = tile.spec

    def codegen(context, builder, sig, args):
        tile, orders, target, count = args
        vector = simd.vector_ir(spec)
        lane = ir.IntType(8 * spec.size)
        order_type = ir.VectorType(lane, spec.lanes)
        order = simd.load_ir(builder, orders, order_type, spec.size)
        parts = [builder.extract_value(tile, v) for v in range(spec.vectors)]

        def call(name, *arguments):
            kind = ir.FunctionType(vector, [argument.type for argument in arguments])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.{name}.512")
            return builder.call(function, arguments)

        of_one, of_two = _NAMES[spec.size]
        if spec.vectors == 1:
            value = call(f"permvar.{of_one}", parts[0], order)
        else:
            pairs = [call(f"vpermi2var.{of_two}", *(a, order, b)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            bit = 2 * spec.lanes  # of the order, that says which of two pairs it is
            while len(pairs) > 1:
                far = ir.Constant(order_type, [bit] * spec.lanes)
                is_far = builder.icmp_unsigned("!=", builder.and_(order, far), ir.Constant(order_type, None))
                pairs = [builder.select(is_far, b, a) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
                bit *= 2
            value = pairs[0]
        mask = simd.range_mask_ir(builder, I64(0), count, spec.lanes)
        masked_store_ir(builder, value, target, mask, spec.size)
        return context.get_dummy_value()

    return types.void(tile, orders, target, types.intp), codegen


def pack_planes(call, x, plane_start, target, first_depth, first_row, first_column):
    """Pack a whole channel, of one plane or of the planes of several images, vector by vector."""
    spec, source = call.spec, x + plane_start
    for i in range(call.plane_count):
        plane = _load_plane(spec, source, call.plane_size)
        for move in range(call.move_begins[i], call.move_begins[i + 1]):
            _write_ordered(plane, call.orders + move * _ORDER, target + call.move_targets[move], call.move_lanes[move])
        source = source + call.plane_step
