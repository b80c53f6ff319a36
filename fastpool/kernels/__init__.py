"""Kernels: what computes. `table` lists them all."""

from __future__ import annotations

from functools import cache
from typing import Any

from numba.core import types

from fastpool.dtypes import ElementType
from fastpool.kernels.simd import Spec
from fastpool.kernels.tiles import TARGET


def lanes(element: ElementType) -> int:
    """Elements of one vector register."""
    return TARGET.vector_bytes // element.size


@cache
def spec_for(element: ElementType, variant: str, vectors: int, width: int) -> Any:
    """Spec of a kernel on this processor; a variant that begins with "narrow" has vectors of half a register."""
    make: Any = Spec
    count = lanes(element) // 2 if variant.startswith("narrow") else lanes(element)
    return make(getattr(types, element.numba_name), count, vectors, width, variant)
