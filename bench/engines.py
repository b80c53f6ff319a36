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

from bench import ours, peers
from bench.baselines import baselines
from bench.baselines.convolution import IM2COL
from bench.cases import Arrays, Case
from bench.layers import prepared_layer
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
    layer_opener: Callable[[], Loader] | None = None  # the same for networks of one convolution, where it differs
    layer_note: str = ""  # how these are run

    @property
    def opens_layers(self) -> bool:
        """Tell whether it loads networks of one convolution."""
        return (self.layer_opener or self.opener) is not None

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


def _im2col(way: str) -> Callable[[Case, Arrays, int], tuple[str, Run]]:
    def make(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
        """Take this way of im2col, be it the fastest or not."""
        if case.family != "convolution":
            raise peers.UnsupportedError("im2col is a way of convolving")
        return f"im2col, {way}", IM2COL[way](case, arrays)

    return make


def _numpy(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Take the fastest baseline. OpenBLAS reads its threads from the environment only, before NumPy is imported."""
    return fastest(baselines(case, arrays))


def _open_fastpool() -> Loader:
    """Import what loads models."""
    import fastpool
    import fastpool.onnx

    def load(path: str, x: np.ndarray, threads: int) -> Run:
        """Load a model and run it on the array."""
        fastpool.set_num_threads(threads)
        model = fastpool.onnx.load(path)
        (name,) = model.input_names
        (wanted,) = model.output_names
        return lambda: model.run({name: x})[wanted]

    return load


def _open_torch() -> Loader:
    """Import what loads layers."""
    importlib.import_module("torch")
    return peers.torch_layer


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
            ours.prepared,
            "convolutions by a prepared `Conv2d`, whose weights are packed beforehand; `out=` is reused",
            _open_fastpool,
            "`fastpool.onnx.load`, then `run` on the same array",
            lambda: prepared_layer,
            "a prepared `Conv1d` to `ConvTranspose3d`, whose weights are packed beforehand; `out=` is reused",
        ),
        Engine(
            "fastpool-functional",
            "fastpool (functions)",
            ("fastpool", "numba", "numpy"),
            ours.functional,
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
        Engine(
            "im2col-view",
            "im2col (view)",
            ("numpy",),
            _im2col("view"),
            "a sliding-window view of the padded batch is copied to a matrix, and multiplied by `matmul`",
        ),
        Engine(
            "im2col-gather",
            "im2col (gather)",
            ("numpy",),
            _im2col("gather"),
            "the padded batch is gathered through a table of indices by `take`, and multiplied by `matmul`",
        ),
        Engine(
            "torch",
            "PyTorch",
            ("torch",),
            peers.torch_eager,
            peers.TORCH_NOTE,
            layer_opener=_open_torch,
            layer_note="eager mode under `inference_mode`, the faster of the default and the channels-last path",
        ),
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
