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


def sum_type(x: ElementType, weight: ElementType) -> ElementType:
    """Integers in which products of two integers are summed: 32 bits for products of 8 bits, else 64."""
    return ELEMENT_TYPES[np.dtype(np.int32 if x.size == weight.size == 1 else np.int64)]
