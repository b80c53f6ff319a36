"""The machine that measures, and whether others kept it busy meanwhile."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

BUSY = 0.05  # share of the processors that others may take; the system counts it in ticks, which blur 0 to 0.02
PAUSE = 0.25  # seconds that others get to finish


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


def own_seconds() -> float:
    """Return the processor time of this process and of the children that it has waited for."""
    return sum(os.times()[:4])


def peak_memory() -> int:
    """Return the most memory that this process has held at once, in bytes.

    Where Linux tells it itself, that counts; `getrusage` may count the process that started this one, too.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


class OtherLoad:
    """Share of the processors that other processes take, from the making of this object on; known on Linux only.

    Parallel regions are sensitive to it: whoever spins at a barrier waits for the core that a thread of his has lost.
    """

    def __init__(self, ours: Callable[[], float] = own_seconds) -> None:
        self._ours = ours
        self._start = self._snapshot()

    def share(self) -> float | None:
        """Return the share, 0 to 1, or None where the system does not tell."""
        end = self._snapshot()
        if self._start is None or end is None:
            return None
        available, busy, ours = (after - before for after, before in zip(end, self._start, strict=True))
        return min(1.0, max(0.0, (busy - ours) / available)) if available else 0.0

    def _snapshot(self) -> tuple[float, float, float] | None:
        """Return seconds of processor time: all that there was since the start, all that was used, and what we used."""
        system = system_seconds()
        return None if system is None else (*system, self._ours())


class Disturbance:
    """Tells which rounds other processes disturbed, as long as its patience lasts, and remembers the other rounds."""

    def __init__(self, ours: Callable[[], float], patience: float) -> None:
        self._ours = ours
        self._patience = patience  # seconds left for repeating
        self.counted: list[float] = []  # the others' share of the processors, for each round that counts
        self.repeated = 0
        self.start()

    def start(self) -> None:
        """Begin a round."""
        self._begin = perf_counter()
        self._load = OtherLoad(self._ours)

    def __call__(self) -> bool:
        """Tell whether the round that ends now was disturbed and is to be repeated, and begin the next."""
        share = self._load.share()
        repeat = share is not None and share > BUSY and self._patience > 0
        if repeat:
            sleep(PAUSE)
            self.repeated += 1
            self._patience -= perf_counter() - self._begin
        elif share is not None:
            self.counted.append(share)
        self.start()
        return repeat


def system_seconds() -> tuple[float, float] | None:
    """Return the processor time since the system's start: all that there was, and all that was used."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
        tick = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    times = [int(field) / tick for field in fields]  # user, nice, system, idle, iowait, irq, softirq, steal
    return sum(times), sum(times) - times[3] - times[4]
