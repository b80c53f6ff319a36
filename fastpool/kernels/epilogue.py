"""What happens to a finished sum on its way to memory: residual, activation, masked store."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64


def write_ir(builder, spec, value, out, residual, has_residual, offset, mask, low, high):
    """out[offset:] = clamp(value + residual[offset:], low, high) in the lanes of `mask`; bounds are vectors."""
    vector = simd.vector_ir(spec)
    start = builder.basic_block
    with builder.if_then(builder.icmp_signed("!=", has_residual, I64(0)), likely=False):
        place = builder.gep(residual, [offset])
        more = simd.masked_load_ir(builder, place, vector, mask, ir.Constant(vector, None), spec.size)
        more = simd.add_ir(builder, value, more)
        added = builder.basic_block
    total = builder.phi(vector)
    total.add_incoming(value, start)
    total.add_incoming(more, added)
    total = simd.clamp_ir(builder, total, low, high)
    simd.masked_store_ir(builder, total, builder.gep(out, [offset]), mask, spec.size)
