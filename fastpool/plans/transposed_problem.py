"""The transposed convolution that a plan is made for: its axes, their phases, and how its weights and work are cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import gcd, prod

from fastpool.arrays import ALIGNMENT
from fastpool.dtypes import ElementType
from fastpool.geometry import Axis, extent
from fastpool.plans.convolution import Form
from fastpool.plans.plan import Plan
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.routines.tiles import DIRECT_TASKS

#: Bytes of scratch that are filled before what is in them is put together. By phases, 2x2 to 5x5 at stride 2 on 28x28
#: to 112x112 take as long with 1 to 8 MiB, and 5 to 15 % more with half of one; where taps overlap, inputs at the ends
#: of a piece are multiplied again: 4x4x4 over 128 channels of 8x8x8 takes 8.4 ms with 1 MiB, 4.2 with 4, 3.8 with 8.
TOGETHER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class TransposedAxis:
    """Outputs along one axis: output o sees, for tap k, input (o + pad_begin - k*dilation) / stride, if it is whole."""

    size: int
    kernel: int
    stride: int
    dilation: int
    pad_begin: int
    out: int

    @property
    def count(self) -> int:
        """Outputs of the phase that has most."""
        return ceil_div(self.out, self.stride)

    @property
    def phases(self) -> int:
        """Phases that have an output."""
        return min(self.stride, self.out)

    def windows(self) -> tuple[Window, ...]:
        """Phases that see inputs at the same places."""
        taps: dict[int, list[int]] = {}  # of each phase, in the order of increasing inputs
        for tap in reversed(range(self.kernel)):
            taps.setdefault((tap * self.dilation - self.pad_begin) % self.stride, []).append(tap)
        found: dict[tuple[int, int], list[int]] = {}
        for phase in sorted(phase for phase in taps if phase < self.out):
            low = (phase + self.pad_begin - taps[phase][0] * self.dilation) // self.stride
            found.setdefault((low, len(taps[phase])), []).append(phase)
        # Consecutive taps of a phase are stride / gcd apart, and their inputs dilation / gcd.
        dilation = self.dilation // gcd(self.dilation, self.stride)
        return tuple(
            Window(low, dilation, tuple(phases), tuple(tuple(taps[phase]) for phase in phases))
            for (low, _), phases in found.items()
        )


@dataclass(frozen=True)
class Window:
    """Phases of an axis that are one convolution."""

    low: int  #: input that the first tap of the first output sees
    dilation: int
    phases: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]  #: of each phase

    def part(self, size: int, begin: int, end: int) -> tuple[int, Axis]:
        """First of `size` inputs that is seen, and the convolution, for outputs `begin` to `end` of each phase."""
        taps = len(self.taps[0])
        low, reach = self.low + begin, self.low + end - 1 + extent(taps, self.dilation)
        first, last = min(max(low, 0), size), min(max(reach, 0), size)
        pads = max(0, min(reach, first) - low), max(0, reach - max(low, last))
        return first, Axis(max(0, last - first), taps, 1, self.dilation, *pads, end - begin)


@dataclass(frozen=True)
class Filters:
    """Filters of one ordinary convolution, and where they lie beside those of others."""

    windows: tuple[Window, Window, Window] | None  #: whose taps they have; None: each tap is an output channel
    shape: tuple[int, ...]  #: (out channels, channels of a group, taps of each axis)
    begin: int
    bias_begin: int  #: after the biases of the result, as they are, and limited by the activation

    @property
    def phases(self) -> int:
        """How many phases they are of."""
        return prod(len(window.phases) for window in self.windows or ())


@dataclass(frozen=True)
class Packed:
    """Filters in a form that a plan reads, and the element at which they begin."""

    filters: Filters
    form: Form
    begin: int


@dataclass(frozen=True)
class Part:
    """An ordinary convolution that a transposed one comes to."""

    problem: Convolution
    plan: Plan
    form: Form
    filters: Filters


@dataclass(frozen=True)
class Transposed:
    """A plan, and how its weights lie: filters of its convolutions, their biases, and what is packed of them."""

    plan: Plan
    filters: tuple[Filters, ...]
    packed: tuple[Packed, ...]
    packed_elements: int
    parts: tuple[Part, ...]  #: of its first piece
    pieces: int  #: how often results are put together; 0 where there is nothing to be put together


@dataclass(frozen=True)
class TransposedConvolution:
    """All that decides how a transposed convolution is carried out. Strides are in elements of x (N, C, D, H, W)."""

    element: ElementType
    source: ElementType  #: of x
    images: int
    channels: int
    out_channels: int
    groups: int
    axes: tuple[TransposedAxis, TransposedAxis, TransposedAxis]
    x_strides: tuple[int, int, int, int, int]
    low: float
    high: float
    prepared: bool
    finite: bool  #: whether the weights are known to be finite

    @property
    def out_channel(self) -> int:
        """Elements of a channel of the result."""
        return prod(axis.out for axis in self.axes)

    def result_fields(self, piece: Piece) -> dict[str, int]:
        """Where a piece of the result lies, and its sizes."""
        _, height, width = self.axes
        starts, sizes = [], []
        for axis, (begin, end) in zip(self.axes, piece.ranges, strict=True):
            starts.append(begin * axis.phases)
            sizes.append(min(axis.out, end * axis.phases) - starts[-1])
        begin = piece.image * self.out_channels * self.out_channel
        begin += (starts[0] * height.out + starts[1]) * width.out + starts[2]
        planes, lines = piece.images * self.out_channels, sizes[0] * sizes[1]
        row_tasks = min(lines, ceil_div(DIRECT_TASKS, planes))
        return {
            "tasks": planes * row_tasks,
            "groups": self.groups,
            "group_channels": self.out_channels // self.groups,
            "depths": sizes[0],
            "rows": sizes[1],
            "width": sizes[2],
            "stride_column": width.phases,
            "row_tasks": row_tasks,
            "out_begin": begin,
            "out_batch": self.out_channels * self.out_channel,
            "out_channel": self.out_channel,
            "out_depth": height.out * width.out,
            "out_row": width.out,
        }

    @property
    def phases(self) -> int:
        """Phases of all axes, those that see nothing included."""
        return prod(axis.phases for axis in self.axes)


def whole_lines(elements: int, element: ElementType) -> int:
    """Elements of as many cache lines as so many take."""
    line = ALIGNMENT // element.size
    return ceil_div(elements, line) * line


Range = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """Outputs of each phase that are computed at a time: some images, and of one axis a range."""

    image: int
    images: int
    ranges: tuple[Range, Range, Range]

    @property
    def counts(self) -> tuple[int, ...]:
        """Outputs of a phase along each axis."""
        return tuple(end - begin for begin, end in self.ranges)


def pieces(problem: TransposedConvolution, image_bytes: int) -> list[Piece]:
    """Pieces of no more than `TOGETHER_BYTES`, if an image has so many: some images, or of one a few depths, or rows.

    If one row has more, it is cut into columns.
    """
    counts = tuple(axis.count for axis in problem.axes)
    whole = (0, counts[0]), (0, counts[1]), (0, counts[2])
    if image_bytes <= TOGETHER_BYTES:
        at_once = TOGETHER_BYTES // max(1, image_bytes)
        starts = range(0, problem.images, at_once)
        return [Piece(image, min(at_once, problem.images - image), whole) for image in starts]
    ranges: list[list[Range]] = []
    left = image_bytes
    for count in counts:
        step = min(count, max(1, count * TOGETHER_BYTES // left))
        step = ceil_div(count, ceil_div(count, step))  # pieces of one size
        ranges.append([(begin, min(begin + step, count)) for begin in range(0, count, step)])
        left = max(1, left * step // count)
    parts = list(product(ranges[0], ranges[1], ranges[2]))
    return [Piece(image, 1, part) for image in range(problem.images) for part in parts]
