"""Window arithmetic against enumeration: sizes, ceil mode, taps, same padding, adaptive windows, padding sources."""

import ast
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpool import geometry
from fastpool.geometry import (
    DATA_PADDING_MODES,
    Axis,
    adaptive_window,
    extent,
    output_size,
    padding_source,
    same_padding,
)

NUMPY_MODES = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}

sizes = st.integers(1, 40)
kernels, strides, dilations, paddings = st.integers(1, 7), st.integers(1, 9), st.integers(1, 5), st.integers(0, 12)
huge = st.integers(2**24, 2**80)


def starts_that_fit(size, kernel, stride, dilation, pads):
    """Give the starts of the windows that lie within the padded input, found one after the other."""
    found, start = [], -pads[0]
    while start + dilation * (kernel - 1) < size + pads[1]:
        found.append(start)
        start += stride
    return found


def axis_of(size, kernel, stride, dilation, pads, ceil_mode=False):
    """Give an axis with its output size."""
    return Axis(size, kernel, stride, dilation, *pads, output_size(size, kernel, stride, dilation, pads, ceil_mode))


def test_imports_nothing_but_the_standard_library():
    """Sizes are plain Python integers: no fixed-width type can slip in."""
    tree = ast.parse(Path(geometry.__file__).read_text(encoding="utf-8"))
    names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(("kernel", "dilation", "span"), [(1, 1, 1), (1, 9, 1), (3, 1, 3), (3, 2, 5), (7, 5, 31)])
def test_extent(kernel, dilation, span):
    assert extent(kernel, dilation) == span
    assert extent(kernel, dilation) == len(range(0, dilation * (kernel - 1) + 1))
    assert Axis(50, kernel, 1, dilation, 0, 0, 1).extent == span


# ---------------------------------------------------------------------------------------------------- output sizes


#: size, kernel, stride, dilation, pads
SMALL = [
    (*case[:4], case[4:])
    for case in itertools.product(range(1, 9), range(1, 5), range(1, 6), range(1, 4), range(4), range(4))
]


def test_output_size_counts_the_windows_that_fit():
    for case in SMALL:
        assert output_size(*case, False) == len(starts_that_fit(*case)), case


def test_ceil_mode_adds_the_window_that_overhangs_unless_it_starts_past_the_input():
    overhangs = dropped = 0
    for size, kernel, stride, dilation, pads in SMALL:
        starts = starts_that_fit(size, kernel, stride, dilation, pads)
        if starts and starts[-1] + extent(kernel, dilation) < size + pads[1]:  # something is left after the last one
            starts.append(starts[-1] + stride)
            overhangs += 1
        if starts and starts[-1] >= size:
            starts.pop()
            dropped += 1
        assert output_size(size, kernel, stride, dilation, pads, True) == len(starts), (size, kernel, stride, pads)
    assert overhangs > 1000
    assert dropped > 1000


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "floor", "ceil"),
    [
        (4, 3, 2, (1, 1), 2, 3),  # the check vector of average pooling
        (6, 3, 2, (0, 0), 2, 3),
        (5, 2, 2, (0, 0), 2, 3),
        (5, 1, 3, (0, 0), 2, 2),  # a third window would start at 6, past the input
        (4, 2, 3, (1, 0), 2, 2),
        (3, 4, 1, (0, 0), 0, 0),  # no window fits, and ceil mode makes none
        (3, 4, 5, (0, 0), 0, 0),
        (3, 4, 5, (0, 1), 1, 1),
    ],
)
def test_output_sizes_by_hand(size, kernel, stride, pads, floor, ceil):
    assert output_size(size, kernel, stride, 1, pads, False) == floor
    assert output_size(size, kernel, stride, 1, pads, True) == ceil


