"""Measure whole networks, one image at a time, against other runtimes: ``python -m bench.latency [NAME ...]``.

The networks are those of ``bench.networks``; ``--file`` measures others. For each, every engine has a fresh process of
its own, so that its peak memory is that of one network. The engines' results for the same input are compared, then they
are timed in turns, as in ``bench.speed``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import ENGINES
from bench.machine import BUSY, Disturbance, cpu_count, cpu_name
from bench.networks import NETWORKS
from bench.report import MISSING, number, table
from bench.speed import DisagreementError, check_equal, processor_seconds, setting
from bench.timing import measure_in_turns, median_ratio
from bench.worker import Worker, WorkerError

TOLERANCE = 1e-4  # of the largest value: the roundings of some hundred layers add up
WARM = 0.2  # seconds uncounted in each block
SPAN = 0.4  # seconds counted: several runs of the largest networks


@dataclass(frozen=True)
class Measured:
    """One network. The first engine is ours, the others are rivals."""

    network: str
    seconds: dict[str, float]  # engine -> median over the rounds
    ratios: dict[str, float]  # rival -> median over the rounds of (rival's time / ours)
    loads: dict[str, dict[str, float]]  # engine -> what `Worker.load` returns

    @property
    def lowest(self) -> float | None:
        """Ratio against the fastest rival, if there is one."""
        return min(self.ratios.values(), default=None)


def measure(path: Path, options: argparse.Namespace) -> tuple[Measured, Disturbance]:
    """Compare the results of all engines on the network of a file, then time them in turns."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        source = Path(folder) / "x.npy"
        np.save(source, np.random.default_rng(options.seed).standard_normal(input_shape(path), np.float32))
        for name in options.engines:  # what is compiled once on a machine, and files, are there when it counts
            with Worker(name, options.threads) as first:
                first.load(str(path), str(source))
        workers = {name: stack.enter_context(Worker(name, options.threads)) for name in options.engines}
        loads = {name: worker.load(str(path), str(source)) for name, worker in workers.items()}
        check_equal(path.stem, TOLERANCE, {name: worker.result(folder) for name, worker in workers.items()})
        blocks = {name: partial(worker.measure, options.warm, options.span) for name, worker in workers.items()}
        watch = Disturbance(partial(processor_seconds, workers.values()), options.patience)
        times = measure_in_turns(blocks, options.rounds, watch)
    ours = options.engines[0]
    measured = Measured(
        path.stem,
        {name: statistics.median(values) for name, values in times.items()},
        {name: median_ratio(values, times[ours]) for name, values in times.items() if name != ours},
        loads,
    )
    return measured, watch


