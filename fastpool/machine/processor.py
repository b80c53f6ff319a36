"""The processor: what its vectors are like, and how many threads there are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fastpool.machine import store


@dataclass(frozen=True)
class Target:
    """What kernels need to know of the processor that Numba compiles for."""

    vector_bytes: int  #: bytes of a vector register: 64 (AVX-512), 32 (AVX2), 16 (SSE, NEON)
    registers: int  #: number of vector registers
    has_fma: bool  #: fused multiply-add in hardware
    multiplies: int  #: multiply-adds of whole vectors that begin in a cycle
    name: str  #: "avx512", "avx2", "sse" or "neon"
    reordered: tuple[int, ...] = ()  #: bytes of the narrow elements that one instruction puts in any order


def _described() -> dict[str, str]:
    """What LLVM says of the processor, now or when it was last asked: loading it takes longer than all else."""
    entry: Any = store.read("processor") if store.can_load() else None
    if entry is None:
        numba: Any = import_module("fastpool.kernels._features")
        found: dict[str, str] = numba.features()
        if store.can_load() and store.folder() and numba.are_settings_of_environment():
            store.write("processor", found)
        return found
    return dict(entry[0])


def _target(kind: str, name: str, features: set[str]) -> Target:
    if kind != "x86":
        return Target(16, 32, True, 2, "neon")
    if "avx512f" in features and "avx512vl" in features:
        reordered = {"avx512vbmi": 1, "avx512bw": 2}
        sizes = tuple(size for feature, size in reordered.items() if feature in features)
        # Zen 4 does 512 bits in two halves.
        return Target(64, 32, True, 1 if name == "znver4" else 2, "avx512", sizes)
    if "avx2" in features:
        return Target(32, 16, "fma" in features, 2, "avx2")
    return Target(16, 16, "fma" in features, 2, "sse")


def _threads() -> int:
    """Threads that a call may use at most: ``NUMBA_NUM_THREADS``, else the processors that the process may use."""
    chosen = os.environ.get("NUMBA_NUM_THREADS")
    if chosen:
        try:
            count = int(chosen)
        except ValueError:
            count = 0
        if count < 1:
            raise ValueError(f"NUMBA_NUM_THREADS must be a positive integer, got {chosen!r}")
        return count
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


_DESCRIBED = _described()
#: LLVM's name of the processor.
NAME = _DESCRIBED["name"]
TARGET = _target(_DESCRIBED["kind"], NAME, set(_DESCRIBED["features"].split()))
THREADS = _threads()
