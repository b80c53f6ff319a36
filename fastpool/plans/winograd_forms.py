"""Forms of Winograd's convolution, F(m, r): how weights are prepared, and what a tile takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fastpool.dtypes import ElementType
from fastpool.plans.problem import apart, ceil_div
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.winograd import PHASES

#: Points along an axis by bytes of an element: with nine, the error in float32 is 2e-5 of the largest result.
_MOST_POINTS = {4: 7, 8: 9}


@dataclass(frozen=True)
class WinogradForm:
    """F(outputs, taps) in each dimension, on each phase of the input: how weights are prepared."""

    outputs: int
    kernel: int
    stride: int
    folded: bool = False  #: whether the phases of a channel are channels
    on_the_fly: bool = False  #: whether weights are only packed ahead, and transformed by each call
    slices: int = 1  #: taps of depth, which are channels: (tap, channel), whole vectors of these

    @property
    def taps(self) -> int:
        """Taps of the phase that has most."""
        return ceil_div(self.kernel, self.stride)

    @property
    def size(self) -> int:
        """Elements of a tile of a phase along an axis, and products."""
        return self.outputs + self.taps - 1

    @property
    def products(self) -> int:
        """Products of a tile."""
        return self.size**2

    @property
    def phases(self) -> int:
        """Phases of the input that are not channels."""
        return 1 if self.folded else self.stride**2

    @property
    def fold(self) -> int:
        """Lanes of a channel."""
        return self.stride**2 // self.phases

    def channels(self, channels: int, lanes: int) -> int:
        """Channels that so many become: those of each tap of depth fill whole vectors."""
        return channels if self.slices == 1 else self.slices * ceil_div(channels, lanes) * lanes

    def channel_blocks(self, channels: int, lanes: int) -> int:
        """Vectors of so many channels of a phase."""
        return ceil_div(channels * self.fold, lanes)

    def suits(self, element: ElementType) -> bool:
        """Whether rounding leaves enough digits, and a vector whole channels."""
        return self.size <= _MOST_POINTS[element.size] and lanes_for(element) % self.fold == 0

    @property
    def shape(self) -> tuple[str, int, int]:
        """Variant, vectors and width of the spec."""
        return f"winograd {self.kernel} {self.stride}{' folded' * self.folded}", self.outputs, self.taps

    @cached_property
    def segments(self) -> list[tuple[int, int]]:
        """First phase and number of phases of each product: a phase with a tap less has none at infinity."""
        if self.folded:
            return [(0, 1)] * self.products
        found = []
        shorter = self.kernel % self.stride != 0
        for product in range(self.products):
            at_infinity = [index == self.size - 1 for index in divmod(product, self.size)]
            used = [
                index
                for index, phase in enumerate(PHASES[self.stride])
                if not (shorter and any(p and infinite for p, infinite in zip(phase, at_infinity, strict=True)))
            ]
            found.append((used[0], len(used)))
        return found

    @cached_property
    def multiplications(self) -> int:
        """Multiplications of a tile and channel, or phase that is one."""
        return sum(count for _, count in self.segments)


_AHEAD = {
    (3, 1): ((4, 3, 1), (2, 3, 1), (5, 3, 1), (7, 3, 1)),
    (5, 1): ((2, 5, 1), (3, 5, 1), (5, 5, 1)),
    (3, 2): ((4, 3, 2), (2, 3, 2)),
    (5, 2): ((4, 5, 2), (2, 5, 2), (4, 5, 2, True)),
    (4, 2): ((4, 4, 2),),
    (7, 2): ((4, 7, 2, True),),
    (11, 4): ((4, 11, 4, True),),
    (2, 1): ((4, 2, 1),),
}
#: By size of the filter, and stride.
FORMS = {
    filter_: tuple(WinogradForm(*form) for form in forms)
    + tuple(WinogradForm(*form, on_the_fly=True) for form in forms if len(form) < 4)
    for filter_, forms in _AHEAD.items()
}


def u_product(form: WinogradForm, channel_blocks: int, size: int, lanes: int) -> int:
    """Elements of U from one product to the next; channel blocks are those of a group."""
    return apart(form.phases * channel_blocks * 2 * lanes**2, size)
