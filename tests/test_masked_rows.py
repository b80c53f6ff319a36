"""Lanes on pixels of rows in place: masks give zeros for padding, pixels at stride 2 are put in order in registers."""

from itertools import product

import numpy as np
import pytest
from conftest import (
    DTYPES,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    assert_same_bits,
    between,
    every_dtype,
    needs_mprotect,
    needs_threads,
    noise,
    planner_that,
)
from processes import run_apart

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.plans import ahead, masked_rows
from fastpool.routines.direct import IN_PLACE, MASKED_ROWS, MASKED_SHAPES, masked
from fastpool.routines.routine import lanes as lanes_for

pytestmark = pytest.mark.skipif(not MASKED_SHAPES, reason="masked tiles are for AVX-512")


def take_masks(patch):
    """Let masked tiles be taken wherever they can be."""
    patch.setattr(masked_rows, "_ROW_CYCLES", dict.fromkeys((1, 2), -1e9))


by_masks = planner_that(take_masks)


def assert_masked(planner, shape=None):
    """Require that all plans have masked tiles, in place, of this shape."""
    assert planner.plans
    for plan in planner.plans:
        fields = plan.steps[-1].fields
        assert fields["row_of_tiles"].shape[0].startswith("masked ")
        assert fields["source"] == IN_PLACE
        assert shape is None or fields["row_of_tiles"].shape[1:] == shape


@every_dtype
@pytest.mark.parametrize("shape", MASKED_SHAPES, ids=str)
@pytest.mark.parametrize(("taps", "stride"), MASKED_ROWS)
@pytest.mark.parametrize("far", [False, True], ids=["near", "far"])
def test_every_tile_at_every_width(by_masks, monkeypatch, dtype, taps, stride, shape, far):
    """NaN surrounds x and must not leak in, and nothing around the output may change; what is far is fetched."""
    monkeypatch.setattr(masked_rows, "MASKED_SHAPES", (shape,))
    monkeypatch.setattr(ahead, "FAR_BYTES", 0 if far else 2**40)
    by_masks.forget()
    pixels = shape[0] * lanes_for(ELEMENT_TYPES[np.dtype(dtype)])
    weight, bias = noise(1, (2 * (shape[1] + 1), 3, 3, taps), dtype), noise(2, 2 * (shape[1] + 1), dtype)
    for padding in (((1, 1), (1, 1)), ((0, 2), (2, 0)), ((0, 0), (0, 0)), ((3, 0), (0, 4))):
        options = {"stride": (2, stride), "padding": padding, "groups": 2}
        conv = fastpool.Conv2d(weight, bias, **options)
        for width in (3, 4, pixels - 1, pixels * stride, pixels * stride + 1, 2 * pixels * stride + 3):
            x = noise(width, (2, 6, 5, width), dtype)
            wanted = oracle.conv2d(x, weight, bias, **options)
            frame, residual = Frame(wanted.shape, dtype), noise(3, wanted.shape, dtype)
            assert_close(conv(between(x, np.nan), out=frame.array), wanted)
            frame.assert_kept()
            rectified = fastpool.Conv2d(weight, bias, activation="relu", **options)
            assert_close(rectified(between(x, np.nan), residual=residual), np.maximum(wanted + residual, 0))
            rows = np.repeat(x, 2, axis=2)[:, :, ::2]  # between which there are others
            assert_close(conv(rows), wanted)
    assert_masked(by_masks, shape)
    assert {plan.steps[-1].fields["row_of_tiles"].shape[0] for plan in by_masks.plans} == {masked(taps, stride, far)}


def test_what_is_not_finite(by_masks):
    """In x it reaches those outputs that see it; among the weights, zeros of the padding make NaN of it."""
    x, weight = noise(1, (1, 3, 20, 35), np.float32), noise(2, (9, 3, 3, 3), np.float32)
    for stride in (1, 2):
        options = {"stride": stride, "padding": 1}
        conv = fastpool.Conv2d(weight, **options)
        for place in ((0, 0), (0, 34), (9, 17), (19, 0), (19, 34)):
            spoilt = x.copy()
            spoilt[(0, 1, *place)] = np.inf
            assert_close(conv(spoilt), oracle.conv2d(spoilt, weight, **options))
    assert_masked(by_masks)
    by_masks.plans.clear()
    weight[7, 1, 0, 2] = np.inf
    assert_close(fastpool.Conv2d(weight, **options)(x), oracle.conv2d(x, weight, **options))
    assert not by_masks.plans.pop().steps[-1].fields["row_of_tiles"].shape[0].startswith("masked")


@needs_threads
def test_any_number_of_threads(by_masks):
    """The same bits."""
    x, weight = noise(1, (2, 16, 40, 40), np.float32), noise(2, (16, 8, 3, 3), np.float32)
    conv = fastpool.Conv2d(weight, padding=1, groups=2)
    assert_same_bits(conv, x)
    assert_masked(by_masks)


def test_they_are_taken_where_they_pay(planner):
    """Groups of 8 channels at stride 2, not those of 64; and they are explained."""
    explained = fastpool.Conv2d(noise(1, (256, 8, 3, 3), np.float32), stride=2, padding=1, groups=32).explain(
        (1, 256, 56, 56)
    )
    assert_masked(planner)
    assert (explained.role, explained.source) == ("pixels", "in place")
    assert "without masks" in explained.why.tile
    assert "masked loads" in explained.why.source
    planner.plans.clear()
    fastpool.Conv2d(noise(1, (64, 64, 3, 3), np.float32), stride=2, padding=1).explain((1, 64, 56, 56))
    assert planner.plans.pop().steps[-1].fields["row_of_tiles"].shape[0] != masked(3, 2)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_are_cut(by_masks, rows):
    """For all threads: tiles of a row are shared out."""
    x, weight = noise(1, (1, 3, rows, 1000), np.float32), noise(2, (9, 3, 1, 3), np.float32)
    assert_close(fastpool.Conv2d(weight, padding=(0, 1))(x), oracle.conv2d(x, weight, padding=(0, 1)))
    assert_masked(by_masks)
    assert by_masks.plans[-1].steps[-1].tasks >= 6


def check_that_nothing_beyond_x_is_read():
    with pytest.MonkeyPatch.context() as patch:
        planner = Planner(patch)
        take_masks(patch)
        for shape, dtype, stride in product(MASKED_SHAPES, DTYPES, (1, 2)):
            patch.setattr(masked_rows, "MASKED_SHAPES", (shape,))
            patch.setattr(ahead, "FAR_BYTES", 0 if dtype == np.float64 else 2**40)  # beyond x are the lines fetched
            planner.forget()
            for width, padding in ((3, 1), (16, 0), (31, 3), (33, 1), (64, ((1, 1), (0, 2))), (70, ((0, 0), (5, 0)))):
                memory, options = GuardedMemory(), {"padding": padding, "stride": stride, "groups": 2}
                x, weight = noise(2, (1, 6, 5, width), dtype), noise(1, (18, 3, 3, 3), dtype)
                wanted = oracle.conv2d(x, weight, **options)
                conv = fastpool.Conv2d(weight, **options)
                for at_end in (False, True):
                    out = memory.array(np.zeros_like(wanted), at_end)
                    assert_close(conv(memory.array(x, at_end), out=out), wanted)
            assert_masked(planner, shape)
            planner.plans.clear()


@needs_mprotect
def test_nothing_beyond_x_is_read():
    run_apart("test_masked_rows", "check_that_nothing_beyond_x_is_read")
