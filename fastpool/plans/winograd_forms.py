"""Forms of Winograd's convolution, F(m, r): how weights are prepared, and what a tile takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from fastpool.dtypes import ElementType
from fastpool.plans.problem import apart, ceil_div
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.winograd import PHASES

#: Points along both axes by bytes of an element: with nine, the error in float32 is 2e-5 of the largest result.
_MOST_POINTS = {4: 7, 8: 9}


@dataclass(frozen=True)
class WinogradForm:
    """F(outputs, taps) along both axes or one of them, on each phase of the input: how weights are prepared."""

    outputs: int
    kernel: int
    stride: int
    folded: bool = False  #: whether the phases of a channel are channels
    on_the_fly: bool = False  #: whether weights are only packed ahead, and transformed by each call
    slices: int = 1  #: taps of depth, which are channels: (tap, channel), whole vectors of these
    axis: str = ""  #: "down" where rows alone are filtered, "across" where columns alone are

    def _along(self, value: int) -> tuple[int, int]:
        """The value along rows and along columns, or 1 where these are not filtered."""
        return 1 if self.axis == "across" else value, 1 if self.axis == "down" else value

    @cached_property
    def kernels(self) -> tuple[int, int]:
        """Rows and columns of the filter."""
        return self._along(self.kernel)

    @cached_property
    def strides(self) -> tuple[int, int]:
        """Rows and columns from one output to the next."""
        return self._along(self.stride)

    @cached_property
    def tile_outputs(self) -> tuple[int, int]:
        """Rows and columns of the outputs of a tile."""
        return self._along(self.outputs)

    @property
    def tile_taps(self) -> tuple[int, int]:
        """Rows and columns of the taps of the phase that has most."""
        return self._along(self.taps)

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Of the filters that it is for: rows, columns, and strides of both."""
        return *self.kernels, *self.strides

    @property
    def filtering(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Both, as F(m, r) is written."""
        return self.tile_outputs, self.tile_taps

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Rows and columns of a tile of a phase, and of its products."""
        return self._along(self.size)

    @cached_property
    def taps(self) -> int:
        """Taps of the phase that has most."""
        return ceil_div(self.kernel, self.stride)

    @cached_property
    def size(self) -> int:
        """Elements of a tile of a phase along an axis that is filtered, and products."""
        return self.outputs + self.taps - 1

    @cached_property
    def products(self) -> int:
        """Products of a tile."""
        return prod(self.sizes)

    @cached_property
    def phases(self) -> int:
        """Phases of the input that are not channels."""
        return 1 if self.folded else prod(self.strides)

    @cached_property
    def fold(self) -> int:
        """Lanes of a channel."""
        return prod(self.strides) // self.phases

    def channels(self, channels: int, lanes: int) -> int:
        """Channels that so many become: those of each tap of depth fill whole vectors."""
        return channels if self.slices == 1 else self.slices * ceil_div(channels, lanes) * lanes

    def channel_blocks(self, channels: int, lanes: int) -> int:
        """Vectors of so many channels of a phase."""
        return ceil_div(channels * self.fold, lanes)

    def suits(self, element: ElementType) -> bool:
        """Whether rounding leaves enough digits, and a vector whole channels."""
        return (bool(self.axis) or self.size <= _MOST_POINTS[element.size]) and lanes_for(element) % self.fold == 0

    @property
    def shape(self) -> tuple[str, int, int]:
        """Variant, vectors and width of the spec."""
        words = f"winograd {self.kernel} {self.stride} {self.axis}{'folded' * self.folded}"
        return words.rstrip(), self.outputs, self.taps

    @cached_property
    def segments(self) -> list[tuple[int, int]]:
        """First phase and number of phases of each product: a phase with a tap less has none at infinity."""
        if self.folded:
            return [(0, 1)] * self.products
        found = []
        shorter = self.kernel % self.stride != 0
        for product in range(self.products):
            at_infinity = [index == self.size - 1 for index in divmod(product, self.sizes[1])]
            used = [
                index
                for index, phase in enumerate(PHASES[self.strides])
                if not (shorter and any(p and infinite for p, infinite in zip(phase, at_infinity, strict=True)))
            ]
            found.append((used[0], len(used)))
        return found

    @cached_property
    def multiplications(self) -> int:
        """Multiplications of a tile and channel, or phase that is one."""
        return sum(count for _, count in self.segments)


#: By size and stride of square filters: outputs, size, stride, and whether phases are channels.
_SQUARE = {
    (3, 1): ((4, 3, 1), (2, 3, 1), (5, 3, 1), (7, 3, 1)),
    (5, 1): ((2, 5, 1), (3, 5, 1), (5, 5, 1)),
    (3, 2): ((4, 3, 2), (2, 3, 2)),
    (5, 2): ((4, 5, 2), (2, 5, 2), (4, 5, 2, True)),
    (4, 1): ((4, 4, 1),),
    (4, 2): ((4, 4, 2), (4, 4, 2, True)),
    (6, 2): ((4, 6, 2, True),),
    (7, 2): ((4, 7, 2, True),),
    (7, 4): ((4, 7, 4, True),),
    (8, 4): ((4, 8, 4, True),),
    (11, 4): ((4, 11, 4, True),),
    (2, 1): ((4, 2, 1),),
}
#: The same of filters of one row or one column: one axis alone rounds so little that ten points do in float32, too.
_ONE_AXIS = {
    (2, 1): (4, 6),
    (3, 1): (4, 7),
    (4, 1): (6,),
    (5, 1): (5, 6),
    (6, 1): (5,),
    (7, 1): (4,),
    (8, 1): (3,),
    (9, 1): (2,),
    (3, 2): (4, 6),
    (4, 2): (6,),
    (5, 2): (4, 7),
    (6, 2): (7,),
    (7, 2): (6,),
    (8, 2): (6,),
    (9, 2): (5,),
}
_ALL = [
    *(WinogradForm(*form) for forms in _SQUARE.values() for form in forms),
    *(WinogradForm(*form, on_the_fly=True) for forms in _SQUARE.values() for form in forms if len(form) < 4),
    *(
        WinogradForm(outputs, kernel, stride, axis=axis)
        for axis in ("across", "down")
        for (kernel, stride), forms in _ONE_AXIS.items()
        for outputs in forms
    ),
]
#: By rows and columns of the filter, and strides of both.
FORMS = {key: tuple(form for form in _ALL if form.key == key) for key in dict.fromkeys(form.key for form in _ALL)}


def u_product(form: WinogradForm, channel_blocks: int, size: int, lanes: int) -> int:
    """Elements of U from one product to the next; channel blocks are those of a group."""
    return apart(form.phases * channel_blocks * 2 * lanes**2, size)
