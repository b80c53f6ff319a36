"""Remembering what was decided for arguments that were seen before, so that a call on a small input stays cheap."""

from __future__ import annotations

from typing import Any

#: Entries of one memo; a program that meets more shapes than this decides anew.
CAPACITY = 4096

_PLAIN = frozenset((int, bool, float, str, type(None)))


def options_key(*options: Any) -> tuple[Any, ...] | None:
    """Key that is equal only for equal options of equal types: 1, 1.0 and True must not be taken for one another.

    None for options of other types than numbers, strings and tuples of int: those are checked every time.
    """
    types = tuple(map(type, options))
    if _PLAIN.issuperset(types):
        return options + types
    for option, kind in zip(options, types, strict=True):
        if kind is tuple:
            for item in option:
                if type(item) is not int:
                    return None
        elif kind not in _PLAIN:
            return None
    return options + types


class Memo(dict[Any, Any]):
    """A dictionary that empties itself when it is full."""

    def keep(self, key: Any, value: Any) -> Any:
        """Store and return a value; a key of None is not stored."""
        if key is not None:
            if len(self) >= CAPACITY:
                self.clear()
            self[key] = value
        return value
