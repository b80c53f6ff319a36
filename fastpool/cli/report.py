"""The measurements as a table, and as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fastpool.cli.measure import Measurement
from fastpool.cli.picture import Picture
from fastpool.units import bytes_text, count_text, printable, seconds_text, shift_text

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS: tuple[tuple[str, Callable[[Measurement], str]], ...] = (
    ("output", lambda m: " x ".join(str(size) for size in m.problem.out_shape[1:])),
    ("learnable\nparameters", lambda m: count_text(m.way.parameters(m.problem))),
    ("mult-\nadds", lambda m: count_text(m.way.multiply_adds(m.problem))),
    ("bytes\nmoved", lambda m: bytes_text(m.way.bytes_moved(m.problem))),
    ("extra\nmemory", lambda m: bytes_text(m.extra_memory)),
    ("extra,\nNumPy", lambda m: bytes_text(m.baseline_extra_memory)),
    ("time", lambda m: seconds_text(m.times.ours)),
    ("time,\nNumPy", lambda m: seconds_text(m.times.baseline)),
    ("speed-\nup", lambda m: f"{m.times.speedup:.1f} x"),
    ("shift", lambda m: shift_text(m.shift_difference)),
)

PLAIN_WIDTH = 160
"""Characters in a line where the output is no terminal: enough for the whole table."""

NOTES = (
    "NumPy: im2col + matmul for the convolutions, strided slices or blocks for the rest, with equal results.",
    "shift: change of the output when the picture moves by one pixel, relative to its contrast (aliasing).",
    "More: fastpool compare --help",
)


def print_table(picture: Picture, factor: int, measurements: Sequence[Measurement], sheet: str) -> None:
    """Print the comparison to standard output."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    console.print(f"{picture.name}: {picture.width} x {picture.height}, {factor} times smaller", markup=False)
    table = _table(measurements, COLUMNS)
    needed = console.measure(table, options=console.options.update(max_width=PLAIN_WIDTH)).maximum
    if needed <= console.width:
        console.print(table)
    else:  # a narrow terminal: the columns in two tables, one below the other
        half = len(COLUMNS) // 2
        console.print(_table(measurements, COLUMNS[:half]))
        console.print(_table(measurements, COLUMNS[half:]))
    unsteady = [m.way.name for m in measurements if m.times.unsteady]
    if unsteady:
        busy = (
            f"Unsteady times, this machine is busy with other work: {', '.join(unsteady)}. Measure again when it rests."
        )
        console.print(busy, style="yellow", markup=False)
    for note in NOTES:
        console.print(note, style="dim", markup=False)
    console.print(f"\nContact sheet: {printable(sheet)}", markup=False)


def _table(measurements: Sequence[Measurement], columns: Sequence[tuple[str, Callable[[Measurement], str]]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("way", no_wrap=True, vertical="bottom")
    for header, _ in columns:
        table.add_column(header, justify="right", no_wrap=True, vertical="bottom")
    for m in measurements:
        table.add_row(m.way.name, *(cell(m) for _, cell in columns))
    return table


def print_json(
    picture: Picture, path: str, factor: int, measurements: Sequence[Measurement], sheet: str, machine: dict[str, Any]
) -> None:
    """Print everything that was measured, and on what, as one JSON object to standard output."""
    _, _, height, width = picture.pixels.shape
    report = {
        "picture": {
            "path": path,
            "width": picture.width,
            "height": picture.height,
            "compared_width": width,
            "compared_height": height,
        },
        "factor": factor,
        "ways": [_way_record(m) for m in measurements],
        "sheet": sheet,
        "machine": machine,
    }
    json.dump(report, sys.stdout, indent=2, allow_nan=False, default=str)
    sys.stdout.write("\n")


def _way_record(m: Measurement) -> dict[str, Any]:
    return {
        "name": m.way.name,
        "idea": m.way.explain(m.problem),
        "output_shape": list(m.problem.out_shape),
        "parameters": m.way.parameters(m.problem),
        "multiply_adds": m.way.multiply_adds(m.problem),
        "bytes_moved": m.way.bytes_moved(m.problem),
        "extra_memory_bytes": m.extra_memory,
        "seconds": m.times.ours,
        "seconds_fastest_round": m.times.ours_fastest,
        "baseline": m.way.baseline,
        "baseline_seconds": m.times.baseline,
        "baseline_seconds_fastest_round": m.times.baseline_fastest,
        "baseline_extra_memory_bytes": m.baseline_extra_memory,
        "speedup": m.times.speedup,
        "largest_relative_difference_from_baseline": m.deviation,
        "shift_difference": m.shift_difference,
    }
