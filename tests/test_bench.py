"""The benchmarks: their cases, baselines and engines are right, and every one of them still runs."""

import dataclasses
import importlib.util
import inspect
import itertools
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sweeps import sweep

import bench
import fastpool
from bench import engines, machine, peers, pictures, speed, suite, timing
from bench.baselines import baselines, convolution, pooling
from bench.cases import (
    SHAPES,
    Arrays,
    Case,
    ConvCase,
    PoolCase,
    all_cases,
    conv_cases,
    make_arrays,
    output_size,
    pool_cases,
    representatives,
)
from bench.engines import ENGINES
from bench.peers import UnsupportedError
from bench.report import BEGIN, END, Report, Row, insert, markdown, number, table
from bench.worker import Worker, WorkerError
from fastpool import oracle

ROOT = Path(bench.__file__).resolve().parent.parent
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}

CONVOLUTIONS = [
    ConvCase("test", "1x1", 1, 5, 7, 6, 4, 1, 1, 1, 0, 1, 1, 1),
    ConvCase("test", "1x1 batch", 3, 5, 4, 6, 4, 1, 1, 1, 0, 1, 1, 1),
    ConvCase("test", "1x1 groups", 2, 6, 4, 5, 4, 1, 1, 1, 0, 1, 2, 1),
    ConvCase("test", "1x1 stride 2", 1, 5, 7, 6, 4, 1, 1, 2, 0, 1, 1, 1),
    ConvCase("test", "1x1 padded", 1, 5, 7, 6, 4, 1, 1, 1, 1, 1, 1, 1),
    ConvCase("test", "3x3", 1, 3, 9, 8, 4, 3, 3, 1, 1, 1, 1, 1),
    ConvCase("test", "3x3 stride 2", 2, 3, 9, 8, 4, 3, 3, 2, 1, 1, 1, 1),
    ConvCase("test", "5x3 stride 3", 2, 3, 14, 11, 4, 5, 3, 3, 2, 1, 1, 1),
    ConvCase("test", "dilation", 2, 3, 11, 12, 4, 3, 3, 1, 2, 2, 1, 1),
    ConvCase("test", "groups", 2, 6, 9, 8, 4, 3, 3, 2, 1, 1, 2, 1),
    ConvCase("test", "depthwise", 2, 6, 9, 8, 6, 3, 3, 1, 1, 1, 6, 1),
    ConvCase("test", "depthwise stride 2", 1, 6, 9, 8, 6, 3, 3, 2, 1, 1, 6, 1),
    ConvCase("test", "depthwise, all taps cut", 1, 4, 2, 2, 4, 5, 5, 1, 2, 1, 4, 1),
]
POOLINGS = [
    PoolCase("test", f"{op} {kernel} {stride} {pad} {ceil} {size}", 2, 3, *size, op, kernel, stride, pad, ceil)
    for op in ("max", "avg", "sub")
    for kernel, stride, pad, ceil, size in (
        (2, 2, 0, False, (8, 6)),
        (2, 2, 0, False, (7, 9)),  # a row and a column left over
        (2, 2, 0, True, (7, 9)),  # the last windows hang over
        (3, 2, 1, False, (11, 12)),
        (3, 2, 1, True, (4, 4)),
        (3, 2, 0, True, (10, 9)),
        (3, 1, 1, False, (6, 5)),
        (5, 1, 2, False, (3, 4)),  # no tap is seen by every window
        (2, 3, 0, False, (9, 8)),
        (4, 1, 0, False, (8, 9)),
        (6, 1, 3, False, (8, 9)),
        (7, 7, 0, False, (7, 7)),
    )
]
CASES = [*CONVOLUTIONS, *POOLINGS]


