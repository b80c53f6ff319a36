"""Column taps of a row, read in place: what a vector of outputs sees of it, one vector for each tap."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64


def stride_of(spec):
    """Stride of the columns, 1 or 2: the last word of the variant. The spec's vectors x width are rows x columns."""
    return int(spec.variant.split()[-1])


def column_taps_ir(builder, spec, row, first, width, exists, stride, outside):
    """One vector for each column tap of a row of `width` elements, whose first needed column is `first`.

    Shifted loads at stride 1; at stride 2 pairs of loads, of which the even lanes are one tap and the odd ones the
    next. Elements outside the row, and all where the mask `exists` (if there is one) is off, are `outside`.
    """
    vector, lanes = simd.vector_ir(spec), spec.lanes
    fill = ir.Constant(vector, [ir.Constant(vector.element, outside)] * lanes)

    def loaded(shift):
        start = builder.add(first, I64(shift))
        mask = simd.range_mask_ir(builder, builder.neg(start), builder.sub(width, start), lanes)
        if exists is not None:
            mask = builder.and_(mask, exists)
        return simd.widening_load_ir(builder, spec, simd.source_of(spec), builder.gep(row, [start]), mask, fill)

    if stride == 1:
        return [loaded(j) for j in range(spec.width)]
    taps = []
    for j in range(0, spec.width, 2):
        pair = loaded(j), loaded(j + lanes)
        taps.append(simd.shuffle_ir(builder, *pair, range(0, 2 * lanes, 2)))
        if j + 1 < spec.width:
            taps.append(simd.shuffle_ir(builder, *pair, range(1, 2 * lanes, 2)))
    return taps
