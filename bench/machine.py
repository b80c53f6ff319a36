"""The machine that measures, and whether others kept it busy meanwhile."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_name() -> str:
    """Return the processor's own name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class OtherLoad:
    """Share of the processors that other processes take, from the making of this object on; known on Linux only."""

    def __init__(self) -> None:
        self._start = _snapshot()

    def share(self) -> float | None:
        """Return the share, 0 to 1. Child processes count as ours once they have ended and been waited for."""
        end = _snapshot()
        if self._start is None or end is None:
            return None
        available, busy, ours = (after - before for after, before in zip(end, self._start, strict=True))
        return min(1.0, max(0.0, (busy - ours) / available)) if available else 0.0


def _snapshot() -> tuple[float, float, float] | None:
    """Return seconds of processor time since the start: all there was, all that was used, and what we used."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
        tick = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    times = [int(field) / tick for field in fields]  # user, nice, system, idle, iowait, irq, softirq, steal
    return sum(times), sum(times) - times[3] - times[4], sum(os.times()[:4])
