"""Winograd's minimal filtering F(m, r): m outputs of an r-tap filter from m + r - 1 products, in one dimension.

With points p of a Lagrange basis, ``y = A^T ((G g) * (B^T d))``: the input d and the filter g are evaluated at the
points, multiplied there, and the product is interpolated (Lavin and Gray 2015). The points decide the rounding error:
(0, 1, -1, 1/2, -2, inf) has 2 to 3 times less than the usual (0, +-1, +-2, inf) at the same cost.

`matrices` gives A^T, G and B^T exactly; the functions below emit the same products in few instructions, from vectors.
In two dimensions they are applied to the columns, then to the rows.
"""

from fractions import Fraction

from llvmlite import ir

from fastpool.kernels.simd import fma_ir

#: Finite points by number of products; the last product belongs to the point at infinity.
POINTS = {
    4: tuple(map(Fraction, (0, 1, -1))),
    5: (Fraction(0), Fraction(-1), Fraction(1, 2), Fraction(2)),
    6: (*map(Fraction, (0, 1, -1)), Fraction(1, 2), Fraction(-2)),
}


def _polynomial(roots):
    """Coefficients of the polynomial with these roots, lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def matrices(outputs, taps):
    """A^T (outputs x products), G (products x taps) and B^T (products x products), in exact fractions."""
    products = outputs + taps - 1
    points = POINTS[products]
    transposed_a, g, transposed_b = [], [], []
    for i in range(outputs):
        transposed_a.append([p**i for p in points] + [Fraction(int(i == outputs - 1))])
    for j, p in enumerate(points):
        others = points[:j] + points[j + 1 :]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        g.append([p**k / scale for k in range(taps)])
        row = _polynomial(others)
        transposed_b.append(row + [Fraction(0)] * (products - len(row)))
    g.append([Fraction(int(k == taps - 1)) for k in range(taps)])
    transposed_b.append(_polynomial(points))
    return transposed_a, g, transposed_b


def _constant(value, vector):
    return ir.Constant(vector, [ir.Constant(vector.element, float(value))] * vector.count)


def input_ir(builder, d):
    """B^T d for 4, 5 or 6 vectors."""
    add, sub = builder.fadd, builder.fsub

    def times(factor, a, b):
        return fma_ir(builder, _constant(factor, a.type), a, b)

    if len(d) == 4:
        return [sub(d[2], d[0]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[3], d[1])]
    if len(d) == 5:
        # x(x + 1) and (x - 1/2)(x - 2) divide the rows of the points 1/2, 2 and of 0, -1, infinity; q and h are those
        # quotients applied at each shift.
        q = [add(d[k + 1], d[k + 2]) for k in range(2)]
        h = [times(-2.5, d[k + 1], add(d[k], d[k + 2])) for k in range(3)]
        return [add(h[0], h[1]), h[1], times(-2, q[0], q[1]), times(-0.5, q[0], q[1]), add(h[1], h[2])]
    # x(x - 1/2)(x + 2) and x(x - 1)(x + 1) divide the rows of the points +-1 and of 1/2, -2; g and h are those
    # quotients applied at each shift: 16 operations instead of 36.
    g = [times(1.5, d[k + 1], sub(d[k + 2], d[k])) for k in range(4)]
    h = [sub(d[k + 2], d[k]) for k in range(1, 3)]
    return [
        sub(g[2], g[0]),
        add(g[2], g[1]),
        sub(g[2], g[1]),
        times(2, h[0], h[1]),
        times(-0.5, h[0], h[1]),
        sub(g[3], g[1]),
    ]


def output_ir(builder, outputs, products):
    """A^T m for 4, 5 or 6 vectors."""
    m, add, sub = products, builder.fadd, builder.fsub

    def times(factor, a, b):
        return fma_ir(builder, _constant(factor, a.type), a, b)

    if len(m) == 5:
        others = [(-1, m[1]), (0.5, m[2]), (2, m[3])]
        pairs = {}
    else:
        # The points 1 and -1 share a sum and a difference.
        others = [(0.5, m[3]), (-2, m[4])] if len(m) == 6 else []
        pairs = {0: add(m[1], m[2]), 1: sub(m[1], m[2])}
    result = []
    for i in range(outputs):
        total = pairs.get(i % 2)
        if i == 0:
            total = m[0] if total is None else add(m[0], total)
        elif i == outputs - 1:
            total = m[-1] if total is None else add(m[-1], total)
        for point, value in others:
            if i == 0:
                total = add(total, value)
            elif total is None:
                total = builder.fmul(_constant(point**i, value.type), value)
            else:
                total = times(point**i, value, total)
        result.append(total)
    return result


def weights_ir(builder, outputs, g):
    """G g for `taps` vectors."""
    _, matrix, _ = matrices(outputs, len(g))
    result = []
    for row in matrix:
        total = None
        for factor, value in zip(row, g, strict=True):
            if factor == 0:
                continue
            if total is None:
                total = value if factor == 1 else builder.fmul(_constant(factor, value.type), value)
            else:
                total = fma_ir(builder, _constant(factor, value.type), value, total)
        result.append(total)
    return result
