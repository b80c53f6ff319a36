"""`fastpool bench`: the layers of well-known networks against this machine's limits, and against an earlier run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fastpool.cli.bench_report import comparison, document, load_document, print_report, write_json
from fastpool.cli.errors import CommandError
from fastpool.cli.progress import Progress
from fastpool.measuring.cases import Case, all_cases, make_arrays, representatives
from fastpool.measuring.limits import Limits, Meter, median_rate
from fastpool.measuring.machine import cpu_name
from fastpool.measuring.ours import prepared
from fastpool.measuring.rounds import Measured, measure_rounds, yardstick
from fastpool.measuring.timing import measure_call

DTYPE = "float32"
#: Rounds, and seconds of a block that are run uncounted and counted.
FULL, QUICK = (11, 0.02, 0.03), (7, 0.01, 0.015)


def bench(
    *, quick: bool, only: str, rounds: int | None, json: str | None, against: str | None, roofline: str | None
) -> int:
    """Measure, print the table, write what was asked for; return 1 where a case is slower than in the file `against`.

    What was measured until an interruption is reported, and the interruption passed on.
    """
    import fastpool

    before = None if against is None else load_document(against)
    for argument, name in (("--json", json), ("--roofline", roofline)):
        _require_writable(argument, name)
    draw = _roofline_format(roofline)
    threads = fastpool.get_num_threads()
    cases = _chosen(quick, only, before)
    if before is not None:
        _require_comparable(before, threads)
    count, warm, span = QUICK if quick else FULL
    rounds = rounds or count
    found = [Measured(case, yardstick(case, DTYPE)) for case in cases]
    meter = Meter(DTYPE, threads)
    limits = meter.limits()
    measure = partial(_measure, prepare=partial(_prepare, threads=threads), warm=warm, span=span, meter=meter)
    interrupted, verdicts = False, {}
    try:
        measure(found, rounds, "measuring")
        if before is not None:
            verdicts = comparison(found, before)
            suspects = [measured for measured in found if verdicts[measured.case.id].verdict() == "slower"]
            if suspects:  # one round of bad luck is not to be blamed on the code: what is slower must be so again
                again = [Measured(measured.case, measured.yardstick) for measured in suspects]
                measure(again, rounds, "confirming")
                verdicts |= comparison(again, before)
    except KeyboardInterrupt:
        interrupted = True
        found = [measured for measured in found if measured.seconds and len(measured.seconds) == len(measured.rates)]
    report = document(found, limits, _machine(), {"dtype": DTYPE, "threads": threads, "rounds": rounds, "quick": quick})
    print_report(found, limits, report, verdicts, before, against)
    if json is not None:
        write_json(json, report)
    if draw and found:
        _draw(Path(draw), found, limits, report)
    if interrupted:
        raise KeyboardInterrupt
    return int(any(ratio.verdict() == "slower" for ratio in verdicts.values()))


def _measure(
    found: Sequence[Measured], rounds: int, title: str, *, prepare: Any, warm: float, span: float, meter: Meter
) -> None:
    blocks = measure_rounds(
        found, rounds, prepare, lambda run: measure_call(run, warm, span), partial(median_rate, meter)
    )
    with Progress(title, rounds * len(found)) as progress:
        for measured in blocks:
            progress.advance(measured.case.id)


def _prepare(case: Case, threads: int) -> Any:
    """Make a case ready in fresh arrays."""
    _, run = prepared(case, make_arrays(case, DTYPE), threads)
    return run


def _chosen(quick: bool, only: str, before: dict[str, Any] | None) -> list[Case]:
    """Cases to measure: all, or with `quick` the first of each kind; of these, those that are asked for."""
    cases = [case for case in (representatives() if quick else all_cases().values()) if only in case.id]
    if not cases:
        raise CommandError(f"argument --only: no layer's name contains {only!r}")
    if before is not None:
        known = {record["id"] for record in before["cases"]}
        cases = [case for case in cases if case.id in known]
        if not cases:
            raise CommandError("argument --against: the file has none of the layers that are to be measured")
    return cases


def _require_comparable(before: dict[str, Any], threads: int) -> None:
    for name, value in (("threads", threads), ("dtype", DTYPE)):
        if before["settings"][name] != value:
            told = f"with {name} {before['settings'][name]}, here it would be {value}"
            raise CommandError(f"argument --against: the file was measured {told}")


def _machine() -> dict[str, Any]:
    import fastpool

    return {"processor": cpu_name(), **fastpool.info()}


def _require_writable(argument: str, name: str | None) -> None:
    """Refuse, before any work is done, a file that could not be written."""
    if name is None:
        return
    path = Path(name)
    if not path.parent.is_dir():
        raise CommandError(f"argument {argument}: no such directory: {path.parent}")
    if path.is_dir():
        raise CommandError(f"argument {argument}: is a directory: {name}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"argument {argument}: cannot write, permission denied: {name}")


def _roofline_format(name: str | None) -> str | None:
    """File that the roofline goes to, None without matplotlib; refuse a file that matplotlib cannot write."""
    from fastpool.measuring.roofline import FORMATS

    if name is not None and Path(name).suffix.lower() not in FORMATS:
        raise CommandError(f"argument --roofline: the name must end in {', '.join(FORMATS)}, got {name!r}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        told = 'the roofline needs matplotlib: pip install "fastpool[cli]"'
        if name is not None:
            raise CommandError(f"argument --roofline: {told}") from error
        print(told, file=sys.stderr)
        return None
    return name or "roofline.png"


def _draw(path: Path, found: Sequence[Measured], limits: Limits, report: dict[str, Any]) -> None:
    from fastpool.measuring.roofline import Point, draw_roofline

    points = [
        Point(m.case.id, m.case.family if m.case.family != "convolution" else m.case.net, m.case.flops,
              m.case.bytes(DTYPE), {"fastpool": m.median})
        for m in found
    ]  # fmt: skip
    draw_roofline(points, asdict(limits), {"fastpool": "fastpool"}, path, report["footnote"])
    print(f"Roofline: {path}", file=sys.stderr)
