"""Who computes a case: THE table of engines. asv, ``bench.speed`` and the tests all iterate it.

An engine takes a case and its arrays and returns a callable without arguments that computes the result into the same
memory every time, and that keeps alive every array it reads. What can be prepared once (packed weights, compiled
graphs, buffers) is prepared before, unless the engine's name says otherwise. Another library is another row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np

from bench import peers
from bench.baselines import baselines
from bench.cases import Arrays, Case, ConvCase
from bench.timing import fastest

Run = Callable[[], np.ndarray]
Loader = Callable[[str, np.ndarray, int], Run]  # (model file, input, threads) -> callable


@dataclass(frozen=True)
class Engine:
    """One way of computing every case."""

    name: str
    label: str  # heading of its column
    packages: tuple[str, ...]  # distributions whose versions a report names; all have to be importable
    make: Callable[[Case, Arrays, int], tuple[str, Run]]  # (case, arrays, threads) -> (variant chosen, callable)
    note: str  # how it is run: a footnote of every report it appears in
    opener: Callable[[], Loader] | None = None  # imports the library and returns what loads whole networks, if it can
    network_note: str = ""  # how these are run

    def available(self) -> bool:
        """Tell whether all packages of this engine are installed."""
        return all(find_spec(package) is not None for package in self.packages)

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        found = {}
        for package in self.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # imported from a source tree
                found[package] = getattr(importlib.import_module(package), "__version__", "not installed")
        return found


def _fastpool_prepared(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Pack the weights once, call many times, always into the same output."""
    import fastpool

    if not isinstance(case, ConvCase):
        return _fastpool_functional(case, arrays, threads)
    fastpool.set_num_threads(threads)
    x, out = arrays.x, np.empty(case.output_shape, arrays.x.dtype)
    conv = fastpool.Conv2d(arrays.weight, None, case.stride, case.pad, case.dilation, case.groups)
    return "Conv2d", lambda: conv(x, out=out)


def _fastpool_functional(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Call the plain functions, which pack the weights of a convolution every time."""
    import fastpool

    fastpool.set_num_threads(threads)
    x, weight, bias = arrays.x, arrays.weight, arrays.bias
    out = np.empty(case.output_shape, x.dtype)
    if isinstance(case, ConvCase):
        stride, pad, dilation, groups = case.stride, case.pad, case.dilation, case.groups
        return "conv2d", lambda: fastpool.conv2d(x, weight, None, stride, pad, dilation, groups, out=out)
    kernel, stride, pad, ceil = case.kernel, case.stride, case.pad, case.ceil
    if case.op == "max":
        return "max_pool2d", lambda: fastpool.max_pool2d(x, kernel, stride, pad, 1, ceil, out=out)
    if case.op == "avg":
        return "avg_pool2d", lambda: fastpool.avg_pool2d(x, kernel, stride, pad, ceil, out=out)
    return "subsample2d", lambda: fastpool.subsample2d(x, weight, bias, kernel, stride, pad, ceil, out=out)


def _numpy(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Take the fastest baseline. OpenBLAS reads its threads from the environment only, before NumPy is imported."""
    return fastest(baselines(case, arrays))


def _open_fastpool() -> Loader:
    """Import what loads models."""
    import fastpool.onnx

    import fastpool

    def load(path: str, x: np.ndarray, threads: int) -> Run:
        """Load a model and run it on the array."""
        fastpool.set_num_threads(threads)
        model = fastpool.onnx.load(path)
        (name,) = model.input_names
        (wanted,) = model.output_names
        return lambda: model.run({name: x})[wanted]

    return load


def _open_onnxruntime() -> Loader:
    """Import what loads models."""
    importlib.import_module("onnxruntime")
    return peers.onnxruntime_model


def _open_openvino() -> Loader:
    """Import what loads models."""
    importlib.import_module("openvino")
    return peers.openvino_model


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            "fastpool",
            "fastpool",
            ("fastpool", "numba", "numpy"),
            _fastpool_prepared,
            "convolutions by a prepared `Conv2d`, whose weights are packed beforehand; `out=` is reused",
            _open_fastpool,
            "`fastpool.onnx.load`, then `run` on the same array",
        ),
        Engine(
            "fastpool-functional",
            "fastpool (functions)",
            ("fastpool", "numba", "numpy"),
            _fastpool_functional,
            "convolutions by `conv2d`, which packs the weights in every call; `out=` is reused",
        ),
        Engine(
            "numpy",
            "NumPy",
            ("numpy",),
            _numpy,
            "the fastest of several ways, chosen for each shape: im2col (the whole batch, image by image, panels of "
            "rows) and `matmul`, a plain `matmul` for 1x1, sums over taps for depthwise; reductions of reshaped and "
            "sliding-window views and of strided slices for pooling. Buffers and views are made beforehand. "
            "`matmul` runs on all threads, NumPy's copies and reductions on one",
        ),
        Engine("torch", "PyTorch", ("torch",), peers.torch_eager, peers.TORCH_NOTE),
        Engine(
            "onnxruntime",
            "ONNX Runtime",
            ("onnxruntime", "onnx"),
            peers.onnxruntime,
            peers.ONNXRUNTIME_NOTE,
            _open_onnxruntime,
            "CPU provider, all graph optimisations, I/O binding to fixed arrays",
        ),
        Engine(
            "openvino",
            "OpenVINO",
            ("openvino", "onnx"),
            peers.openvino,
            peers.OPENVINO_NOTE,
            _open_openvino,
            "CPU plug-in, LATENCY hint, f32 precision, shared input tensor",
        ),
        Engine("ncnn", "ncnn", ("ncnn",), peers.ncnn, peers.NCNN_NOTE),
    )
}