def input_shape(path: Path) -> list[int]:
    """Return the shape of a model's only input; an extent that is left open becomes 1."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {weight.name for weight in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ValueError(f"{path}: a model with one float32 input is wanted")
    return [dim.dim_value or 1 for dim in inputs[0].type.tensor_type.shape.dim]


def markdown(rows: Sequence[Measured], engines: Sequence[str], threads: int, footnotes: Sequence[str]) -> str:
    """Return the tables: latency, then what loading costs."""
    ours = ENGINES[engines[0]].label
    summary = (
        f"Latency of whole networks in milliseconds, one input at a time, float32, {threads} threads for everybody. A "
        f"ratio is the other's time divided by that of {ours}: above 1, {ours} is faster."
    )
    lowest = [row.lowest for row in rows if row.lowest is not None]
    if lowest:
        summary += (
            f" Against the fastest other of each network, the geometric mean of the ratios is "
            f"**{number(statistics.geometric_mean(lowest))}**, the lowest **{number(min(lowest))}**."
        )
    costs = (
        "Loading and the first run in seconds, without the import; the process's peak memory in MB; and how much of "
        "that came after the import. Each network was loaded and run in another process before, so that ours had its "
        "kernels on disk."
    )
    return "\n\n".join(
        [
            summary,
            _latencies(rows, engines),
            costs,
            _costs(rows, engines),
            "\n".join(f"- {note}" for note in footnotes) + "\n",
        ]
    )


def _latencies(rows: Sequence[Measured], engines: Sequence[str]) -> str:
    """Return the table of times and ratios."""
    ours, *rivals = engines
    header = ["network", ENGINES[ours].label]
    for rival in rivals:
        header += [ENGINES[rival].label, "ratio"]
    lines = []
    for row in rows:
        line = [row.network, number(1e3 * row.seconds[ours])]
        for rival in rivals:
            line += [number(1e3 * row.seconds[rival]), number(row.ratios[rival])]
        lines.append([*line, MISSING if row.lowest is None else f"**{number(row.lowest)}**"])
    return table([*header, "to the fastest"], lines)


def _costs(rows: Sequence[Measured], engines: Sequence[str]) -> str:
    """Return the table of what loading and the first run take."""
    header = ["network"]
    for name in engines:
        header += [f"{ENGINES[name].label}: s", "peak", "after import"]
    lines = []
    for row in rows:
        line = [row.network]
        for name in engines:
            load = row.loads[name]
            line.append(number(load["load"] + load["first_run"]))
            line += [number(1e-6 * size) for size in (load["memory"], load["memory"] - load["memory_before"])]
        lines.append(line)
    return table(header, lines)


def notes(
    engines: Sequence[str],
    versions: Mapping[str, str],
    options: argparse.Namespace,
    watches: Sequence[Disturbance],
    of_layers: bool = False,
) -> list[str]:
    """Say where, when, with what and how fairly the figures were taken."""
    lines = [
        setting(versions),
        f"Every engine in a process of its own, in turns, {options.rounds} rounds; each block first runs "
        f"{1e3 * options.warm:.0f} ms uncounted; times are medians of the rounds, ratios medians of each round's "
        f"ratio. The results were compared before, to {TOLERANCE:g} of the largest value.",
        *(
            f"{ENGINES[engine].label}: {(of_layers and ENGINES[engine].layer_note) or ENGINES[engine].network_note}."
            for engine in engines
        ),
    ]
    counted = [share for watch in watches for share in watch.counted]
    if counted:
        repeated = sum(watch.repeated for watch in watches)
        lines.append(
            f"Other processes took {100 * statistics.fmean(counted):.1f} % of the processors in the rounds that count; "
            f"{repeated} rounds with more than {100 * BUSY:.0f} % were repeated."
        )
    return lines


def as_json(rows: Sequence[Measured], versions: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return everything measured, for other programs."""
    document = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "versions": versions,
        "settings": settings,
        "rows": [asdict(row) | {"lowest": row.lowest} for row in rows],
    }
    return json.dumps(document, indent=2) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=(__doc__ or "").partition(":")[0])
    able = [name for name, engine in ENGINES.items() if engine.opener is not None]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--file", type=Path, action="append", default=[], help="another model of one input and output")
    parser.add_argument("--engines", default=",".join(able), help="comma-separated, ours first (default %(default)s)")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="for every engine (default: all cores)")
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each engine (default %(default)s)")
    parser.add_argument("--warm", type=float, default=WARM, help="seconds uncounted in each block (%(default)s)")
    parser.add_argument("--span", type=float, default=SPAN, help="seconds counted in each block (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and input (default %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds for repeating disturbed rounds of a network (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    options = parser.parse_args(arguments)
    options.engines = options.engines.split(",")
    for name in options.engines:
        if name not in able:
            parser.error(f"--engines: {name!r} is none of {', '.join(able)}")
        if not ENGINES[name].available():
            parser.error(f"--engines: {name} needs the packages {', '.join(ENGINES[name].packages)}")
    for name in options.names:
        if name not in NETWORKS:
            parser.error(f"NAME: {name!r} is none of {', '.join(NETWORKS)}")
    for path in options.file:
        if not path.is_file():
            parser.error(f"--file: {path} is no file")
    if options.threads < 1 or options.rounds < 1:
        parser.error("--threads and --rounds must be at least 1")
    if not options.names and not options.file:
        options.names = list(NETWORKS)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 where an engine fails or two results differ."""
    options = parse(arguments)
    ours = options.engines[0]
    rows, watches = [], []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in options.names:
                path = Path(folder) / f"{name}.onnx"
                path.write_bytes(NETWORKS[name].build(1, options.seed).SerializeToString())
            for path in (*(Path(folder) / f"{name}.onnx" for name in options.names), *options.file):
                row, watch = measure(path, options)
                rows.append(row)
                watches.append(watch)
                rivals = "".join(
                    f"   {ENGINES[name].label} {number(1e3 * row.seconds[name])} ms, ratio {number(ratio)}"
                    for name, ratio in row.ratios.items()
                )
                print(f"{row.network:16} {number(1e3 * row.seconds[ours]):>6} ms{rivals}", flush=True)
    except (WorkerError, DisagreementError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    versions = {package: v for name in options.engines for package, v in ENGINES[name].versions().items()}
    footnotes = notes(options.engines, versions, options, watches)
    text = markdown(rows, options.engines, options.threads, footnotes)
    print("\n" + text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        settings = {key: getattr(options, key) for key in ("engines", "threads", "rounds", "warm", "span", "seed")}
        options.json.write_text(as_json(rows, versions, settings), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
