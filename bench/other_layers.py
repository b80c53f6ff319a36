"""Measure transposed convolutions, of one and three dimensions, of uncommon filters: ``python -m bench.other_layers``.

Each layer of ``other_layers.csv`` is a network of one ONNX node, which all engines load, so that weights are prepared
once by each in its own way. Their results are compared, then they are timed in turns, as in ``bench.speed``.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import ENGINES
from bench.latency import TOLERANCE, Measured, notes
from bench.machine import Disturbance, cpu_count
from bench.report import number, table
from bench.speed import DisagreementError, check_equal, processor_seconds
from bench.timing import measure_in_turns, median_ratio
from bench.worker import Worker, WorkerError

LAYERS = Path(__file__).parent / "other_layers.csv"
DEFAULT = "fastpool,torch,onnxruntime,openvino"
#: Tables of layers that are not transposed: of one or three dimensions, and of two.
GROUPS = "One and three dimensions", "Rows, columns, large filters and patches of images"


@dataclass(frozen=True)
class OtherLayer:
    """A row of ``other_layers.csv``."""

    id: str
    transposed: bool
    channels: int
    out_channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    output_pad: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def group(self) -> str:
        """Heading of the table that it stands in."""
        return "Transposed" if self.transposed else GROUPS[len(self.size) == 2]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights, as ONNX and PyTorch have them."""
        if self.transposed:
            return (self.channels, self.out_channels // self.groups, *self.kernel)
        return (self.out_channels, self.channels // self.groups, *self.kernel)

    @property
    def out(self) -> tuple[int, ...]:
        """Sizes of the result."""
        axes = zip(self.size, self.kernel, self.stride, self.pad, self.output_pad, self.dilation, strict=True)
        if self.transposed:
            return tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + more for n, k, s, p, more, d in axes)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, _, d in axes)

    @property
    def flops(self) -> int:
        """Additions and multiplications of the definition."""
        positions = np.prod(self.size if self.transposed else self.out)
        return int(2 * positions * np.prod(self.weight_shape))

    def model(self, seed: int) -> bytes:
        """A network of this layer, with normally distributed weights."""
        from onnx import TensorProto, helper, numpy_helper

        rng = np.random.default_rng(seed)
        weight = rng.standard_normal(self.weight_shape, np.float32) / np.sqrt(np.prod(self.weight_shape[1:]))
        bias = rng.standard_normal(self.out_channels, np.float32)
        attributes: dict[str, Any] = {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": self.pad * 2,
            "dilations": self.dilation,
            "group": self.groups,
        }
        if self.transposed:
            attributes["output_padding"] = self.output_pad
        node = helper.make_node("ConvTranspose" if self.transposed else "Conv", ["x", "w", "b"], ["y"], **attributes)
        graph = helper.make_graph(
            [node],
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, self.channels, *self.size))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, self.out_channels, *self.out))],
            [numpy_helper.from_array(weight.astype(np.float32), "w"), numpy_helper.from_array(bias, "b")],
        )
        found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(found.SerializeToString())


def layers() -> list[OtherLayer]:
    """Read the rows of ``other_layers.csv``."""
    with LAYERS.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    found = []
    for row in rows:
        size = tuple(map(int, row["size"].split("x")))

        def per_axis(name: str, row: dict[str, str] = row, axes: int = len(size)) -> tuple[int, ...]:
            values = tuple(map(int, row[name].split("x")))
            return values * axes if len(values) == 1 else values

        found.append(
            OtherLayer(
                f"{row['net']}/{row['layer']}",
                row["op"] == "transposed",
                int(row["channels"]),
                int(row["out_channels"]),
                size,
                *(per_axis(name) for name in ("kernel", "stride", "pad", "output_pad", "dilation")),
                int(row["groups"]),
            )
        )
    return found


