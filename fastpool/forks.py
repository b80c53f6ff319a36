"""Locks that a fork waits for: a child would inherit those that another thread holds, with nobody to free them."""

from __future__ import annotations

import os
import threading
from typing import Any

#: Held while the first use of a name, or the first call, imports modules and starts what all calls share: Python's own
#: import locks have the same flaw, and a child that then uses the package would wait for one for ever.
loading = threading.RLock()
#: The first first. A lock may be taken only behind those before it.
_waited_for: list[Any] = [loading]
_held: list[Any] = []


def wait_for(lock: Any) -> None:
    """Let forks wait for another lock, which is only ever taken behind the others."""
    _waited_for.append(lock)


def _before() -> None:
    for lock in _waited_for:
        lock.__enter__()  # may be interrupted: the fork then goes on with those that are held
        _held.append(lock)


def _after() -> None:
    while _held:
        _held.pop().__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
