"""What measurements rest on: intervals and verdicts, the machine's limits, rounds, pictures; none looks at a clock."""

import ast
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

import bench.cases
from fastpool import measuring
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.measuring.cases import all_cases, representatives
from fastpool.measuring.limits import Limits, Meter
from fastpool.measuring.rounds import Measured, measure_rounds, yardstick
from fastpool.measuring.verdict import Ratio, _rank_sums, paired_ratio, unpaired_ratio
from fastpool.plans.plan import Code, Plan, Step
from fastpool.routines.routine import lanes
from fastpool.routines.table import KERNELS

FOLDER = Path(measuring.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_modules_stand_alone(path):
    """The repository's benchmarks load these files beside another version of the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(node, "module", None) or node.names[0].name for node in imports]
    assert [name for name in names if name.split(".")[0] in ("fastpool", "bench", "matplotlib")] == []


def test_the_benchmarks_take_these_very_files():
    assert Path(bench.cases.__file__).samefile(FOLDER / "cases.py")
    assert bench.cases.all_cases.__module__ == "bench.cases"


def test_representatives_are_one_of_each_kind():
    chosen = representatives()
    assert len({case.kind for case in chosen}) == len(chosen)
    assert {case.kind for case in chosen} == {case.kind for case in all_cases().values()}


# ---------------------------------------------------------------------------------------------- intervals and verdicts


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (4, 4), (5, 2)])
def test_rank_sums_are_counted(n, m):
    counted = [0] * (n * m + 1)
    for places in itertools.combinations(range(n + m), n):
        others = [place for place in range(n + m) if place not in places]
        counted[sum(a > b for a in places for b in others)] += 1
    assert _rank_sums(n, m) == counted


def test_too_few_rounds_tell_nothing():
    assert paired_ratio([1.0] * 7, [1.0] * 7) == Ratio(1.0, 0.0, math.inf)  # 2 / 2**7 is more than one percent
    assert paired_ratio([1.0] * 8, [1.0] * 8) == Ratio(1.0, 1.0, 1.0)
    assert unpaired_ratio([1.0] * 4, [1.0] * 4).high == math.inf  # 2 / 70 is, too
    assert unpaired_ratio([1.0] * 5, [1.0] * 5) == Ratio(1.0, 1.0, 1.0)


def test_intervals_are_made_of_ranks():
    slow = [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    assert paired_ratio(slow, [1.0] * 8) == Ratio(1.45, 1.1, 1.8)
    assert paired_ratio([*slow, 99.0, 0.01, 1.4, 1.4], [1.0] * 12) == Ratio(1.4, 1.1, 1.8)  # strays lie outside
    drifting = [float(2**i) for i in range(8)]
    assert paired_ratio([1.1 * x for x in drifting], drifting).low == pytest.approx(1.1)  # cancels within the rounds
    assert unpaired_ratio([2.0, 4.0], [1.0, 2.0]).value == 2.0


@pytest.mark.parametrize("ratio", [paired_ratio, unpaired_ratio])
def test_intervals_hold_what_they_promise(ratio):
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(1000):
        new, old = np.exp(0.1 * rng.standard_t(2, (2, 9)))  # long tails
        found = ratio(new.tolist(), old.tolist())
        missed += not found.low <= 1.0 <= found.high
    assert missed <= 20  # ten of a thousand are allowed for on average


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.06, 1.2, "slower"),
        (1.04, 1.2, "unclear"),
        (0.8, 0.94, "faster"),
        (0.8, 0.97, "unclear"),
        (0.96, 1.04, "same"),
        (0.0, math.inf, "unclear"),
    ],
)
def test_verdicts(low, high, verdict):
    assert Ratio(1.0, low, high).verdict(0.05) == verdict


# ------------------------------------------------------------------------------------------------ the machine's limits


def run(name, x, factor, summand, size, count, elements, tasks=1):
    """Output of one of the kernels that measure limits."""
    element = ELEMENT_TYPES[x.dtype]
    routine, shapes = KERNELS[name]
    step = Step(Code(routine, element, shapes[0]), {"count": count, "elements": elements, "tasks": tasks})
    out = np.full(size, np.nan, x.dtype)
    weights, bias = (np.full(lanes(element), value, x.dtype) for value in (factor, summand))
    Plan((step,), 0, 0, element, 0.0).run(
        x.ctypes.data, weights=weights.ctypes.data, bias=bias.ctypes.data, out=out.ctypes.data
    )
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernels_that_measure_do_their_work(dtype):
    lane_count, width = lanes(ELEMENT_TYPES[np.dtype(dtype)]), KERNELS["peak"][1][0][2]
    unit = lane_count * width
    x = np.arange(4 * unit, dtype=dtype) % 7
    first = x[:unit].reshape(width, lane_count)
    # v -> v / 2 + 1, three times, for every lane of every accumulator
    np.testing.assert_array_equal(run("peak", x, 0.5, 1.0, lane_count, 3, 0), (first / 8 + 1.75).sum(0))
    np.testing.assert_array_equal(run("stream_copy", x, 2.0, 0.0, x.size, 1, 2 * unit, tasks=2), 2 * x)
    total = first + 2 * x.reshape(4, width, lane_count)[:2].sum(0)
    np.testing.assert_array_equal(run("stream_read", x, 0.0, 0.0, lane_count, 2, 2 * unit), total.sum(0))


def test_limits_are_measured(monkeypatch):
    monkeypatch.setattr("fastpool.measuring.limits.SAMPLE", 1e-5)
    monkeypatch.setattr("fastpool.measuring.limits.MEMORY_BYTES", 1 << 20)
    limits = Meter("float32", 1).limits()
    assert limits.threads == 1
    assert all(0 < rate < math.inf for rate in (limits.flops, limits.read, limits.copy, limits.cached_copy))
    known = Limits(2, flops=100.0, read=20.0, copy=10.0, cached_copy=50.0)
    assert known.ridge == 10.0
    assert (known.attainable(200.0, 1.0), known.attainable(1.0, 30.0)) == (2.0, 3.0)


# -------------------------------------------------------------------------------------------------------------- rounds


def test_every_round_has_every_case_prepared_anew():
    cases = representatives()[:3]
    prepared, rates, seconds = [], iter(range(10, 100)), iter(range(1, 100))

    def prepare(case):
        prepared.append(case.id)
        return lambda: None

    found = [Measured(case, yardstick(case, "float32")) for case in cases]
    blocks = list(measure_rounds(found, 2, prepare, lambda call: float(next(seconds)), lambda kind: float(next(rates))))
    assert [measured.case for measured in blocks] == [*cases, *cases]
    assert prepared == [case.id for case in cases] * 2
    assert found[0].seconds == [1.0, 4.0]
    assert found[0].normalised == [10.0, 52.0]
    assert (found[0].median, found[0].spread) == (2.5, 0.3)


def test_shares_are_of_the_moment_in_which_a_block_was_measured():
    case = representatives()[0]
    found = Measured(case, "flops", seconds=[1.0, 2.0, 4.0], rates=[100.0, 50.0, 20.0])  # ever slower, as all is
    assert found.share("flops", 90, 1000.0) == 0.9  # of 100, 100 and 80
    assert found.share("copy", 90, 90.0) == 0.5  # at 45 a second


def test_yardsticks_are_of_what_limits():
    kinds = {case.id: yardstick(case, "float32") for case in all_cases().values()}
    assert kinds["large/max 2x2s2 32x64x112"] == "copy"
    assert kinds["vgg16/3x3 64-64 224"] == "flops"
    assert kinds["lenet/subsample 2x2s2 64x16x10"] == "flops"


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_are_drawn(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    from fastpool.measuring.roofline import Point, draw_ratios, draw_roofline

    points = [Point(f"net/layer {i}", f"net {i % 9}", 1e9 * i, 1e7, {"a": 1e-3, "b": 2e-3 * i}) for i in range(1, 61)]
    points[3] = Point("net/alone", "net", 1e6, 1e7, {"a": 1e-3})  # which the other cannot compute
    limits = {"threads": 2, "flops": 2e11, "copy": 3e10, "read": 3e10, "cached_copy": 2e11}
    labels = {"a": "ours", "b": "theirs"}
    draw_roofline(points, limits, labels, tmp_path / f"roofline{suffix}", "a footnote")
    draw_ratios(points, labels, tmp_path / f"ratios{suffix}", "a footnote")
    for name in ("roofline", "ratios"):
        data = (tmp_path / f"{name}{suffix}").read_bytes()
        assert data.startswith(b"\x89PNG") if suffix == ".png" else b"</svg>" in data
        assert len(data) > 20_000
