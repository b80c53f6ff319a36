"""Stores of some lanes of a vector, on processors that have masks and on those that have none."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import simd


def masked_store_ir(builder, value, pointer, mask, size, anywhere=False):
    """Store the lanes in `mask`, the first so many unless they may be `anywhere`; touch no memory but theirs."""
    if simd.HAS_MASKS:
        _store_by_mask_ir(builder, value, pointer, mask, size)
        return
    bits = builder.bitcast(mask, ir.IntType(mask.type.count))
    with builder.if_else(builder.icmp_unsigned("==", bits, bits.type(2**bits.type.width - 1)), likely=True) as ways:
        whole, part = ways
        with whole:
            simd.store_ir(builder, value, pointer, size)
        with part:
            if anywhere:
                # Of lanes from the first on, the bits and the next number have none in common.
                more = builder.and_(bits, builder.add(bits, bits.type(1)))
                with builder.if_else(builder.icmp_unsigned("==", more, bits.type(0))) as (first, other):
                    with first:
                        _store_first_ir(builder, value, pointer, bits, size)
                    with other:
                        _store_by_mask_ir(builder, value, pointer, mask, size)
            else:
                _store_first_ir(builder, value, pointer, bits, size)


def store_first_ir(builder, value, pointer, count, size):
    """Store the first `count` lanes, all if it is more; touch no memory but theirs.

    Where there are no masks, none is made to be looked at: a row of a depthwise strip takes 13 cycles instead of 22 so.
    """
    lanes = value.type.count
    if simd.HAS_MASKS:
        mask = simd.range_mask_ir(builder, simd.I64(0), count, lanes)
        _store_by_mask_ir(builder, value, pointer, mask, size)
        return
    with builder.if_else(builder.icmp_signed(">=", count, simd.I64(lanes)), likely=True) as (whole, part):
        with whole:
            simd.store_ir(builder, value, pointer, size)
        with part:
            some = builder.select(builder.icmp_signed(">", count, simd.I64(0)), count, simd.I64(0))
            ones = builder.sub(builder.shl(simd.I64(1), some), simd.I64(1))
            _store_first_ir(builder, value, pointer, builder.trunc(ones, ir.IntType(lanes)), size)


def _store_by_mask_ir(builder, value, pointer, mask, size):
    vector = value.type
    kind = ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), simd.I32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.store.{simd.name_of(vector)}.p0")
    builder.call(function, [value, simd.as_vector(builder, pointer, vector), simd.I32(size), mask])


def _store_first_ir(builder, value, pointer, bits, size):
    """Store the lanes of `bits`, the lowest so many: half of all, a quarter, and so on, as their number asks for."""
    while value.type.count > 1:
        half = value.type.count // 2
        is_stored = builder.icmp_unsigned("!=", builder.and_(bits, bits.type(1 << half - 1)), bits.type(0))
        first, before = simd.shuffle_ir(builder, value, value, range(half)), builder.block
        with builder.if_then(is_stored):
            simd.store_ir(builder, first, pointer, size)
            rest = (
                simd.shuffle_ir(builder, value, value, range(half, 2 * half)),
                builder.gep(pointer, [simd.I64(half)]),
                builder.lshr(bits, bits.type(half)),
            )
            after = builder.block
        left = []
        for skipped, stored in zip((first, pointer, bits), rest, strict=True):
            left.append(builder.phi(skipped.type))
            left[-1].add_incoming(skipped, before)
            left[-1].add_incoming(stored, after)
        value, pointer, bits = left


def store_some_ir(builder, value, pointer, count, size):
    """Store the first `count` lanes, a number known ahead, in as few pieces as it has binary digits."""
    first, lanes = 0, value.type.count
    while count > first:
        piece = 1 << (count - first).bit_length() - 1
        part = value if piece == lanes else simd.shuffle_ir(builder, value, value, range(first, first + piece))
        simd.store_ir(builder, part, builder.gep(pointer, [simd.I64(first)]), size)
        first += piece


@intrinsic
def masked_store(typingctx, spec, pointer, value, mask):
    """Store the lanes in `mask`."""

    def codegen(context, builder, sig, args):
        masked_store_ir(builder, simd.stored_ir(builder, pointer, args[2]), args[1], args[3], pointer.size)
        return context.get_dummy_value()

    return types.void(spec, pointer, value, mask), codegen
