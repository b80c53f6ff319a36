"""What is measured: layers of well-known networks, one frozen record for each row of ``shapes/*.csv``."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = Path(__file__).parent / "shapes"
LINE = 64  # bytes of a cache line, and of the longest vectors


def output_size(size: int, kernel: int, stride: int, pad: int, dilation: int = 1, ceil: bool = False) -> int:
    """Count the windows along one axis, with `pad` elements on either side."""
    slack = size + 2 * pad - (dilation * (kernel - 1) + 1)
    if not ceil:
        return slack // stride + 1
    windows = -(-slack // stride) + 1
    return windows - 1 if (windows - 1) * stride >= size + pad else windows


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uninitialised array that begins on a cache line.

    NumPy's begin anywhere, 16 bytes after one where they are large. Vectors across two lines take their time: a
    depthwise convolution of 32 channels of 112x112 on a Zen 5 takes 40 us, or up to 49, as the process has it.
    """
    elements = _elements(shape)
    raw = np.empty(elements + LINE // dtype.itemsize, dtype)
    skip = -raw.ctypes.data % LINE // dtype.itemsize
    return raw[skip : skip + elements].reshape(shape)


@dataclass(frozen=True)
class Layer:
    """What every case has: the network and layer it comes from, and the extents of its input."""

    net: str
    layer: str
    n: int
    c: int
    h: int
    w: int

    @property
    def id(self) -> str:
        """Name of the case, unique among all cases."""
        return f"{self.net}/{self.layer}"

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the input, (N, C, H, W)."""
        return self.n, self.c, self.h, self.w

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, (N, C, H, W)."""
        raise NotImplementedError

    def empty_output(self, dtype: np.dtype) -> np.ndarray:
        """Allocate what the case writes to."""
        return aligned(self.output_shape, dtype)


@dataclass(frozen=True)
class ConvCase(Layer):
    """One convolution: the columns of ``shapes/conv.csv``. Stride, padding and dilation hold for both axes."""

    out_c: int
    kh: int
    kw: int
    stride: int
    pad: int
    dilation: int
    groups: int
    count: int

    @property
    def family(self) -> str:
        """Public module that the case belongs to."""
        return "convolution"

    @property
    def kind(self) -> str:
        """Sort of layer: kernel size and stride, or depthwise."""
        size = "depthwise" if self.depthwise else f"{self.kh}x{self.kw}"
        return size if self.stride == 1 else f"{size} stride {self.stride}"

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads one input channel of its own."""
        return self.groups > 1 and self.groups == self.c == self.out_c

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights, (out_channels, channels of one group, KH, KW)."""
        return self.out_c, self.c // self.groups, self.kh, self.kw

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, (N, out_channels, OH, OW)."""
        out_h = output_size(self.h, self.kh, self.stride, self.pad, self.dilation)
        out_w = output_size(self.w, self.kw, self.stride, self.pad, self.dilation)
        return self.n, self.out_c, out_h, out_w

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add, taps over the padding included, as the field counts."""
        n, out_c, out_h, out_w = self.output_shape
        return 2 * n * out_c * out_h * out_w * (self.c // self.groups) * self.kh * self.kw

    def bytes(self, dtype: str) -> int:
        """Bytes that have to move: input, weights and output, each once."""
        elements = _elements(self.input_shape) + _elements(self.weight_shape) + _elements(self.output_shape)
        return elements * np.dtype(dtype).itemsize


@dataclass(frozen=True)
class PoolCase(Layer):
    """One pooling or subsampling: the columns of ``shapes/pool.csv``. Kernel, stride and padding hold for both axes."""

    op: str
    kernel: int
    stride: int
    pad: int
    ceil: bool

    @property
    def count(self) -> int:
        """How often the network has the layer: here each is one of its own."""
        return 1

    @property
    def family(self) -> str:
        """Public module that the case belongs to."""
        return "subsampling" if self.op == "sub" else "pooling"

    @property
    def kind(self) -> str:
        """Sort of layer: the operation, and whether its windows overlap."""
        if self.op == "sub":
            return "subsampling"
        return f"{self.op} pooling, {'overlapping' if self.stride < self.kernel else 'disjoint'} windows"

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Shape of the output, (N, C, OH, OW)."""
        out_h = output_size(self.h, self.kernel, self.stride, self.pad, ceil=self.ceil)
        out_w = output_size(self.w, self.kernel, self.stride, self.pad, ceil=self.ceil)
        return self.n, self.c, out_h, out_w

    @property
    def flops(self) -> int:
        """Window elements read: one addition or comparison each, padding included, scaling left out."""
        return _elements(self.output_shape) * self.kernel**2

    def bytes(self, dtype: str) -> int:
        """Bytes that have to move: input and output, and subsampling's weight and bias, each once."""
        parameters = 2 * self.c if self.op == "sub" else 0
        return (_elements(self.input_shape) + _elements(self.output_shape) + parameters) * np.dtype(dtype).itemsize


Case = ConvCase | PoolCase


@dataclass(frozen=True)
class Arrays:
    """The arrays of one case; subsampling has a weight and a bias for each channel, pooling has neither."""

    x: np.ndarray
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


def _elements(shape: tuple[int, ...]) -> int:
    """Count elements in Python integers."""
    total = 1
    for extent in shape:
        total *= extent
    return total


def _rows(path: Path, record: type[Any]) -> Iterator[Any]:
    """Read a CSV file into records; lines that start with a hash are comments."""
    convert: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "bool": lambda text: bool(int(text))}
    converters = {field.name: convert[str(field.type)] for field in fields(record)}
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            yield record(**{name: converter(row[name]) for name, converter in converters.items()})


@cache
def conv_cases() -> tuple[ConvCase, ...]:
    """Convolutions of five networks, in the order of the file."""
    return tuple(_rows(SHAPES / "conv.csv", ConvCase))


@cache
def pool_cases() -> tuple[PoolCase, ...]:
    """Poolings and subsamplings of well-known networks, and large ones, in the order of the file."""
    return tuple(_rows(SHAPES / "pool.csv", PoolCase))


@cache
def all_cases() -> dict[str, Case]:
    """Every case under its name."""
    cases: tuple[Case, ...] = (*conv_cases(), *pool_cases())
    return {case.id: case for case in cases}


def representatives(most_bytes: int | None = None) -> list[Case]:
    """Return the first case of every kind, of those that move so many bytes in float32 at most.

    Each brings other kernels, or other paths through them.
    """
    first: dict[str, Case] = {}
    for case in all_cases().values():
        if most_bytes is None or case.bytes("float32") <= most_bytes:
            first.setdefault(case.kind, case)
    return list(first.values())


def make_arrays(case: Case, dtype: str) -> Arrays:
    """Fill the arrays of a case; the seed follows from its name, so that every process gets the same numbers."""
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))

    def uniform(shape: tuple[int, ...]) -> np.ndarray:
        """Draw from [-0.5, 0.5): no denormals, no overflow, sums that stay small."""
        values = aligned(shape, np.dtype(dtype))
        rng.random(dtype=values.dtype, out=values)
        values -= 0.5
        return values

    x = uniform(case.input_shape)
    if isinstance(case, ConvCase):
        return Arrays(x, uniform(case.weight_shape))
    if case.op == "sub":
        return Arrays(x, uniform((case.c,)), uniform((case.c,)))
    return Arrays(x)
