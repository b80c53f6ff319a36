"""Element types: one table from NumPy dtype to what kernels need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ElementType:
    """A dtype that kernels compute with."""

    dtype: np.dtype
    numba_name: str  #: name in numba.types

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize


ELEMENT_TYPES = {
    np.dtype(np.float32): ElementType(np.dtype(np.float32), "float32"),
    np.dtype(np.float64): ElementType(np.dtype(np.float64), "float64"),
}
