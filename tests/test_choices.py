"""Choices of the planner that measurements speak for: where x is read, and how wide tiles are."""

import numpy as np
import pytest
from conftest import integers
from test_convolution import check

import fastpool
from fastpool.machine.processor import TARGET
from fastpool.routines.direct import IN_PLACE
from fastpool.routines.tiles import IS_ZEN_5


@pytest.mark.skipif(TARGET.registers == 16, reason="panels are packed instead")
def test_planes_whose_addresses_alias_are_packed(planner):
    """Channels 4096 bytes apart fall into one cache set; the plan copies them if they are read pixel by pixel."""
    x, weight = integers(17, (1, 128, 64, 64), np.float32), integers(18, (256, 128, 1, 1), np.float32)

    def sources(x, weight, stride):
        planner.plans.clear()
        check(x, weight, stride=stride)
        return {plan.steps[-1].fields["source"] for plan in planner.plans}

    assert not sources(x, weight, 2) & {IN_PLACE}
    assert sources(x, weight[:9], 1) == {IN_PLACE}
    assert sources(x, weight[:9], 2) == {IN_PLACE}
    # On Zen 5 others are packed, too, where they pass by so often.
    assert (sources(np.ascontiguousarray(x[..., :62]), weight, 2) == {IN_PLACE}) == (not IS_ZEN_5)
    assert sources(np.ascontiguousarray(x[..., :62]), weight[:9], 2) == {IN_PLACE}


@pytest.mark.skipif(TARGET.registers == 16, reason="tiles of few pixels are for 32 registers")
@pytest.mark.parametrize(
    ("shape", "out_channels"),
    [((4, 640, 14, 5), 16), ((1, 480, 5, 5), 64), ((1, 96, 7, 7), 64 if IS_ZEN_5 else 256)],
)
def test_short_rows_of_pixels_that_lie_apart_are_not_packed(planner, shape, out_channels):
    """Tiles are no wider than such a row, which takes as long to pack as one of 16 pixels."""
    check(integers(40, shape, np.float32), integers(41, (out_channels, shape[1], 1, 1), np.float32), stride=2)
    assert {plan.steps[-1].fields["source"] for plan in planner.plans} == {IN_PLACE}


@pytest.mark.skipif(TARGET.registers == 16, reason="few registers leave no choice of wide tiles")
def test_tiles_of_many_channels_are_wide():
    """Where a block's weights come from the level-2 cache with each tile, four or five of them take less than seven."""
    found = fastpool.Conv2d(np.ones((2048, 512, 1, 1), np.float32)).explain((1, 512, 7, 7))
    assert (found.role, found.vectors) == ("channels", 2)
    assert found.width == (13 if IS_ZEN_5 else 10)


@pytest.mark.skipif(not IS_ZEN_5, reason="measured on Zen 5")
@pytest.mark.parametrize(("channels", "size"), [(128, 56), (256, 28)])
def test_few_tasks_are_weighed_by_how_evenly_they_are_shared(channels, size):
    """3x3 at stride 2 takes 0.72 and 0.83 of the time of direct sums by shared products, in seven fused tasks more."""
    found = fastpool.Conv2d(np.ones((channels, channels, 3, 3), np.float32), stride=2, padding=1)
    explained = found.explain((1, channels, size, size))
    assert (explained.algorithm, explained.schedule) == ("winograd", "shared")


@pytest.mark.skipif(not IS_ZEN_5, reason="measured on Zen 5")
def test_three_vectors_of_channels_are_for_several_taps():
    """3x3 at stride 2 takes 3 to 15 % less by 3x7 than by 2x7; 1x1 a fifth more by 2x8 of pixels than by 3x8."""
    found = fastpool.Conv2d(np.ones((384, 384, 3, 3), np.float32), stride=2, padding=1).explain((1, 384, 14, 14))
    assert (found.role, found.vectors, found.width) == ("channels", 3, 7)
    found = fastpool.Conv2d(np.ones((80, 112, 1, 1), np.float32)).explain((1, 112, 64, 64))
    assert (found.role, found.vectors, found.width) == ("pixels", 3, 8)


@pytest.mark.skipif(not IS_ZEN_5, reason="measured on Zen 5")
@pytest.mark.parametrize(("shape", "out_channels"), [((1, 3, 224, 224), 64), ((4, 3, 32, 32), 96)])
def test_planes_that_alias_are_not_written_side_by_side(shape, out_channels):
    """Whole vectors of 8 channels, not parts of the lines of 32, which drive one another out: 0.65 ms, not 1.24."""
    found = fastpool.Conv2d(np.ones((out_channels, 3, 3, 3), np.float32), padding=1).explain(shape)
    assert (found.role, found.width) == ("pixels", 8)


@pytest.mark.skipif(TARGET.name != "avx2", reason="panels are for few registers, and these were measured with AVX2")
def test_panels_are_packed_where_that_pays(planner):
    """For few output channels it takes longer than reading in place: 44 us instead of 150; for many it saves more."""
    for channels, size, out_channels, is_in_place in ((130, 13, 32, True), (512, 14, 512, False)):
        x, weight = np.zeros((1, channels, size, size), np.float32), np.ones((out_channels, channels, 3, 3), np.float32)
        fastpool.Conv2d(weight, None, 2, 1)(x)
        fields = planner.plans.pop().steps[-1].fields
        assert (fields["source"] == IN_PLACE, fields["panel"] == 0) == (is_in_place, is_in_place)


@pytest.mark.skipif(TARGET.name != "avx2", reason="panels are for few registers, and these were measured with AVX2")
@pytest.mark.parametrize(
    ("channels", "groups", "size", "is_in_place"),
    [
        (16, 1, (28, 28), True),
        (17, 1, (28, 28), False),
        (64, 8, (28, 28), True),
        (16, 1, (80, 80), False),  # no longer near
        (12, 1, (80, 80), True),
        (14, 1, (64, 64), False),  # of which one drives out another
        (2, 1, (256, 256), False),
    ],
)
def test_few_channels_are_read_in_place(planner, channels, groups, size, is_in_place):
    x = integers(19, (2, channels, *size), np.float32)
    check(x, integers(20, (groups * 9, channels // groups, 1, 1), np.float32), groups=groups)
    fields = planner.plans.pop().steps[-1].fields
    assert (fields["source"] == IN_PLACE, fields["panel"] == 0) == (is_in_place, is_in_place)
