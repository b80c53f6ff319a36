"""Window arithmetic in plain Python integers: output sizes, padding, ceil mode, adaptive windows.

Python integers, because float arithmetic is wrong from 2**24 on and fixed-width ones overflow silently. Neither NumPy
nor Numba is needed here.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Padding modes of convolution that take the padding from the input itself.
DATA_PADDING_MODES = ("reflect", "symmetric", "replicate", "circular")

#: (begin, end) padding of each axis.
Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one axis: window o covers o*stride - pad_begin + k*dilation for k < kernel."""

    size: int
    kernel: int
    stride: int
    dilation: int
    pad_begin: int
    pad_end: int
    out: int

    @property
    def extent(self) -> int:
        """Elements from the first to the last tap of a window."""
        return extent(self.kernel, self.dilation)

    @property
    def is_padded(self) -> bool:
        """Whether there is any padding."""
        return self.pad_begin > 0 or self.pad_end > 0

    @property
    def is_single(self) -> bool:
        """Whether there is one element, and the one window has one tap, on it (and not in the padding)."""
        return self.size == self.kernel == self.out == 1 and self.pad_begin == 0

    def taps(self, o: int) -> range:
        """Taps of window `o` that fall on an input element."""
        start = o * self.stride - self.pad_begin
        first = max(0, -(start // self.dilation))
        last = (self.size - 1 - start) // self.dilation
        return range(first, max(first, min(self.kernel - 1, last) + 1))

    def covered(self, o: int) -> int:
        """Taps of window `o` that fall on the input or its padding, but not on what ceil mode reaches beyond."""
        start = o * self.stride - self.pad_begin
        return min(self.kernel, max(0, (self.size + self.pad_end - 1 - start) // self.dilation + 1))


def extent(kernel: int, dilation: int) -> int:
    """Elements from the first to the last tap of a dilated kernel."""
    return dilation * (kernel - 1) + 1


def same_padding(size: int, kernel: int, stride: int, dilation: int, lower: bool) -> tuple[int, int]:
    """Padding for ``ceil(size / stride)`` outputs; the odd element goes to the end, or with `lower` to the begin."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + extent(kernel, dilation) - size)
    half = total // 2
    return (total - half, half) if lower else (half, total - half)


def output_size(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], ceil_mode: bool) -> int:
    """Windows that fit; zero or less where not even one does."""
    room = size + sum(pads) - extent(kernel, dilation)
    if room < 0:
        return 0
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    # A window that would start beyond the input and its leading padding sees nothing: drop it.
    return out - 1 if (out - 1) * stride >= size + pads[0] else out


def adaptive_window(size: int, out: int, o: int) -> tuple[int, int]:
    """First and end (exclusive) element of adaptive window `o`."""
    return o * size // out, -(-(o + 1) * size // out)


def padding_source(index: int, size: int, mode: str) -> int:
    """Source of element `index` (negative, or `size` and above, in the padding) of an axis; -1 where it is a zero."""
    if 0 <= index < size:
        return index
    if mode == "zeros":
        return -1
    if mode == "replicate":
        return 0 if index < 0 else size - 1
    if mode == "circular":
        return index % size
    if mode == "symmetric":
        index %= 2 * size
        return index if index < size else 2 * size - 1 - index
    if size == 1:  # reflect, where nothing but the edge itself is there to reflect
        return 0
    index %= 2 * size - 2
    return index if index < size else 2 * size - 2 - index