def reference(case: Case, arrays: Arrays) -> np.ndarray:
    """Compute a case by the oracle."""
    if isinstance(case, ConvCase):
        return oracle.conv2d(arrays.x, arrays.weight, None, case.stride, case.pad, case.dilation, case.groups)
    if case.op == "max":
        return oracle.max_pool2d(arrays.x, case.kernel, case.stride, case.pad, ceil_mode=case.ceil)
    if case.op == "avg":
        return oracle.avg_pool2d(arrays.x, case.kernel, case.stride, case.pad, case.ceil)
    return oracle.subsample2d(arrays.x, arrays.weight, arrays.bias, case.kernel, case.stride, case.pad, case.ceil)


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    """Compare shape, dtype, and values up to the rounding that the dtype allows."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    tolerance = TOLERANCE[str(expected.dtype)] * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


# Cases.


def test_shapes_load():
    for name, cases in (("conv", conv_cases()), ("pool", pool_cases())):
        text = (SHAPES / f"{name}.csv").read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert text.startswith("#")
        assert len(cases) == len(rows) - 1
    assert len(all_cases()) == len(conv_cases()) + len(pool_cases()), "two cases have one name"
    first = conv_cases()[0]
    assert (first.id, first.kind) == ("resnet50/stem 7x7s2", "7x7 stride 2")
    assert first.output_shape == (1, 64, 112, 112)
    ceil = all_cases()["squeezenet/max 3x3s2 ceil 96x109"]
    assert ceil.ceil is True
    assert ceil.output_shape == (1, 96, 54, 54)


@pytest.mark.parametrize("ceil", [False, True])
def test_output_size_counts_windows(ceil):
    for size in range(1, 9):
        for kernel in range(1, 4):
            for dilation in (1, 2):
                for stride in (1, 2, 3):
                    for pad in range(kernel // 2 + 1):
                        extent = dilation * (kernel - 1) + 1
                        if extent > size + 2 * pad:
                            continue
                        starts = range(-pad, size + pad, stride)
                        # floor: windows inside the padded input; ceil: also one that hangs over, if it starts inside
                        inside = [start for start in starts if start + extent <= size + pad]
                        hanging = [start for start in starts if inside[-1] < start < size][:1]
                        covered = inside[-1] + extent >= size + pad
                        expected = len(inside) + (len(hanging) if ceil and not covered else 0)
                        assert output_size(size, kernel, stride, pad, dilation, ceil) == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.layer)
def test_flops_and_bytes_are_counted(case):
    arrays = make_arrays(case, "float64")
    output = reference(case, arrays)
    assert case.output_shape == output.shape
    counted = 0
    for _ in np.ndindex(output.shape):
        if isinstance(case, ConvCase):
            for _ in np.ndindex(case.c // case.groups, case.kh, case.kw):
                counted += 2  # a product and a sum
        else:
            for _ in np.ndindex(case.kernel, case.kernel):
                counted += 1
    assert case.flops == counted
    held = [array for array in dataclasses.astuple(arrays) if array is not None]
    assert case.bytes("float64") == sum(array.nbytes for array in [*held, output])
    assert case.bytes("float32") == case.bytes("float64") // 2


def test_arrays_are_the_same_in_every_process():
    code = (
        "from bench.cases import all_cases, make_arrays\n"
        "print(float(make_arrays(all_cases()['lenet/subsample 2x2s2 64x16x10'], 'float64').x.sum()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    case = all_cases()["lenet/subsample 2x2s2 64x16x10"]
    assert float(printed) == float(make_arrays(case, "float64").x.sum())
    assert make_arrays(case, "float32").x.dtype == np.float32


@pytest.mark.parametrize("engine", ["fastpool", "fastpool-functional", "numpy", "onnxruntime"])
def test_arrays_begin_on_a_cache_line(engine):
    """Else where the rest of the process puts them decides between one commit and another."""
    if not ENGINES[engine].available():
        pytest.skip(f"{engine} is not installed")
    for case in {case.family: case for case in CASES}.values():
        arrays = make_arrays(case, "float32")
        run = ENGINES[engine].make(case, arrays, 1)[1]
        held = [array for array in vars(arrays).values() if array is not None]
        assert all(array.ctypes.data % 64 == 0 for array in [*held, run()])


# Baselines and engines.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cache", ["roomy", "tiny"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.layer)
def test_every_baseline_equals_the_oracle(case, cache, dtype, monkeypatch):
    if cache == "tiny":  # a block of one plane, a panel of one row
        monkeypatch.setattr(convolution, "PANEL_BYTES", 1)
        monkeypatch.setattr(pooling, "CACHE_BYTES", 1)
    arrays = make_arrays(case, dtype)
    expected = reference(case, arrays)
    ways = baselines(case, arrays)
    assert ways
    for build in ways.values():
        baseline = build()
        baseline()
        assert_equal(baseline(), expected)  # of the second run: nothing may be left over from the first


def test_the_ways_meant_are_offered():
    def ways(case):
        return set(baselines(case, make_arrays(case, "float32")))

    assert ways(all_cases()["resnet50/1x1 64-64"]) == {"matmul"}
    assert ways(all_cases()["vgg16/3x3 64-64 224"]) == {"im2col", "im2col, panels of rows"}
    assert ways(all_cases()["allcnn/3x3s2 192-192"]) == {"im2col", "im2col, image by image"}
    assert "taps" in ways(all_cases()["mobilenetv2/dw 3x3s1 960 7"])
    assert "doubling" in ways(all_cases()["yolo spp/max 13x13s1p6 256x20"])
    assert "reshape" in ways(all_cases()["vgg16/max 2x2s2 512x14"])
    assert "matmul" in ways(all_cases()["resnet50/avg global 2048x7"])
    assert "reshape" not in ways(all_cases()["resnet50/max 3x3s2p1 64x112"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ENGINES)
@sweep
def test_every_engine_equals_the_oracle(name, dtype, monkeypatch):
    for module in (engines, peers):
        monkeypatch.setattr(module, "fastest", lambda ways: timing.fastest(ways, budget=0.0))
    engine = ENGINES[name]
    if not engine.available():
        pytest.skip(f"{name} needs {', '.join(engine.packages)}")
    computed = 0
    for case in CASES:
        arrays = make_arrays(case, dtype)
        expected = reference(case, arrays)
        try:
            _, run = engine.make(case, arrays, 2)
        except UnsupportedError:
            continue
        del arrays  # the engine has to keep what it reads: others may get the memory
        others = [np.full(case.input_shape, np.nan, dtype) for _ in range(3)]
        run()
        assert_equal(run(), expected)
        assert all(np.isnan(other).all() for other in others)
        computed += 1
    if name.startswith("im2col"):
        assert computed == len(CONVOLUTIONS)
    assert computed == len(CASES) or name.startswith(("im2col", "ncnn", "onnxruntime", "openvino"))
    assert computed or (dtype == "float64" and name in ("ncnn", "openvino"))  # which they do not have
    assert all(engine.versions().values())


# asv.

PREFIXES = ("time_", "track_", "timeraw_", "peakmem_")


def benchmarks(everything: bool = True) -> list[tuple[type, str]]:
    """Find what asv finds: methods of the classes in ``bench/benchmark_*.py`` whose names begin as asv wants it."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(suite.CHEAP_ONLY, raising=False)
        patch.setenv(suite.ALL, "1" if everything else "")
        for module in pkgutil.iter_modules(bench.__path__):
            if module.name.startswith("benchmark_"):
                # A copy of the module, as its parameters are those of the environment.
                spec = importlib.util.find_spec(f"bench.{module.name}")
                copy = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(copy)
                for item in vars(copy).values():
                    if isinstance(item, type) and not inspect.isabstract(item):
                        found += [(item, name) for name in dir(item) if name.startswith(PREFIXES)]
    return found


