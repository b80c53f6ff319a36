"""Direct convolutions of several small images, whose pixels are packed as one row."""

from itertools import product

import numpy as np
import pytest
from conftest import (
    DTYPES,
    LAYOUTS,
    Frame,
    GuardedMemory,
    Planner,
    assert_close,
    assert_same_bits,
    between,
    every_dtype,
    lanes_of,
    needs_mprotect,
    needs_threads,
    noise,
    planner_that,
)
from processes import FILLED_MEMORY, run_apart

import fastpool
from fastpool import oracle
from fastpool.plans import convolution as plans
from fastpool.plans import joined
from fastpool.routines.direct import JOINED_SHAPES, OWN, SHARED

#: (images, rows, columns), filter, and options: pixels of one image, of two and more; several images in a tile, and
#: tiles that begin and end within one.
SMALL = [
    ((5, 3, 2), (3, 2), {}),
    ((16, 3, 3), (2, 2), {}),
    ((4, 2, 2), (3, 3), {"padding": 1}),
    ((3, 5, 4), (3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    ((2, 7, 3), (2, 3), {"dilation": (3, 1), "padding": ((0, 2), (1, 1))}),
    ((7, 1, 6), (1, 2), {"stride": (1, 3)}),
    # Taps that meet nothing but padding: the outer rows, all but one, and some at one end.
    ((5, 2, 3), (3, 3), {"padding": 2, "dilation": 2}),
    ((6, 1, 1), (3, 3), {"padding": 1}),
    ((6, 1, 2), (5, 3), {"padding": ((0, 4), (2, 0)), "stride": 2}),
]


def join_all(patch):
    """Let images be joined wherever they can be."""
    for suits in ("suits_runs", "suits_masked_rows", "suits_panels"):
        patch.setattr(plans, suits, lambda problem: False)
    patch.setattr(plans, "packing_cycles", lambda problem, plan: np.inf)


joining = planner_that(join_all)


def assert_joined(planner, shape=None, step=None):
    """Require that all plans since the last call have joined tiles, of this shape, after such a step."""
    assert planner.plans
    for plan in planner.plans:
        first, last = plan.steps
        variant, *tile = last.fields["row_of_tiles"].shape
        assert variant == "joined"
        assert shape is None or tuple(tile) == shape
        assert step is None or first.kernel.routine.name == step
        assert last.fields["source"] in (OWN, SHARED)
    planner.plans.clear()


@every_dtype
@pytest.mark.parametrize("shape", JOINED_SHAPES, ids=str)
def test_every_tile_at_every_seam(joining, monkeypatch, dtype, shape):
    """NaN surrounds x and must not leak in, and nothing around the output may change."""
    monkeypatch.setattr(joined, "JOINED_SHAPES", (shape,))
    joining.forget()
    for channels, ((images, *size), kernel, options) in product((1, shape[0] * lanes_of(dtype) + 3), SMALL):
        weight, bias = noise(1, (2 * channels, 3, *kernel), dtype), noise(2, 2 * channels, dtype)
        x = noise(3, (images, 6, *size), dtype)
        wanted = oracle.conv2d(x, weight, bias, groups=2, **options)
        frame, residual = Frame(wanted.shape, dtype), noise(4, wanted.shape, dtype)
        conv = fastpool.Conv2d(weight, bias, groups=2, algorithm="direct", **options)
        assert_close(conv(between(x, np.nan), out=frame.array), wanted)
        frame.assert_kept()
        rectified = fastpool.Conv2d(weight, bias, groups=2, algorithm="direct", activation="relu", **options)
        assert_close(rectified(between(x, np.nan), residual=residual), np.maximum(wanted + residual, 0))
    assert_joined(joining, shape)


@every_dtype
@pytest.mark.parametrize("kernel", [(1, 1), (3, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("in_panels", [False, True])
def test_images_of_one_pixel_are_transposed(joining, monkeypatch, dtype, kernel, in_panels):
    """Fewer than a vector of them, a vector, and more; images that lie apart."""
    lanes = lanes_of(dtype)
    monkeypatch.setattr(joined, "_ONE_PANEL", 0 if in_panels else 2 * lanes)
    for images, channels, out_channels in product((2, lanes - 1, lanes, lanes + 1, 2 * lanes), (2, 7, 200), (1, 40)):
        weight, bias = noise(1, (out_channels, channels, *kernel), dtype), noise(2, out_channels, dtype)
        x = noise(3, (images, channels + 3, *kernel), dtype)[:, 2:-1]
        wanted = oracle.conv2d(x, weight, bias)
        frame, residual = Frame(wanted.shape, dtype), noise(4, wanted.shape, dtype)
        conv = fastpool.Conv2d(weight, bias, algorithm="direct")
        assert_close(conv(x, out=frame.array), wanted)
        frame.assert_kept()
        assert_close(conv(x, residual=residual), wanted + residual)
    widths = {plan.steps[0].fields["width"] for plan in joining.plans}
    assert widths <= {width for _, width in JOINED_SHAPES} if in_panels else max(widths) == 2 * lanes
    assert_joined(joining, step="pack_images")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(joining, layout):
    """A matrix that lies otherwise is packed by a table, as other images are."""
    for (images, *size), kernel, options in [*SMALL, ((9, 2, 3), (2, 3), {})]:
        x, weight = noise(1, (images, 5, *size), np.float32), noise(2, (20, 5, *kernel), np.float32)
        found = fastpool.Conv2d(weight, algorithm="direct", **options)(LAYOUTS[layout](x))
        assert_close(found, oracle.conv2d(x, weight, **options))
    assert_joined(joining)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(joining, mode):
    x, weight = noise(1, (4, 5, 3, 4), np.float32), noise(2, (20, 5, 3, 3), np.float32)
    options = {"padding": (2, 1), "padding_mode": mode}
    x[0, 1, 2, 3], x[3, 0, 0, 0] = np.nan, np.inf
    found = fastpool.Conv2d(weight, algorithm="direct", **options)(x)
    assert_close(found, oracle.conv2d(x, weight, **options))
    assert_joined(joining)


@needs_threads
@pytest.mark.usefixtures("always_parallel")
def test_any_number_of_threads(joining):
    """The same bits."""
    for (images, *size), kernel, options in [*SMALL, ((16, 4, 4), (4, 4), {})]:
        x, weight = noise(1, (images, 64, *size), np.float32), noise(2, (200, 64, *kernel), np.float32)
        assert_same_bits(fastpool.Conv2d(weight, algorithm="direct", **options), x)
    assert_joined(joining)


def test_they_are_taken_where_they_pay(planner):
    """Small images of many channels, not large ones, nor one alone; and they are explained."""
    layer = fastpool.Conv2d(noise(1, (1000, 1024, 1, 1), np.float32))
    explained = layer.explain((16, 1024, 1, 1))
    assert_joined(planner, step="pack_images")
    assert (explained.role, explained.source) == ("channels", "packed by each thread")
    assert explained.multiply_adds == 16 * 1024 * 1000
    assert explained.multiply_adds_done * (1 - explained.waste) == pytest.approx(explained.multiply_adds)
    assert "pixels of all images, 1 pixel each" in explained.why.source
    assert "all of x, transposed" in explained.why.source
    assert "fewest of" in explained.why.tile
    assert "pixels of several images" in explained.why.tile

    explained = fastpool.Conv2d(noise(1, (128, 64, 2, 2), np.float32)).explain((16, 64, 3, 3))
    assert_joined(planner, step="pack_input")
    assert "4 pixels each" in explained.why.source
    assert "what each tap meets" in explained.why.source

    layer.explain((1, 1024, 2, 2))
    layer.explain((16, 1024, 14, 14))
    for plan in planner.plans:
        assert plan.steps[-1].fields["row_of_tiles"].shape[0] != "joined"


def test_scratch_is_limited():
    """Panels of two pixels are filled up to the width of a tile."""
    layer = fastpool.Conv2d(np.zeros((16, 262_000, 1, 2), np.float32), algorithm="direct")
    for shape in ((2, 262_000, 1, 2), (1, 262_000, 1, 3), (15, 262_000, 1, 2)):
        explained = layer.explain(shape)
        assert explained.workspace_bytes <= 16 * 1024 * 1024 * explained.threads


def check_that_nothing_beyond_an_array_is_touched():
    with pytest.MonkeyPatch.context() as patch:
        planner = Planner(patch)
        join_all(patch)
        planner.forget()
        for dtype, ((images, *size), kernel, options) in product(DTYPES, [*SMALL, ((5, 2, 3), (2, 3), {})]):
            memory = GuardedMemory()
            x, weight = noise(2, (images, 6, *size), dtype), noise(1, (37, 6, *kernel), dtype)
            wanted, conv = oracle.conv2d(x, weight, **options), fastpool.Conv2d(weight, algorithm="direct", **options)
            for at_end in (False, True):
                out = memory.array(np.zeros_like(wanted), at_end)
                assert_close(conv(memory.array(x, at_end), out=out), wanted)
        assert_joined(planner)


@needs_mprotect
def test_nothing_beyond_an_array_is_touched():
    run_apart("test_joined", "check_that_nothing_beyond_an_array_is_touched", environment=FILLED_MEMORY)