def measure(layer: OtherLayer, workers: dict[str, Worker], options: argparse.Namespace) -> tuple[Measured, Disturbance]:
    """Compare the results of all engines on a layer, then time them in turns."""
    with tempfile.TemporaryDirectory() as folder:
        model, x = Path(folder) / "layer.onnx", Path(folder) / "x.npy"
        model.write_bytes(layer.model(options.seed))
        np.save(x, np.random.default_rng(options.seed).standard_normal((1, layer.channels, *layer.size), np.float32))
        for worker in workers.values():
            worker.load(str(model), str(x), as_layer=True)
        check_equal(layer.id, TOLERANCE, {name: worker.result(folder) for name, worker in workers.items()})
        blocks = {name: partial(worker.measure, options.warm, options.span) for name, worker in workers.items()}
        watch = Disturbance(partial(processor_seconds, workers.values()), options.patience)
        times = measure_in_turns(blocks, options.rounds, watch)
    ours = options.engines[0]
    seconds = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: median_ratio(values, times[ours]) for name, values in times.items() if name != ours}
    return Measured(layer.id, seconds, ratios, {}), watch


def markdown(rows: Sequence[tuple[OtherLayer, Measured]], options: argparse.Namespace, notes: Sequence[str]) -> str:
    """Return a table of each group of layers."""
    ours, *rivals = options.engines
    parts = [
        f"Transposed convolutions, those of one and three dimensions and of uncommon filters, of one image, float32, "
        f"{options.threads} threads for everybody; milliseconds. A ratio is the other's time divided by that of "
        f"{ENGINES[ours].label}: above 1, {ENGINES[ours].label} is faster."
    ]
    header = ["network", "layer", ENGINES[ours].label, "GFLOP/s"]
    for rival in rivals:
        header += [ENGINES[rival].label, "ratio"]
    for title in ("Transposed", *GROUPS):
        lines, lowest = [], []
        for layer, row in rows:
            if layer.group == title:
                seconds = row.seconds[ours]
                line = [*layer.id.split("/", 1), number(1e3 * seconds), number(1e-9 * layer.flops / seconds)]
                for rival in rivals:
                    line += [number(1e3 * row.seconds[rival]), number(row.ratios[rival])]
                lines.append([*line, f"**{number(row.lowest or 0)}**"])
                lowest.append(row.lowest or 0)
        if lines:
            parts += [
                f"## {title}",
                f"Against the fastest other of each layer, the geometric mean of the ratios is "
                f"**{number(statistics.geometric_mean(lowest))}**, the lowest **{number(min(lowest))}**.",
                table([*header, "to the fastest"], lines),
            ]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes) + "\n"])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.other_layers", description=(__doc__ or "").partition(":")[0])
    able = [name for name, engine in ENGINES.items() if engine.opens_layers]
    parser.add_argument("--only", default="", metavar="SUBSTR", help="of all layers, those whose name contains this")
    parser.add_argument("--engines", default=DEFAULT, help="comma-separated, ours first (default %(default)s)")
    parser.add_argument("--threads", type=int, default=cpu_count(), help="for every engine (default: all cores)")
    parser.add_argument("--rounds", type=int, default=5, help="blocks of each engine (default %(default)s)")
    parser.add_argument("--warm", type=float, default=0.03, help="seconds uncounted in each block (%(default)s)")
    parser.add_argument("--span", type=float, default=0.1, help="seconds counted in each block (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and input (default %(default)s)")
    parser.add_argument("--patience", type=float, default=5.0, help="seconds for repeating disturbed rounds of a layer")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    options = parser.parse_args(arguments)
    options.engines = options.engines.split(",")
    for name in options.engines:
        if name not in able:
            parser.error(f"--engines: {name!r} is none of {', '.join(able)}")
        if not ENGINES[name].available():
            parser.error(f"--engines: {name} needs the packages {', '.join(ENGINES[name].packages)}")
    options.layers = [layer for layer in layers() if options.only in layer.id]
    if not options.layers:
        parser.error(f"--only: no layer's name contains {options.only!r}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 on success, 1 where an engine fails or two results differ."""
    options = parse(arguments)
    rows, watches = [], []
    try:
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(name, options.threads)) for name in options.engines}
            versions = {package: v for worker in workers.values() for package, v in worker.versions().items()}
            for layer in options.layers:
                row, watch = measure(layer, workers, options)
                rows.append((layer, row))
                watches.append(watch)
                rivals = "".join(f"   {ENGINES[name].label} {number(ratio)}" for name, ratio in row.ratios.items())
                print(f"{layer.id:36} {number(1e3 * row.seconds[options.engines[0]]):>6} ms{rivals}", flush=True)
    except (WorkerError, DisagreementError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = markdown(rows, options, notes(options.engines, versions, options, watches, of_layers=True))
    print("\n" + text)
    if options.markdown:
        options.markdown.write_text(f"# Other layers\n\n{text}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
