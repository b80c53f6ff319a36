"""What `fastpool bench` prints and writes, and what it reads again to compare with."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastpool.cli.errors import CommandError
from fastpool.measuring.limits import Limits
from fastpool.measuring.rounds import Measured
from fastpool.measuring.verdict import CONFIDENCE, THRESHOLD, Ratio, unpaired_ratio
from fastpool.units import seconds_text

FORMAT = "fastpool bench 1"
#: What has to be equal for a difference to be the code's.
SURROUNDINGS = ("processor", "instructions", "python", "numpy", "numba", "llvmlite")


def document(
    found: Sequence[Measured], limits: Limits, machine: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """Everything measured, as it goes to the JSON file."""
    now = datetime.datetime.now(datetime.UTC)
    footnote = (
        f"{machine['processor']}, {machine['instructions']}, {settings['threads']} threads, {settings['dtype']}, "
        f"fastpool {machine['version']}, numba {machine['numba']}, numpy {machine['numpy']}, "
        f"Python {machine['python']}; {now.date().isoformat()}"
    )
    return {
        "format": FORMAT,
        "date": now.isoformat(timespec="seconds"),
        "footnote": footnote,
        "machine": {name: value for name, value in machine.items() if name != "cache"},
        "settings": settings,
        "limits": asdict(limits),
        "cases": [
            {
                "id": measured.case.id,
                "kind": measured.case.kind,
                "flops": measured.case.flops,
                "bytes": measured.case.bytes(settings["dtype"]),
                "yardstick": measured.yardstick,
                "seconds": measured.seconds,
                "rates": measured.rates,
            }
            for measured in found
        ],
    }


def write_json(name: str, report: dict[str, Any]) -> None:
    """Write the document."""
    try:
        with open(name, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1, default=str)
            file.write("\n")
    except OSError as error:
        raise CommandError(f"argument --json: cannot write {name}: {error.strerror or error}") from error


def load_document(name: str) -> dict[str, Any]:
    """Read a document that `write_json` wrote."""
    try:
        with open(name, encoding="utf-8") as file:
            report = json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise CommandError(f"argument --against: cannot read {name}: {reason}") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise CommandError(f"argument --against: {name} was not written by `fastpool bench --json` of this version")
    return report


def comparison(found: Sequence[Measured], before: dict[str, Any]) -> dict[str, Ratio]:
    """Ratio of the time now to that in an older document, for every case, each in units of its machine's speed."""
    records = {record["id"]: record for record in before["cases"]}
    ratios = {}
    for measured in found:
        old = records[measured.case.id]
        then = [seconds * rate for seconds, rate in zip(old["seconds"], old["rates"], strict=True)]
        ratios[measured.case.id] = unpaired_ratio(measured.normalised, then)
    return ratios


def print_report(
    found: Sequence[Measured],
    limits: Limits,
    report: dict[str, Any],
    verdicts: Mapping[str, Ratio],
    before: dict[str, Any] | None,
    against: str | None,
) -> None:
    """Print tables and notes to standard output."""
    giga = 1e9
    print(report["footnote"])
    print(
        f"limits: {limits.flops / giga:.0f} GFLOP/s of multiply-adds; {limits.read / giga:.1f} GB/s read from memory, "
        f"{limits.copy / giga:.1f} GB/s copied, {limits.cached_copy / giga:.0f} GB/s within the second-level caches"
    )
    header = ["layer", "time", "spread", "GFLOP/s", "of peak", "GB/s", "of copy"]
    if verdicts:
        header += ["now / then", f"{100 * CONFIDENCE:.0f} % interval", "verdict"]
    lines = []
    for measured in found:
        work = {"flops": measured.case.flops, "copy": _bytes(measured, report)}
        flops, moved = (amount / measured.median for amount in work.values())
        of_peak, of_copy = (100 * measured.share(kind, work[kind], getattr(limits, kind)) for kind in work)
        line = [measured.case.id, seconds_text(measured.median), f"{100 * measured.spread:.1f} %"]
        line += [f"{flops / giga:.1f}", f"{of_peak:.0f} %"]
        line += [f"{moved / giga:.1f}", f"{of_copy:.0f} %"]
        if measured.case.id in verdicts:
            ratio = verdicts[measured.case.id]
            line += [f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", ratio.verdict()]
        lines.append(line)
    print()
    _print_table(header, lines)
    print()
    print(
        "Operations and bytes are those of the definition: Winograd carries out fewer multiplications, and what stays\n"
        "in a cache is not copied from memory, so that both may exceed 100 %. Of peak: of the multiply-adds measured\n"
        "just before each block of the layer, the median of the rounds; of copy: so of large layers that compute\n"
        "little, else of the best copy. Spread: half of the distance between the quartiles of the rounds."
    )
    if before is not None:
        _print_verdict(verdicts, before, report, against)


def _bytes(measured: Measured, report: dict[str, Any]) -> int:
    return int(measured.case.bytes(report["settings"]["dtype"]))


def _print_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (header, *lines)) for i in range(len(header))]
    for row in (header, *lines):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def _print_verdict(
    verdicts: Mapping[str, Ratio], before: dict[str, Any], report: dict[str, Any], against: str | None
) -> None:
    """Print how many cases changed, and whatever else than the code has."""
    found = [ratio.verdict() for ratio in verdicts.values()]
    counts = ", ".join(f"{found.count(kind)} {kind}" for kind in ("slower", "faster", "same", "unclear"))
    print(f"\nAgainst {against}, {before['date']}: {counts}.")
    print(
        f"Slower, faster: the whole interval is off by more than {100 * THRESHOLD:.0f} %; slower when repeated, too.\n"
        "Times are divided by what the machine did just before each of them. Still, the runs are of different\n"
        "hours and processes: this sees a lasting change of a layer, not whether the code is to blame for it."
    )
    for name in SURROUNDINGS:
        then, now = before["machine"].get(name), report["machine"].get(name)
        if then != now:
            print(f"warning: {name} was {then}, is {now}", file=sys.stderr)
