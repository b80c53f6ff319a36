"""Measure fastpool against NumPy and other libraries, and write the table of the README: ``python -m bench.speed``.

Each engine runs in a process of its own. In every round each has one block, in turns, that starts with an uncounted
warm-up; a ratio is the median of the ratios of the rounds. Before anything is timed, the engines' results for the same
input are compared, so that only equal work is compared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Case, all_cases
from bench.engines import ENGINES
from bench.limits import Meter
from bench.machine import BUSY, Disturbance, cpu_count, cpu_name, own_seconds
from bench.pictures import draw
from bench.report import Report, Row, insert, markdown, number, summary
from bench.timing import SPAN, WARM, measure_in_turns, median_ratio
from bench.worker import ROOT, Worker, WorkerError

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # of the largest value


class DisagreementError(Exception):
    """Two engines computed different results for the same input."""


def check_equal(name: str, tolerance: float, results: Mapping[str, np.ndarray]) -> None:
    """Raise where an engine's result is not that of the first one, up to a part of the largest value."""
    (first, expected), *others = results.items()
    for engine, result in others:
        if result.shape != expected.shape or result.dtype != expected.dtype:
            raise DisagreementError(
                f"{name}: {first} gives {expected.shape} {expected.dtype}, {engine} {result.shape} {result.dtype}"
            )
        difference = np.abs(result - expected).max() / np.abs(expected).max()
        if not difference <= tolerance:
            raise DisagreementError(f"{name}: {first} and {engine} differ by {difference:.1e} of the largest value")


def measure(
    case: Case, dtype: str, workers: Mapping[str, Worker], rounds: int, warm: float, span: float, watch: Disturbance
) -> Row:
    """Compare the results of all workers on one case, then time them in turns. The first worker is ours."""
    variants = {name: worker.prepare(case.id, dtype) for name, worker in workers.items()}
    able = {name: worker for name, worker in workers.items() if variants[name] is not None}
    ours = next(iter(workers))
    if ours not in able:
        raise WorkerError(f"{ours} does not compute {case.id} in {dtype}")
    with tempfile.TemporaryDirectory() as folder:
        check_equal(case.id, TOLERANCE[dtype], {name: worker.result(folder) for name, worker in able.items()})
    blocks = {name: partial(worker.measure, warm, span) for name, worker in able.items()}
    watch.start()
    times = measure_in_turns(blocks, rounds, watch)
    return Row(
        case,
        {name: statistics.median(values) for name, values in times.items()},
        {name: median_ratio(values, times[ours]) for name, values in times.items() if name != ours},
        {name: variant for name, variant in variants.items() if variant is not None},
    )


def processor_seconds(workers: Iterable[Worker]) -> float:
    """Return the processor time that this process and its workers have used."""
    return own_seconds() + sum(worker.seconds() for worker in workers)


def setting(versions: Mapping[str, str]) -> str:
    """Say where, when and with what the figures were taken."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"{cpu_name()}, {cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {packages}; {today}."
    )


def footnotes(engines: Iterable[str], versions: Mapping[str, str], rounds: int, warm: float) -> list[str]:
    """Say where, when, with what and how fairly the figures were taken."""
    return [
        setting(versions),
        f"Every engine in a process of its own, in turns, {rounds} rounds; each block first runs {1e3 * warm:.0f} ms "
        "uncounted; times are medians of the rounds, ratios medians of each round's ratio. The results were compared "
        "before they were timed.",
        "One layer over and over on the same input: weights and small maps stay in cache more than in a whole network.",
        *(f"{ENGINES[engine].label}: {ENGINES[engine].note}." for engine in engines),
    ]


def document(
    report: Report, versions: Mapping[str, str], settings: Mapping[str, Any], limits: Mapping[str, float]
) -> dict[str, Any]:
    """Return everything measured, for other programs."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": versions,
        "limits": limits,
        "settings": settings,
        "rows": [
            asdict(row.case)
            | {"id": row.case.id, "family": row.case.family, "kind": row.case.kind}
            | {"flops": row.case.flops, "bytes": row.case.bytes(report.dtype)}
            | {"seconds": row.seconds, "ratios": row.ratios, "variants": row.variants}
            for row in report.rows
        ],
    }


