"""Call blocks: how a routine gets its numbers, addresses and tables.

A call block is a row of 8-byte words. The type of the argument `call` carries the block's `Layout`, so that a kernel
body writes ``call.channels`` and Numba loads a word.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import numpy as np

#: First words of every call block. `who` says who does the tasks; `x` ... are filled in by the launchers, which add
#: what the block has there: bytes from the begin of the array on. `scratch_at` is where in the scratch of the launch
#: that of the step begins, `out_at` where the step writes in it (words; negative: to the array).
HEAD = {
    "function": "integer",
    "tasks": "integer",
    "who": "integer",
    "scratch_at": "integer",
    "out_at": "integer",
    "x": "source",
    "weights": "elements",
    "bias": "elements",
    "residual": "elements",
    "out": "result",
    "scratch": "elements",
    "indices": "integers",
    "filters": "elements",
}
TASKS, WHO, SCRATCH_AT, OUT_AT, FIRST_ADDRESS = 1, 2, 3, 4, 5
#: Threads take tasks from one another; or the caller does all, too little to be shared; or every thread does all for
#: itself, in its own scratch, and goes on to the next step at once.
ANY, ALONE, EACH = 0, 1, 2
ADDRESSES = len(HEAD) - FIRST_ADDRESS
#: Which of the addresses are those of the result and of the scratch memory.
OUT, SCRATCH = (list(HEAD).index(name) - FIRST_ADDRESS for name in ("out", "scratch"))

#: To the bits of a float64, as an integer.
_REAL, _BITS = Struct("=d"), Struct("=q")


@dataclass(frozen=True)
class Layout:
    """Names and kinds of the words of a call block, in order.

    Kinds: ``integer``; ``number`` (a float64); ``bound`` (a float64; where the spec's elements are integers an int64,
    which is exact); ``elements``, ``source``, ``result``, ``integers`` (addresses of elements of the spec's type, of
    the type that is read and widened to it, of the type that is written, of int64); ``routine`` (address of code); or
    the `Layout` of another block that the word points to.
    """

    name: str
    fields: dict[str, Any] = field(hash=False)
    has_head: bool = True

    @property
    def words(self) -> dict[str, Any]:
        """Head, if any, and fields."""
        return HEAD | self.fields if self.has_head else self.fields

    def block(self, **values: int | float) -> np.ndarray:
        """Words of one call, without those that `launch` fills in; every field must be given."""
        given = set(values) - {"tasks"}
        if given != set(self.fields):
            raise TypeError(f"{self.name}: missing or unknown fields {sorted(given ^ set(self.fields))}")
        words = []
        for name, kind in self.words.items():
            value = values.get(name, 0)
            real = kind == "number" or (kind == "bound" and isinstance(value, float))
            words.append(_BITS.unpack(_REAL.pack(value))[0] if real else int(value))
        return np.array(words, np.int64)
