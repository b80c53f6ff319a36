"""Numbers with their units, as short as they are read, and names that can be shown."""

from __future__ import annotations


def _three_digits(value: float) -> str:
    """Three significant digits, never in exponent form: 1.23, 12.3, 123, 1234."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def seconds_text(seconds: float) -> str:
    """Return a duration: 850 ns, 12.3 us, 1.23 ms, 2.50 s."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{_three_digits(seconds / scale)} {unit}"
    return f"{seconds / 1e-9:.0f} ns"


def bytes_text(count: int) -> str:
    """Return a size in decimal units: 0, 512 B, 1.23 kB, 45.6 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * scale:
            return f"{_three_digits(count / scale)} {unit}"
    return f"{count} B" if count else "0"


def count_text(count: int) -> str:
    """Return a number: 84, 4,803, 6.22 M, 1.50 G."""
    for unit, scale in (("G", 1e9), ("M", 1e6)):
        if count >= 0.9995 * scale:
            return f"{_three_digits(count / scale)} {unit}"
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Return a number of things: 1 task, 8 tasks."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(name: str) -> str:
    """Return a file name without line breaks and whatever else cannot be shown."""
    return "".join(c if c.isprintable() else "?" for c in name)


def shift_text(shift_difference: float | None) -> str:
    """Return a shift difference: 0.123, or n/a where the output is too small or flat."""
    return "n/a" if shift_difference is None else f"{shift_difference:.3f}"
