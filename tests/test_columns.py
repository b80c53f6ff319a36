"""Results of one column: filters over whole rows, and images that are columns."""

import numpy as np
import pytest
from conftest import (
    LAYOUTS,
    GuardedMemory,
    assert_close,
    between,
    every_dtype,
    integers,
    needs_mprotect,
)
from processes import FILLED_MEMORY, run_apart

import fastpool
from fastpool import oracle
from fastpool.geometry import Axis
from fastpool.machine.processor import TARGET
from fastpool.plans.problem import joined
from fastpool.routines.direct import IN_PLACE
from fastpool.routines.tiles import LEVEL_2_BYTES

#: Shape of x, of the filters, and options: sentences of words, whole rows, every second row, taps apart.
FORMS = {
    "3x8 over words": ((2, 1, 21, 8), (37, 1, 3, 8), {}),
    "1x7": ((1, 20, 7, 7), (40, 20, 1, 7), {}),
    "2x5, every second row": ((1, 3, 16, 5), (20, 3, 2, 5), {"stride": (2, 1)}),
    "stride beyond the row": ((2, 2, 19, 6), (5, 2, 3, 4), {"stride": (3, 9)}),
    "dilated": ((1, 4, 17, 9), (33, 4, 2, 3), {"dilation": (3, 4)}),
    "groups": ((2, 6, 15, 4), (9, 2, 2, 4), {"groups": 3}),
    "1x1 at a stride": ((1, 18, 30, 3), (17, 18, 1, 1), {"stride": (1, 3)}),
}


def arrays(x, weight, dtype):
    """Whole numbers above zero: x, weight and bias."""
    return integers(1, x, dtype, 3) + dtype(4), integers(2, weight, dtype, 2) + dtype(3), integers(3, weight[:1], dtype)


@every_dtype
@pytest.mark.parametrize("form", FORMS)
def test_forms(form, dtype, planner):
    x, weight, options = FORMS[form]
    x, weight, bias = arrays(x, weight, dtype)
    expected = oracle.conv2d(x, weight, bias, **options)
    assert expected.shape[-1] == 1
    assert_close(fastpool.conv2d(x, weight, bias, **options), expected)
    assert_close(fastpool.Conv2d(weight, bias, **options)(between(x, np.nan)), expected)
    for plan in planner.plans:
        fields = plan.steps[-1].fields
        if TARGET.registers == 32:  # with fewer, panels are packed
            assert fields["source"] == IN_PLACE
            assert fields["out_rows"] == 1
            assert fields["apart"] == options.get("stride", (1, 1))[0] * x.shape[-1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x, weight, bias = arrays((2, 3, 21, 8), (20, 3, 3, 8), np.float32)
    assert_close(fastpool.conv2d(LAYOUTS[layout](x), weight, bias), oracle.conv2d(x, weight, bias))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_an_image_of_one_column_is_a_row(groups, padding_mode):
    x, weight, bias = arrays((2, 6, 45), (12, 6 // groups, 9), np.float32)
    options = {"groups": groups, "padding_mode": padding_mode}
    expected = fastpool.conv1d(x, weight, bias, padding=4, stride=2, **options)
    column = fastpool.conv2d(x[..., None], weight[..., None], bias, padding=(4, 0), stride=(2, 1), **options)
    np.testing.assert_array_equal(column[..., 0], expected)
    deep = fastpool.conv3d(
        x[..., None, None], weight[..., None, None], bias, padding=(4, 0, 0), stride=(2, 1, 1), **options
    )
    np.testing.assert_array_equal(deep[..., 0, 0], expected)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_filters_of_depth_alone_see_rows_of_all_pixels(groups):
    """As in two dimensions; where pixels of a depth are not beside each other, each row is one of its own."""
    x, weight, bias = arrays((2, 6, 7, 5, 4), (12, 6 // groups, 3, 1, 1), np.float32)
    options = {"stride": (2, 1, 1), "padding": (1, 0, 0), "groups": groups}
    flat = x.reshape(2, 6, 7, 20), weight[..., 0]
    expected = oracle.conv2d(*flat, bias, stride=(2, 1), padding=(1, 0), groups=groups).reshape(2, 12, 4, 5, 4)
    assert_close(fastpool.Conv3d(weight, bias, **options)(between(x, np.nan)), expected)
    for layout in ("within a larger one", "columns reversed", "every second column"):
        assert_close(fastpool.conv3d(LAYOUTS[layout](x), weight, bias, **options), expected)


def test_which_axes_are_joined():
    depth, height, width = Axis(7, 3, 1, 1, 1, 1, 7), Axis(5, 1, 1, 1, 0, 0, 5), Axis(4, 1, 1, 1, 0, 0, 4)
    pixels = Axis(20, 1, 1, 1, 0, 0, 20)
    assert joined([depth, height, width], [20, 4, 1], 4)[0][1:] == [depth, pixels]
    assert joined([depth, height, width], [40, 8, 2], 4) == ([Axis(1, 1, 1, 1, 0, 0, 1), depth, pixels], [0, 40, 2])
    for axes, steps, pixel_bytes in (
        ([depth, height, width], [20, 5, 1], 4),  # rows lie apart
        ([depth, height, width], [20, 4, 1], LEVEL_2_BYTES),  # many channels
        ([height, height, width], [20, 4, 1], 4),  # no filter of depth
        ([depth, Axis(5, 1, 1, 1, 1, 0, 6), width], [20, 4, 1], 4),
        ([depth, height, Axis(4, 2, 1, 1, 0, 0, 3)], [20, 4, 1], 4),
    ):
        assert joined(axes, steps, pixel_bytes) == (axes, steps)


def check_guarded_memory():
    """All arrays end, or begin, at memory that must not be touched."""
    for at_end in (True, False):
        for x, weight, options in FORMS.values():
            memory = GuardedMemory()
            given = arrays(x, weight, np.float32)
            expected = oracle.conv2d(*given, **options)
            x_, weight_, bias = (memory.array(a, at_end) for a in given)
            out = memory.array(np.zeros_like(expected), at_end)
            assert_close(fastpool.conv2d(x_, weight_, bias, **options, out=out), expected)


@needs_mprotect
def test_nothing_else_is_touched():
    run_apart("test_columns", "check_guarded_memory", environment=FILLED_MEMORY)
