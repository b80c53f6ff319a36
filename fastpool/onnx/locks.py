"""Locks that a forked child finds open.

Another thread may be in a run at the moment of a fork. It does not exist in the child, where its lock would stay shut.
"""

from __future__ import annotations

import os
import threading
import weakref

_owners: weakref.WeakSet[Locked] = weakref.WeakSet()


class Locked:
    """What has a lock, `_lock`."""

    def __init__(self) -> None:
        self.renew_lock()
        _owners.add(self)

    def renew_lock(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


def _after_fork_in_child() -> None:
    for owner in list(_owners):
        owner.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
