"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import shutil
import sys
from time import perf_counter

_BAR = 24


class Progress:
    """Use it as a context manager; the bar is erased at the end."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._start = perf_counter()
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        self._draw("")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def advance(self, name: str) -> None:
        """Count one piece of work as done; `name` says which."""
        self._done += 1
        self._draw(name)

    def _draw(self, name: str) -> None:
        if not self._shown:
            return
        filled = _BAR * self._done // max(1, self._total)
        left = (perf_counter() - self._start) / self._done * (self._total - self._done) if self._done else 0.0
        bar = "#" * filled + "." * (_BAR - filled)
        line = f"{self._title} {bar} {self._done}/{self._total}  {left:.0f} s left  {name}"
        sys.stderr.write(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K")
        sys.stderr.flush()