def publish(report: Report, measured: Mapping[str, Any], root: Path = ROOT) -> None:
    """Write the README's tables, and the whole report, the figures and the pictures in ``docs``."""
    docs = root / "docs"
    pictures = draw(measured, docs)
    links = [f"![{path.stem}](docs/{path.name})" for path in pictures]
    links.append("Every shape: [docs/speed.md](docs/speed.md); all figures: [docs/speed.json](docs/speed.json).")
    (docs / "speed.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    local = "\n\n".join(f"![{path.stem}]({path.name})" for path in pictures)
    (docs / "speed.md").write_text(f"# Speed\n\n{markdown(report)}\n{local}\n", encoding="utf-8")
    readme = root / "README.md"
    readme.write_text(insert(readme.read_text(encoding="utf-8"), summary(report, links)), encoding="utf-8")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=(__doc__ or "").partition("\n\n")[0])
    rivals = [name for name in ENGINES if not name.startswith("fastpool")]
    parser.add_argument("--against", default="numpy", help=f"comma-separated, of {', '.join(rivals)} (default numpy)")
    parser.add_argument("--functional", action="store_true", help="let ours pack the weights in every call")
    parser.add_argument("--only", metavar="SUBSTR", default="", help="cases whose name (network/layer) contains this")
    parser.add_argument("--dtype", choices=sorted(TOLERANCE), default="float32")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="for every engine (default: all cores)")
    parser.add_argument("--quick", action="store_true", help="three short rounds: a glance, not a measurement")
    parser.add_argument("--rounds", type=int, help="blocks of each engine (default 7; 3 with --quick)")
    parser.add_argument(
        "--warm", type=float, default=WARM, help="seconds uncounted in each block (default %(default)s)"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time to spend on repeating rounds that other processes disturbed (default %(default)g)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw the ratios and a roofline (matplotlib)")
    parser.add_argument(
        "--publish", action="store_true", help="write the README's tables, and docs/speed.* and pictures"
    )
    options = parser.parse_args(arguments)
    options.against = options.against.split(",")
    options.rounds = options.rounds or (3 if options.quick else 7)
    for rival in options.against:
        if rival not in rivals:
            parser.error(f"--against: {rival!r} is none of {', '.join(rivals)}")
        if not ENGINES[rival].available():
            parser.error(f"--against: {rival} needs the packages {', '.join(ENGINES[rival].packages)}")
    options.cases = [case for case in all_cases().values() if options.only in case.id]
    if not options.cases:
        parser.error(f"--only: no case contains {options.only!r}")
    if options.threads < 1 or options.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 where an engine fails or two results differ."""
    options = parse(arguments)
    ours = "fastpool-functional" if options.functional else "fastpool"
    engines = [ours, *options.against]
    span = SPAN / 2 if options.quick else SPAN
    rows = []
    try:
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(name, options.threads)) for name in engines}
            versions = {package: v for worker in workers.values() for package, v in worker.versions().items()}
            watch = Disturbance(partial(processor_seconds, workers.values()), options.patience)
            for case in options.cases:
                row = measure(case, options.dtype, workers, options.rounds, options.warm, span, watch)
                rows.append(row)
                rivals = "".join(
                    f"   {ENGINES[name].label} {number(1e3 * row.seconds[name])} ms, ratio {number(ratio)}"
                    for name, ratio in row.ratios.items()
                )
                print(f"{case.id:44} {number(1e3 * row.seconds[ours]):>6} ms{rivals}", flush=True)
    except (WorkerError, DisagreementError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    limits = asdict(Meter(options.dtype, options.threads).limits())  # now that no worker is there any more
    others = statistics.fmean(watch.counted) if watch.counted else None
    notes = footnotes(engines, versions, options.rounds, options.warm)
    notes.append(
        f"The machine's limits, measured after that: {1e-9 * limits['flops']:.0f} GFLOP/s of fused multiply-adds, "
        f"{1e-9 * limits['copy']:.1f} GB/s copied and {1e-9 * limits['read']:.1f} GB/s read from memory."
    )
    if others is not None:
        notes.append(
            f"Other processes took {100 * others:.1f} % of the processors in the rounds that count; {watch.repeated} "
            f"rounds with more than {100 * BUSY:.0f} % were repeated."
        )
    labels = {name: ENGINES[name].label for name in engines}
    report = Report(rows, engines, labels, options.dtype, options.threads, notes)
    text = markdown(report)
    print("\n" + text)
    if others is not None and others > BUSY:
        print(f"warning: other processes took {100 * others:.0f} % of the processors: do not trust", file=sys.stderr)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    settings = {key: getattr(options, key) for key in ("dtype", "threads", "rounds", "warm", "quick")}
    settings |= {"engines": engines, "other_load": others}
    measured = document(report, versions, settings, limits)
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    if options.pictures:
        draw(measured, options.pictures)
    if options.publish:
        publish(report, measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
