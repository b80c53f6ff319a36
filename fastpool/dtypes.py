"""Element types: one table from NumPy dtype to what kernels need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ElementType:
    """A dtype that kernels compute with, or that they widen while they pack."""

    dtype: np.dtype
    numba_name: str  #: name in numba.types

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers, whose sums wrap."""
        return self.dtype.kind in "iu"


def _table(*names: str) -> dict[np.dtype, ElementType]:
    return {np.dtype(name): ElementType(np.dtype(name), name) for name in names}


#: What every function takes.
FLOATS = _table("float32", "float64")
#: What convolutions take besides. There is no uint64: its sums with signed integers would fit no dtype.
INTEGERS = _table("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
ELEMENT_TYPES = FLOATS | INTEGERS
#: What is stored in 16 bits and computed in float32. bfloat16, which NumPy has from other packages, is one of them as
#: soon as `learn` has seen it.
HALVES = _table("float16")
#: What subsampling takes.
FRACTIONS = HALVES | FLOATS
#: What poolings take. A bool is a byte, 0 or 1.
POOLED = {np.dtype(bool): ElementType(np.dtype(bool), "uint8")} | INTEGERS | _table("uint64") | FRACTIONS


def learn(dtype: np.dtype, table: dict[np.dtype, ElementType]) -> bool:
    """Whether a dtype that is not in a table is bfloat16, and may be; then it is in all tables that may have it."""
    if dtype.name != "bfloat16" or np.dtype(np.float16) not in table:
        return False
    for known in (HALVES, FRACTIONS, POOLED):
        known[dtype] = ElementType(dtype, "bfloat16")
    return True


def sum_type(x: ElementType, weight: ElementType) -> ElementType:
    """Integers in which products of two integers are summed: 32 bits for products of 8 bits, else 64."""
    return ELEMENT_TYPES[np.dtype(np.int32 if x.size == weight.size == 1 else np.int64)]


def pooled_types(x: ElementType, operation: str, is_sum: bool) -> tuple[ElementType, ElementType]:
    """Types that windows are combined in, and that results are stored in, by NumPy's rules.

    Extrema keep their type. Sums of integers are 64 bits wide, what is divided or rooted afterwards is a float64.
    """
    if x.dtype in HALVES:
        return FLOATS[np.dtype(np.float32)], x
    if x.dtype in FLOATS or operation in ("max", "min", "all"):
        return x, x
    name = "float64" if not is_sum else "uint64" if x.dtype.kind == "u" else "int64"
    return POOLED[np.dtype(name)], POOLED[np.dtype(name)]
