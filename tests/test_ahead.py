"""What is fetched ahead: planes of batches that no level-2 cache holds; nothing that is computed differs."""

import numpy as np
import pytest
from conftest import DTYPES, Frame, assert_close, between, integers, lanes_of

import fastpool
from fastpool import oracle
from fastpool import pooling as calls
from fastpool.machine.processor import TARGET
from fastpool.plans import ahead
from fastpool.plans import pooling as plans
from fastpool.routines.channelwise import channelwise
from fastpool.routines.depthwise import depthwise
from fastpool.routines.shortpool import short_pool


@pytest.fixture
def far(monkeypatch):
    """Let level-2 caches hold nothing, and plans be made anew; gives those of poolings."""
    made, plan = [], plans.plan_pooling.__wrapped__
    monkeypatch.setattr(ahead, "LEVEL_2_BYTES", 0)
    monkeypatch.setattr(calls, "plan_pooling", lambda problem: made.append(plan(problem)) or made[-1])
    calls._bounds.clear()
    yield made
    calls._bounds.clear()


def test_steps_are_as_many_as_the_distance_asks_for(monkeypatch):
    monkeypatch.setattr(ahead, "LEVEL_2_BYTES", 1000)
    monkeypatch.setattr(ahead, "THREADS", 2)
    assert ahead.steps_ahead(2000, 784) == 0
    assert ahead.steps_ahead(2001, 784) == 11
    assert ahead.steps_ahead(2001, 10**6) == 1
    assert ahead.steps_ahead(2001, 0) == ahead.AHEAD_BYTES


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("routine", [depthwise, channelwise], ids=lambda routine: routine.place)
@pytest.mark.parametrize("step", [1, 2])
def test_depthwise_planes(planner, routine, dtype, step):
    """Of every second channel nothing is fetched: what lies between would be, too."""
    planner.take_depthwise(routine)
    x, weight = integers(1, (3, 37 * step, 7, lanes_of(dtype)), dtype)[:, ::step], integers(2, (37, 1, 3, 3), dtype)
    assert_close(fastpool.conv2d(x, weight, padding=1, groups=37), oracle.conv2d(x, weight, padding=1, groups=37))
    fields = planner.plans[-1].steps[-1].fields
    assert planner.plans[-1].steps[-1].kernel.routine is routine
    assert (fields["plane_ahead"] > 0) == (step == 1)
    assert fields["plane_ahead"] == 0 or fields["plane_ahead"] % fields["plane"] == 0
    assert fields["plane_ahead"] == 0 or fields["plane_ahead"] * x.itemsize >= ahead.AHEAD_BYTES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (7, 1, 1), (3, 1, 2)])
def test_depthwise_outputs(planner, monkeypatch, size, stride, dilation, dtype):
    """Rows within a vector, of whole ones, of pairs, and some with a rest; nothing around the result changes."""
    monkeypatch.setattr(ahead, "FAR_BYTES", 0)
    planner.take_depthwise(depthwise)
    lanes = lanes_of(dtype)
    for columns in (1, lanes // 2, lanes - 1, lanes + 1, 2 * lanes, 5 * lanes - 2):
        x = between(integers(4, (2, 3, 40, (columns - 1) * stride + 1), dtype), np.nan)
        weight = integers(5, (6, 1, size, size), dtype)
        options = {"stride": stride, "padding": size // 2 * dilation, "dilation": dilation, "groups": 3}
        expected = oracle.conv2d(x, weight, **options)
        frame = Frame(expected.shape, dtype)
        fastpool.conv2d(x, weight, out=frame.array, **options)
        assert_close(frame.array, expected)
        frame.assert_kept()
        kernel = planner.plans[-1].steps[-1].kernel
        assert kernel.routine is depthwise
        assert "far " in kernel.shape[0]


@pytest.mark.usefixtures("far")
def test_planes_that_a_cache_does_not_hold_are_not_fetched(planner):
    planner.take_depthwise(depthwise)
    lanes = lanes_of(np.float32)  # rows of a vector are a strip
    for plane_bytes, is_fetched in ((12 * 1024, True), (20 * 1024, False)):
        x, weight = np.zeros((9, 8, plane_bytes // (4 * lanes), lanes), np.float32), np.zeros((8, 1, 3, 3), np.float32)
        fastpool.conv2d(x, weight, padding=1, groups=8)
        assert (planner.plans[-1].steps[-1].fields["plane_ahead"] > 0) == is_fetched


@pytest.mark.skipif(TARGET.name != "avx512", reason="short rows are for AVX-512")
@pytest.mark.parametrize("step", [1, 2])
def test_planes_of_short_rows(far, step):
    x = integers(3, (3, 40, 9, 7 * step), np.float32)[..., :7]
    assert_close(fastpool.max_pool2d(x, 3, stride=1, padding=1), oracle.max_pool2d(x, 3, stride=1, padding=1))
    found = [plan.steps[0].fields for plan in far if plan.steps[0].kernel.routine is short_pool]
    assert found
    assert all((fields["plane_ahead"] > 0) == (step == 1) for fields in found)