def smallest_parameters(suite_class: type) -> list[tuple[str, ...]]:
    """Return the smallest case of each kind, with all other parameters that are not skipped."""
    names, *others = suite_class.params
    if names[0] not in all_cases():  # inputs of every operation
        return list(itertools.product(names, *others))[:: 1 if len(others[0]) == 1 else 61]
    smallest: dict[str, Case] = {}
    for case in sorted((all_cases()[name] for name in names), key=lambda case: case.flops):
        smallest.setdefault(case.kind, case)
    chosen = itertools.product((case.id for case in smallest.values()), *others)
    return [parameters for parameters in chosen if parameters not in suite_class.skip_params]


@pytest.mark.parametrize(("suite_class", "method"), benchmarks(), ids=lambda item: getattr(item, "__name__", item))
def test_every_benchmark_runs(suite_class, method, monkeypatch):
    monkeypatch.setattr(suite, "measure_call", lambda run, warm=0.0, span=0.0: timing.measure_call(run, 0.0, 0.0))
    benchmark = suite_class()
    if method.startswith("timeraw_"):
        benchmark.setup()
        code = "if True:\n    " + getattr(benchmark, method)()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        return
    pairs = smallest_parameters(suite_class)
    assert pairs
    for pair in pairs:
        benchmark.setup(*pair)
        value = getattr(benchmark, method)(*pair)
        if method.startswith("track_"):
            assert 0 < value < float("inf")