@given(huge, huge, huge, huge, st.integers(0, 2**80))
def test_output_size_is_exact_for_huge_integers(windows, kernel, stride, dilation, begin):
    """Where the last window ends exactly at the input's end: one element less is one window less."""
    span = extent(kernel, dilation)
    size = (windows - 1) * stride + span
    assert output_size(size, kernel, stride, dilation, (0, 0), False) == windows
    assert output_size(size - 1, kernel, stride, dilation, (0, 0), False) == windows - 1
    assert output_size(size + stride - 1, kernel, stride, dilation, (0, 0), False) == windows
    assert output_size(size + 1, kernel, 2, dilation, (0, 0), True) == -(-(size + 1 - span) // 2) + 1
    assert output_size(size, kernel, stride, dilation, (begin, stride - begin % stride), False) == (
        windows + begin // stride + 1
    )


# ------------------------------------------------------------------------------------------------------------ taps


@settings(max_examples=300)
@given(sizes, kernels, strides, dilations, paddings, paddings, st.booleans())
def test_taps_and_covered_by_enumeration(size, kernel, stride, dilation, begin, end, ceil_mode):
    axis = axis_of(size, kernel, stride, dilation, (begin, end), ceil_mode)
    for o in range(axis.out):
        places = [o * stride - begin + k * dilation for k in range(kernel)]
        assert list(axis.taps(o)) == [k for k, place in enumerate(places) if 0 <= place < size]
        assert axis.covered(o) == sum(place < size + end for place in places)


def test_taps_of_windows_in_the_padding():
    """Windows wholly before or after the input, and those whose dilated taps step over it, have no taps."""
    axis = axis_of(1, 2, 1, 4, (3, 3))
    assert [list(axis.taps(o)) for o in range(axis.out)] == [[], [], []]  # taps -3 and 1, -2 and 2, -1 and 3
    axis = axis_of(2, 2, 3, 1, (3, 4))
    assert [list(axis.taps(o)) for o in range(axis.out)] == [[], [0, 1], []]
    assert [axis.covered(o) for o in range(axis.out)] == [2, 2, 2]


@given(huge, huge, huge, huge)
def test_taps_are_exact_for_huge_integers(size, kernel, stride, dilation):
    axis = Axis(size, kernel, stride, dilation, 3 * stride, 0, 5)
    for o in (0, 3, 4):
        taps, start = axis.taps(o), (o - 3) * stride
        if taps:
            first, last = taps[0], taps[-1]
            assert 0 <= start + first * dilation < size
            assert 0 <= start + last * dilation < size
            assert first == 0 or start + (first - 1) * dilation < 0
            assert last == kernel - 1 or start + (last + 1) * dilation >= size
        else:
            reach = start + (kernel - 1) * dilation
            first_inside = start + max(0, -(start // dilation)) * dilation
            assert start >= size or reach < 0 or first_inside >= size


# ---------------------------------------------------------------------------------------------------- same padding


@settings(max_examples=300)
@given(sizes, kernels, strides, dilations, st.booleans())
def test_same_padding(size, kernel, stride, dilation, lower):
    """Exactly ceil(size / stride) outputs, no more padding than that takes, the odd element where it belongs."""
    begin, end = same_padding(size, kernel, stride, dilation, lower)
    out = (size + stride - 1) // stride
    assert begin >= 0
    assert end >= 0
    assert output_size(size, kernel, stride, dilation, (begin, end), False) == out
    assert (begin - end if lower else end - begin) in (0, 1)
    if begin + end:
        assert output_size(size, kernel, stride, dilation, (begin, end - 1) if end else (begin - 1, end), False) < out


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "upper"),
    [
        (5, 2, 1, 1, (0, 1)),
        (5, 3, 1, 1, (1, 1)),
        (6, 3, 2, 1, (0, 1)),
        (4, 4, 1, 1, (1, 2)),
        (5, 3, 1, 2, (2, 2)),
        (7, 2, 4, 1, (0, 0)),  # windows skip elements: no padding, and still ceil(7 / 4) outputs
    ],
)
def test_same_padding_by_hand(size, kernel, stride, dilation, upper):
    assert same_padding(size, kernel, stride, dilation, False) == upper
    assert same_padding(size, kernel, stride, dilation, True) == upper[::-1]


@given(huge, huge, huge, huge)
def test_same_padding_is_exact_for_huge_integers(size, kernel, stride, dilation):
    begin, end = same_padding(size, kernel, stride, dilation, False)
    assert output_size(size, kernel, stride, dilation, (begin, end), False) == -(-size // stride)
    assert same_padding(size, kernel, stride, dilation, True) == (end, begin)


# ------------------------------------------------------------------------------------------------ adaptive windows


def test_adaptive_windows_by_their_definition():
    """Element e lies in window o if some part of [e, e + 1) does once the axis is stretched to `out` elements."""
    for size, out in itertools.product(range(1, 30), range(1, 40)):
        windows = [adaptive_window(size, out, o) for o in range(out)]
        for o, (first, end) in enumerate(windows):
            inside = [e for e in range(size) if e * out < (o + 1) * size and (e + 1) * out > o * size]
            assert list(range(first, end)) == inside, (size, out, o)
        assert windows[0][0] == 0
        assert windows[-1][1] == size
        for (first, end), (following, following_end) in itertools.pairwise(windows):
            assert first <= following <= end <= following_end  # nothing is left out, and order is kept


def test_adaptive_windows_of_whole_multiples_are_those_of_pooling():
    for out, block in itertools.product(range(1, 12), range(1, 9)):
        assert [adaptive_window(out * block, out, o) for o in range(out)] == [
            (o * block, (o + 1) * block) for o in range(out)
        ]


@given(huge, huge, st.data())
def test_adaptive_windows_are_exact_for_huge_integers(size, out, data):
    o = data.draw(st.integers(0, out - 1))
    first, end = adaptive_window(size, out, o)
    assert first * out <= o * size < (first + 1) * out
    assert (end - 1) * out < (o + 1) * size <= end * out
    assert adaptive_window(size, out, out - 1)[1] == size


# ------------------------------------------------------------------------------------------------- padding sources


@pytest.mark.parametrize("mode", DATA_PADDING_MODES)
def test_padding_source_is_the_map_of_numpy_pad(mode):
    """Padding may be many times the size."""
    for size, begin, end in itertools.product(range(1, 8), (0, 1, 2, 5, 23), (0, 1, 3, 19)):
        expected = np.pad(np.arange(size), (begin, end), mode=NUMPY_MODES[mode])
        assert [padding_source(i, size, mode) for i in range(-begin, size + end)] == list(expected), (size, begin, end)


def test_every_mode_has_a_numpy_name():
    assert set(NUMPY_MODES) == set(DATA_PADDING_MODES)


def test_padding_source_of_zeros():
    assert [padding_source(i, 3, "zeros") for i in range(-2, 6)] == [-1, -1, 0, 1, 2, -1, -1, -1]


@given(st.sampled_from(DATA_PADDING_MODES), huge, st.integers(-(2**90), 2**90))
def test_padding_source_is_exact_for_huge_integers(mode, size, index):
    source = padding_source(index, size, mode)
    assert 0 <= source < size
    if 0 <= index < size:
        assert source == index
    elif mode == "replicate":
        assert source == (0 if index < 0 else size - 1)
    else:
        period = {"circular": size, "symmetric": 2 * size, "reflect": 2 * size - 2}[mode]
        mirrored = {"circular": index, "symmetric": -1 - index, "reflect": -index}[mode]
        assert (index - source) % period == 0 or (mirrored - source) % period == 0
