"""Machine code by name: in this process, else on disk, else compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from fastpool import forks
from fastpool.machine import image, store
from fastpool.machine.builtins import immortal


@dataclass(frozen=True)
class Made:
    """What a compiler made of a function."""

    data: bytes | None  #: object code, None where only the compiler can load it
    symbol: str  #: name of the function in it
    load: Callable[[], int]  #: address, of what the compiler itself has loaded
    cached: bool = False  #: whether the compiler had it on disk
    may_be_kept: bool = True  #: whether the next process would make the same
    keeps: Any = field(default=None, repr=False)  #: what the loaded code lives in


@dataclass(frozen=True)
class Compiled:
    """A function in memory."""

    address: int
    cached: bool  #: whether it came from disk
    keeps: Any = field(default=None, repr=False)


_lock = threading.RLock()
forks.wait_for(_lock)


def get(known: dict[Any, Compiled], item: Any, key: str | None, compile: Callable[[], Made]) -> Compiled:
    """Give the code of `item`, one thread at a time; without a key it is not kept on disk."""
    with _lock:
        found = known.get(item)
        if found is None:
            found = (_from_disk(key) if key else None) or _compiled(key, compile())
            known[item] = found
        return found


def _from_disk(key: str) -> Compiled | None:
    entry = store.read(key) if store.can_load() else None
    if entry is None:
        return None
    header, content = entry
    try:
        return Compiled(image.place(image.Image(content, **header)), True)
    except (image.RefusedError, OSError):  # a C library that lacks a function; a system that forbids it
        return None


def _compiled(key: str | None, made: Made) -> Compiled:
    """Put it into memory as the next process will do it, so that there is one way only; keep it."""
    if made.data is not None:
        try:
            found = image.image_of(made.data, made.symbol)
            address = image.place(found)
        except (image.RefusedError, OSError) as reason:
            if key:
                store.warn(str(reason))
        else:
            if key and made.may_be_kept and store.is_current():
                header = asdict(found)
                content = header.pop("content")
                store.write(key, header, content)
            return Compiled(address, False)
    immortal(made.keeps)
    return Compiled(made.load(), made.cached, made.keeps)