def measured_by(found) -> set[str]:
    """Layers and operations that benchmarks measure."""
    return {name for item, _ in found if hasattr(item, "params") for name in item.params[0]}


def test_benchmarks_cover_every_case_and_every_public_operation():
    public = {name for name in dir(fastpool) if not name.startswith("_") and callable(getattr(fastpool, name))}
    operations = public - {"info", "threads", "get_num_threads", "set_num_threads"}
    assert measured_by(benchmarks()) == set(all_cases()) | operations
    assert measured_by(benchmarks(everything=False)) == {case.id for case in representatives()} | operations


def test_what_benchmarks_share_is_no_benchmark():
    shared = [item for item in vars(suite).values() if isinstance(item, type) and issubclass(item, suite.Suite)]
    assert len(shared) > 3
    assert all(inspect.isabstract(item) for item in shared)


def test_asv_accepts_the_suite():
    config = pytest.importorskip("asv.config").Config.load(str(ROOT / "asv.conf.json"))
    assert (ROOT / config.benchmark_dir).samefile(bench.__path__[0])
    assert all(Path(folder).parts[0] == ".asv" for folder in (config.env_dir, config.results_dir, config.html_dir))
    command = [sys.executable, "-m", "asv", "check", "-E", f"existing:{sys.executable}"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_importing_the_suite_loads_no_engine():
    """The server that asv forks its benchmarks from must not own any library's threads."""
    code = (
        "import importlib, pkgutil, sys, bench\n"
        "for module in pkgutil.walk_packages(bench.__path__, 'bench.'): importlib.import_module(module.name)\n"
        "print(*sorted({'fastpool', 'numba', 'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.split() == []


# Timing, workers, and the command.


def test_blocks_take_turns():
    order = []

    def block(name, seconds):
        order.append(name)
        return seconds

    times = timing.measure_in_turns({"a": lambda: block("a", 2.0), "b": lambda: block("b", 6.0)}, rounds=3)
    assert order == ["a", "b"] * 3
    assert times == {"a": [2.0] * 3, "b": [6.0] * 3}
    assert timing.median_ratio([6.0, 1.0, 9.0], [2.0, 1.0, 1.0]) == 3.0


def test_a_call_is_measured_after_its_warm_up(monkeypatch):
    now = 0.0
    durations = iter([1.0] * 10 + [0.25] * 1000)  # slow at first

    def run():
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(timing, "perf_counter", lambda: now)
    assert timing.measure_call(run, warm=10.0, span=5.0) == 0.25
    assert now >= 15.0


def test_the_fastest_way_is_kept(monkeypatch):
    now = 0.0

    def prepare(seconds):
        def run():
            nonlocal now
            now += seconds
            return seconds

        return lambda: run

    monkeypatch.setattr(timing, "perf_counter", lambda: now)
    name, run = timing.fastest({"slow": prepare(3.0), "fast": prepare(1.0), "middling": prepare(2.0)})
    assert (name, run()) == ("fast", 1.0)


def test_a_worker_computes_in_its_own_process(tmp_path):
    case = all_cases()["lenet/subsample 2x2s2 64x16x10"]
    with Worker("numpy", threads=1) as worker:
        assert worker.versions()["numpy"] == np.__version__
        with pytest.raises(WorkerError, match="no case is prepared"):
            worker.measure(0.0, 0.0)
        assert worker.prepare(case.id, "float64")
        assert_equal(worker.result(str(tmp_path)), reference(case, make_arrays(case, "float64")))
        assert worker.measure(0.0, 0.001) > 0
        assert worker.seconds() > 0
        worker._process.kill()
        with pytest.raises(WorkerError, match="the numpy process ended"):
            worker.measure(0.0, 0.0)


def test_different_results_are_found():
    ones = np.ones((2, 3))
    speed.check_equal("lenet", 1e-12, {"a": ones, "b": ones + 1e-13})
    for other in (ones + 1e-11, ones[:1], ones.astype(np.float32), np.full((2, 3), np.nan)):
        with pytest.raises(speed.DisagreementError, match="lenet: a "):
            speed.check_equal("lenet", 1e-12, {"a": ones, "b": other})


def test_report_of_known_figures():
    thin, wide = all_cases()["resnet50/1x1 64-256"], all_cases()["resnet50/3x3 64-64"]
    pool = all_cases()["vgg16/max 2x2s2 512x14"]
    rows = [
        Row(thin, {"us": 1e-3, "np": 2e-3, "other": 1e-3}, {"np": 2.0, "other": 1.0}, {"np": "matmul", "other": "x"}),
        Row(wide, {"us": 2e-3, "np": 16e-3}, {"np": 8.0}, {"np": "im2col"}),
        Row(pool, {"us": 1e-3, "np": 3e-3, "other": 5e-4}, {"np": 3.0, "other": 0.5}, {"np": "taps", "other": "x"}),
    ]
    labels = {"us": "fastpool", "np": "NumPy", "other": "Other"}
    report = Report(rows, ["us", "np", "other"], labels, "float32", 2, ["A footnote."])
    assert report.lowest() == (0.5, "other", pool)
    text = markdown(report)
    # four layers of 1 ms and three of 2 ms; the other library lacks one of them, so that it has no sum
    assert "| resnet50 | 2 | 10.0 | 56.0 | **4.00** | 2.00 | n/a | 1.00 | 1.00 |" in text
    assert "| max pooling, disjoint windows | 1 | 1.00 | 3.00 | **3.00** | 3.00 | 0.500 | **0.500** | 0.500 |" in text
    assert f"| {number(wide.flops / 2e-3 / 1e9)} | 16.0 (im2col) | 8.00 | n/a | n/a |" in text
    assert "lowest ratio of all is **0.500** (Other, vgg16/max 2x2s2 512x14)" in text
    assert text.endswith("- A footnote.\n")


def test_numbers_and_columns():
    assert [number(value) for value in (0.01234, 1.234, 12.34, 123.4, 12345.0)] == [
        "0.012",
        "1.23",
        "12.3",
        "123",
        "12345",
    ]
    assert table(["name", "value"], [["a", "1"], ["b", "n/a"]]).splitlines()[1] == "| --- | ---: |"


@pytest.mark.parametrize("arguments", [["--against", "abacus"], ["--only", "no such layer"], ["--rounds", "-1"]])
def test_the_command_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        speed.parse(arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_load_of_others_is_what_we_did_not_use(monkeypatch):
    system = iter([(100.0, 10.0), (200.0, 60.0), None])
    ours = iter([5.0, 25.0])
    monkeypatch.setattr(machine, "system_seconds", lambda: next(system))
    load = machine.OtherLoad(lambda: next(ours))
    assert load.share() == 0.3  # of 100 s, 50 s were used, 20 s of them by us
    assert load.share() is None


def test_disturbed_rounds_are_repeated(monkeypatch):
    shares = iter([0.01, 0.5, 0.02, 0.5, 0.5, 0.5, 0.03])
    monkeypatch.setattr(machine.OtherLoad, "share", lambda self: next(shares))
    monkeypatch.setattr(machine, "sleep", lambda seconds: None)
    monkeypatch.setattr(machine, "perf_counter", iter(range(100)).__next__)  # every round takes a second
    watch = machine.Disturbance(lambda: 0.0, patience=2.0)
    measured = iter(range(7))
    times = timing.measure_in_turns({"a": lambda: next(measured)}, rounds=5, disturbed=watch)
    assert times == {"a": [0, 2, 4, 5, 6]}  # two rounds were repeated, then patience was at an end
    assert watch.counted == [0.01, 0.02, 0.5, 0.5, 0.03]
    assert watch.repeated == 2


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the load of others is known on Linux only")
def test_processor_time_is_read_from_the_system():
    available, busy = machine.system_seconds()
    assert available > busy > 0
    assert busy > 0.9 * machine.own_seconds() > 0


def test_the_command_measures(tmp_path):
    command = [sys.executable, "-m", "bench.speed", "--only", "allcnn/1x1 192-10", "--functional", "--rounds", "2"]
    command += [
        "--warm",
        "0.01",
        "--patience",
        "0",
        "--quick",
        "--json",
        str(tmp_path / "s.json"),
        "--markdown",
        str(tmp_path / "s.md"),
    ]
    command += ["--pictures", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    measured = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    (row,) = measured["rows"]
    assert row["id"] == "allcnn/1x1 192-10"
    assert set(row["seconds"]) == {"fastpool-functional", "numpy"}
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert row["ratios"]["numpy"] > 0
    assert measured["settings"]["rounds"] == 2
    assert {"numpy", "numba", "fastpool"} <= set(measured["versions"])
    text = (tmp_path / "s.md").read_text(encoding="utf-8")
    assert text in finished.stdout
    assert "| allcnn | 1x1 192-10 |" in text
    assert measured["limits"]["flops"] > 0
    for name in (pictures.RATIOS, pictures.ROOFLINE):
        assert "</svg>" in (tmp_path / name).read_text(encoding="utf-8")


def test_the_readme_is_written_by_the_script(tmp_path):
    case = all_cases()["resnet50/1x1 64-256"]
    rows = [Row(case, {"fastpool": 1e-3, "numpy": 2e-3}, {"numpy": 2.0}, {"numpy": "matmul"})]
    labels = {"fastpool": "fastpool", "numpy": "NumPy"}
    report = Report(rows, ["fastpool", "numpy"], labels, "float32", 2, ["A processor; versions; a day."])
    limits = {"threads": 2, "flops": 2e11, "copy": 3e10, "read": 3e10, "cached_copy": 2e11}
    settings = {"dtype": "float32", "threads": 2, "rounds": 3, "engines": ["fastpool", "numpy"]}
    measured = speed.document(report, {"numpy": "2.0"}, settings, limits)
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    for _ in range(2):  # what was written is replaced
        speed.publish(report, measured, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert text.count("| resnet50 | 1 | 4.00 | 8.00 | **2.00** | 2.00 |") == 1
    assert "- A processor; versions; a day." in text
    assert "Every shape</summary>" not in text
    assert "Every shape</summary>" in (tmp_path / "docs" / "speed.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((docs/[^)]+)\)", text):
        assert (tmp_path / link).is_file()
    assert json.loads((tmp_path / "docs" / "speed.json").read_text(encoding="utf-8")) == measured
    with pytest.raises(ValueError, match="begin"):
        insert("no marks", "")
    assert BEGIN in (ROOT / "README.md").read_text(encoding="utf-8")
