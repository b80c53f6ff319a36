"""Column taps of a row, read in place: what a vector of outputs sees of it, one vector for each tap."""

from llvmlite import ir

from fastpool.kernels import simd
from fastpool.kernels.simd import I64
from fastpool.machine.processor import TARGET


def stride_of(spec):
    """Stride of the columns, 1 or 2: the last word of the variant. The spec's vectors x width are rows x columns."""
    return int(spec.variant.split()[-1])


def is_whole(spec):
    """Whether all taps of a vector are known to be in the row."""
    return spec.variant.startswith("whole ")


def is_dilated(spec):
    """Whether the columns of the taps lie further apart than one, by a number that is known at run time only."""
    return "dilated" in spec.variant


def reach_of(spec):
    """Elements of a row from the first one that a vector of outputs sees to beyond the last that is loaded for it."""
    return max((spec.lanes - 1) * stride_of(spec) + spec.width, spec.lanes * stride_of(spec))


def _mixes(spec):
    """Whether lanes are in the order that `in_order_ir` undoes: where whole vectors are taken apart in two halves.

    To put them in order takes an instruction more for each tap, and to shift them some; once for each result is less.
    """
    return stride_of(spec) == 2 and spec.lanes * spec.size == 32 and TARGET.vector_bytes == 32


def in_order_ir(builder, spec, value):
    """Lanes of a result in the order of its columns."""
    if not _mixes(spec):
        return value
    pairs = [range(first, first + spec.lanes // 4) for first in range(0, spec.lanes, spec.lanes // 4)]
    first, second, third, fourth = pairs
    return simd.shuffle_ir(builder, value, value, [*first, *third, *second, *fourth])


def _apart_ir(builder, spec, pair, odd):
    """Even or odd lanes of a pair of vectors; mixed, of each half of a vector beside those of the other's."""
    lanes = spec.lanes
    if not _mixes(spec):
        return simd.shuffle_ir(builder, *pair, range(odd, 2 * lanes, 2))
    halves = [range(begin + odd, begin + lanes // 2, 2) for begin in range(0, 2 * lanes, lanes // 2)]
    low, high, low_of_second, high_of_second = halves
    return simd.shuffle_ir(builder, *pair, [*low, *low_of_second, *high, *high_of_second])


class Columns:
    """What a vector of outputs sees of rows of `width` elements, the first needed being `first`; emits LLVM IR.

    Places and masks are the same for all rows and made here; `taps_of` a row may be in a branch.
    """

    def __init__(self, builder, spec, first, width, dilation=None):
        self.builder, self.spec = builder, spec
        if stride_of(spec) == 1:
            shifts = [I64(j) if dilation is None else builder.mul(dilation, I64(j)) for j in range(spec.width)]
            self._loads = [self._load_at(builder.add(first, shift), width) for shift in shifts]
            return
        self._pairs = {}
        for tap, _ in self._taps_of_pairs():
            starts = [builder.add(first, I64(tap + shift)) for shift in (0, spec.lanes)]
            self._pairs[tap] = [self._load_at(start, width) for start in starts]
        self._singles = [self._single_at(builder.add(first, I64(j)), width) for j in range(min(self._pairs))]

    def taps_of(self, row):
        """One vector for each column tap of a row: zeros where it is outside.

        Shifted loads at stride 1, `dilation` columns apart (None is 1). At stride 2 a pair of loads, of which the even
        lanes are the last tap but one and the odd ones the last. With a padding of 1, what is loaded then begins on a
        cache line if the row does. The taps before them are those two taps further, shifted by a lane: only their first
        element is new; or, where lanes are mixed, which makes them hard to shift, further pairs of loads.
        """
        spec = self.spec
        if stride_of(spec) == 1:
            return [load(row) for load in self._loads]
        taps = []
        for tap, count in self._taps_of_pairs():
            pair = [load(row) for load in self._pairs[tap]]
            taps = [_apart_ir(self.builder, spec, pair, odd) for odd in range(count)] + taps
        for single in reversed(self._singles):
            value = simd.splat_ir(self.builder, single(row), spec.lanes)
            first = [2 * spec.lanes - 1, *range(spec.lanes - 1)]
            taps.insert(0, simd.shuffle_ir(self.builder, taps[1], value, first))
        return taps

    def _taps_of_pairs(self):
        """First tap of each pair of loads and how many taps it gives, from the last on."""
        last = max(0, self.spec.width - 2)
        pairs = [(last, min(2, self.spec.width))]
        while _mixes(self.spec) and last > 0:
            count = min(2, last)
            last -= count
            pairs.append((last, count))
        return pairs

    def _load_at(self, start, width):
        """Function of a row that loads a vector from `start` on."""
        builder, spec, vector = self.builder, self.spec, simd.vector_ir(self.spec)
        if is_whole(spec):
            return lambda row: simd.load_ir(builder, builder.gep(row, [start]), vector, spec.size)
        mask = simd.range_mask_ir(builder, builder.neg(start), builder.sub(width, start), spec.lanes)
        zeros = ir.Constant(vector, None)
        return lambda row: simd.masked_load_ir(builder, builder.gep(row, [start]), vector, mask, zeros, spec.size)

    def _single_at(self, place, width):
        """Function of a row that loads an element."""
        builder, spec = self.builder, self.spec
        if is_whole(spec):
            return lambda row: builder.load(builder.gep(row, [place]), align=spec.size)
        within = builder.and_(builder.icmp_signed(">=", place, I64(0)), builder.icmp_signed("<", place, width))
        # There always is an element to load, if not the wanted one.
        nearest = builder.select(within, place, I64(0))

        def load(row):
            value = builder.load(builder.gep(row, [nearest]), align=spec.size)
            return builder.select(within, value, ir.Constant(value.type, 0.0))

        return load
