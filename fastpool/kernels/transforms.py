"""Winograd's minimal filtering F(m, r): m outputs of an r-tap filter from m + r - 1 products, in one dimension.

With points p of a Lagrange basis, ``y = A^T ((G g) * (B^T d))``: the input d and the filter g are evaluated at the
points, multiplied there, and the product is interpolated (Lavin and Gray 2015). The points decide the rounding error:
(0, 1, -1, 1/2, -2, inf) has 2 to 3 times less than the usual (0, +-1, +-2, inf) at the same cost. More points are
pairs p, -p, which share most of their work; of all multiples of 1/8 these have about the smallest error.

`matrices` gives A^T, G and B^T exactly; the functions below emit the same products in few instructions, from vectors.
In two dimensions they are applied to the columns, then to the rows.
"""

from fractions import Fraction

from llvmlite import ir

from fastpool.kernels.simd import fma_ir

#: By number of products, those p of which p and -p are points; so is zero, if that number is even.
PAIRS = {
    7: (Fraction(1, 4), Fraction(7, 8), Fraction(7, 4)),
    9: (Fraction(1, 4), Fraction(5, 8), Fraction(9, 8), Fraction(9, 4)),
    10: (Fraction(1, 2), Fraction(7, 8), Fraction(9, 8), Fraction(5, 2)),
}
#: Finite points by number of products; the last product belongs to the point at infinity.
POINTS = {
    1: (),  # an axis that is not filtered: F(1, 1)
    3: (Fraction(0), Fraction(-1)),
    4: tuple(map(Fraction, (0, 1, -1))),
    5: (Fraction(0), Fraction(-1), Fraction(1, 2), Fraction(2)),
    6: (*map(Fraction, (0, 1, -1)), Fraction(1, 2), Fraction(-2)),
} | {
    products: ((Fraction(0),) if products % 2 == 0 else ()) + tuple(sign * p for p in pairs for sign in (1, -1))
    for products, pairs in PAIRS.items()
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


def _combination(builder, factors, vectors):
    """Sum of multiples of vectors, the last of which is taken once."""
    *factors, one = factors
    *vectors, total = vectors
    assert one == 1
    for factor, value in zip(reversed(factors), reversed(vectors), strict=True):
        total = fma_ir(builder, _constant(factor, value.type), value, total)
    return total


def _input_pairs_ir(builder, d):
    """B^T d for points that are pairs: (x + p) C(x^2) and (x - p) C(x^2) are their rows, with C for the other pairs.

    With the point zero they are x times that, and its own row is that of all pairs, as is the last one.
    """
    pairs, result = PAIRS[len(d)], []
    squares, with_zero = [p * p for p in pairs], len(d) % 2 == 0
    all_pairs = _polynomial(squares)
    if with_zero:
        result.append(_combination(builder, all_pairs, d[:-1:2]))
    for p, square in zip(pairs, squares, strict=True):
        others = _polynomial([q for q in squares if q != square])
        firsts = range(with_zero, with_zero + 2)
        even, odd = (_combination(builder, others, d[k : k + 2 * len(others) : 2]) for k in firsts)
        result += [fma_ir(builder, _constant(sign * p, even.type), even, odd) for sign in (1, -1)]
    return [*result, _combination(builder, all_pairs, d[int(with_zero) :: 2])]


def input_ir(builder, d):
    """B^T d for 1, 3, 4, 5, 6, 7, 9 or 10 vectors."""
    if len(d) == 1:
        return d
    if len(d) in PAIRS:
        return _input_pairs_ir(builder, d)
    add, sub = builder.fadd, builder.fsub

    def times(factor, a, b):
        return fma_ir(builder, _constant(factor, a.type), a, b)

    if len(d) == 3:
        return [add(d[0], d[1]), d[1], add(d[1], d[2])]
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


def _output_pairs_ir(builder, outputs, m):
    """A^T m for points that are pairs: even powers of them meet the sums of products, odd ones the differences."""
    pairs, result, first = PAIRS[len(m)], [], 1 - len(m) % 2
    both = [(m[first + 2 * k], m[first + 2 * k + 1]) for k in range(len(pairs))]
    halves = [[builder.fadd(*two) for two in both], [builder.fsub(*two) for two in both]]
    for i in range(outputs):
        total = m[0] if first and i == 0 else m[-1] if i == outputs - 1 else None
        for p, value in zip(pairs, halves[i % 2], strict=True):
            if total is None:
                total = value if i == 0 else builder.fmul(_constant(p**i, value.type), value)
            elif i == 0:
                total = builder.fadd(total, value)
            else:
                total = fma_ir(builder, _constant(p**i, value.type), value, total)
        result.append(total)
    return result


def output_ir(builder, outputs, products):
    """A^T m for 1, 3, 4, 5, 6, 7, 9 or 10 vectors."""
    if len(products) == 1:
        return products
    if len(products) in PAIRS:
        return _output_pairs_ir(builder, outputs, products)
    m, add, sub = products, builder.fadd, builder.fsub

    def times(factor, a, b):
        return fma_ir(builder, _constant(factor, a.type), a, b)

    if len(m) == 3:
        return [add(m[0], m[1]), sub(m[2], m[1])]
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
    """G g for `taps` vectors.

    The points 1 and -1 share sums, and 1/2 and -2 of three taps twice a tap: of 12 operations 6 are additions then,
    which units of their own carry out beside the multiplications and multiply-adds that else all of them are.
    """
    _, matrix, _ = matrices(outputs, len(g))
    add, sub = builder.fadd, builder.fsub

    def times(factor, value):
        return value if factor == 1 else builder.fmul(_constant(factor, value.type), value)

    def sum_of(values):
        total = values[0]
        for value in values[1:]:
            total = add(total, value)
        return total

    shared = {}
    if len(matrix) in (4, 6):
        even, odd = sum_of(g[::2]), sum_of(g[1::2])
        assert matrix[2][0] in (matrix[1][0], -matrix[1][0])
        shared[1] = times(matrix[1][0], add(even, odd))
        difference = sub(even, odd) if matrix[2][0] == matrix[1][0] else sub(odd, even)
        shared[2] = times(matrix[1][0], difference)
    if len(matrix) == 6 and len(g) == 3:
        twice, four = add(g[1], g[1]), _constant(4, g[1].type)
        shared[3] = times(matrix[3][2], add(fma_ir(builder, four, g[0], g[2]), twice))
        shared[4] = times(matrix[4][0], sub(fma_ir(builder, four, g[2], g[0]), twice))
    result = []
    for i, row in enumerate(matrix):
        total = shared.get(i)
        if total is None:
            for factor, value in zip(row, g, strict=True):
                if factor == 0:
                    continue
                total = (
                    times(factor, value)
                    if total is None
                    else fma_ir(builder, _constant(factor, value.type), value, total)
                )
        result.append(total)
    return result
