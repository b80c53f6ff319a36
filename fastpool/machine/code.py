"""Machine code by name: in this process, else on disk, else compiled."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

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
#: Locks that a fork waits for, the first first: a child would inherit those of another thread, held by nobody.
_held_by_forks: list[Any] = [_lock]
_held: list[Any] = []


def hold_in_forks(lock: Any) -> None:
    """Let forks wait for another lock, which is only ever taken behind the others."""
    _held_by_forks.append(lock)


def _before_fork() -> None:
    for lock in _held_by_forks:
        lock.__enter__()  # may be interrupted: the fork then goes on with those that are held
        _held.append(lock)


def _after_fork() -> None:
    while _held:
        _held.pop().__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


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
