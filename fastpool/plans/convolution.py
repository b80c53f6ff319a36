"""Which algorithm computes a convolution, and how its weights are prepared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, prod

import numpy as np

from fastpool.arrays import address
from fastpool.dtypes import ELEMENT_TYPES, ElementType
from fastpool.machine.processor import TARGET
from fastpool.plans.channelwise import channelwise_cycles, is_channelwise, plan_channelwise
from fastpool.plans.column_runs import plan_runs, suits_runs
from fastpool.plans.depthwise import PlainForm, depthwise_cycles, is_depthwise, plan_depthwise
from fastpool.plans.direct import grid_of, is_in_place, packing_cycles, packs_little, plan_direct
from fastpool.plans.joined import plan_joined, streaming_cycles, suits_joined
from fastpool.plans.linear import is_one_window, plan_one_window
from fastpool.plans.live_taps import live_taps, plan_places
from fastpool.plans.masked_rows import plan_masked_rows, suits_masked_rows
from fastpool.plans.panels import plan_panels, suits_panels
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.tile_choice import direct_cycles, lie_apart, tile_count
from fastpool.plans.winograd import forms_for, plan_winograd, winograd_cycles
from fastpool.plans.winograd_axes import as_images
from fastpool.plans.winograd_forms import WinogradForm, u_product
from fastpool.routines.pack import pack_weights
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import IS_ZEN_5, LEVEL_1_BYTES, TileShape
from fastpool.routines.turn import turn
from fastpool.routines.winograd import winograd_weights


@dataclass(frozen=True)
class SomeTaps:
    """Weights of some taps alone, by their places among all of them."""

    form: TileShape | PlainForm
    places: tuple[int, ...]


#: How weights are prepared: blocks of a register tile, transformed for Winograd, or not at all; or so, of some taps.
Form = TileShape | WinogradForm | PlainForm | SomeTaps


@lru_cache(maxsize=1024)
def plan_convolution(problem: Convolution) -> tuple[Plan, Form]:
    """Plan of the convolution, and the form of the weights that it reads."""
    forms = forms_for(problem) if problem.algorithm != "direct" else ()
    if forms and problem.algorithm == "winograd":
        best = min(forms, key=lambda form: expected_cycles(problem, form))
        return plan_winograd(problem, best), best
    sums, form = plan_sums(problem)
    if not forms or isinstance(form, PlainForm) or is_depthwise(problem) or is_channelwise(problem):
        return sums, form
    best = min(forms, key=lambda form: expected_cycles(problem, form))
    if expected_cycles(problem, best) < _least_gain(problem) * sums.cycles:
        return plan_winograd(problem, best), best
    return sums, form


def plan_sums(problem: Convolution) -> tuple[Plan, Form]:
    """Plan of the sums themselves, without Winograd's filtering, of the taps that find pixels."""
    live = live_taps(problem)
    if live is None:
        return _plan_all_sums(problem)
    plan, form = _plan_all_sums(live.problem)
    return plan, SomeTaps(form, live.places)


def summed(problem: Convolution, form: Form) -> tuple[Convolution, TileShape | WinogradForm | PlainForm]:
    """The convolution that a plan of this form carries out, and the form in which it reads the weights of its taps."""
    if not isinstance(form, SomeTaps):
        return problem, form
    live = live_taps(problem)
    return live.problem if live else problem, form.form


def _plan_all_sums(problem: Convolution) -> tuple[Plan, TileShape | PlainForm]:
    if is_one_window(problem):
        return plan_one_window(problem), PlainForm()
    direct, tile = plan_directly(problem)
    if problem.algorithm != "winograd" and (is_depthwise(problem) or is_channelwise(problem)):
        alone = _plan_depthwise(problem)
        if direct.cycles + _packing_beside(problem, direct) >= _most_of_depthwise(problem) * alone.cycles:
            return alone, PlainForm()
    return direct, tile


#: Factors by which tiles that read x in place take longer than estimated, beside panels, whose estimate includes their
#: packing; those that read rows packed by each thread for itself, where all of x is little; and those that read others.
#: What it takes to pack the rows is not in the estimate.
_IN_PLACE_LONGER, _PACKED_ALONE_LONGER, _PACKED_LONGER = 1.05, 1.4, 1.5
#: The first of these where the rows of all channels that a tile sees are more bytes than half of a level-1 cache: each
#: block of channels reads them anew, and waits so many cycles for a line. Of 162 layers at strides of 2 to 5, drawn by
#: chance, on two threads of a Zen 3 whose cores have caches far from one another, what is chosen so takes 1.5 % longer
#: than the faster way in the geometric mean; by 1.15 and no lines it took 3.2 %, in place always 8 %, panels always
#: 27 %. The same layers gave these numbers.
_NEAR_ROWS, _FAR_LONGER, _FAR_LINE = LEVEL_1_BYTES // 2, 0.9, 3.0
#: Of a single tap where registers are few: cycles of a step in place whose pixels lie apart, as each channel's line is
#: waited for: 14 to 21 on a Zen 3, by tiles of 2x4 to 2x6, for 1 to 16 blocks of channels, over 1.4, as panels take so
#: much longer than estimated where strided rows are taken apart and another core's cache is far. 1x1 at stride 2 from
#: 512 to 32 channels of 28x28 takes 141 us in place and 249 by panels, from 256 to 16 of 56x56 116 and 381, from 128 to
#: 64 of 28x28 65 and 53; of 24 such layers the two that are chosen wrongly take 5 %.
_APART_STEP = 12.0
#: How much longer than its sums such a tap takes in place, if its pixels follow one another, where packing is weighed
#: against it: it is in place if packing would take 0.29 of all. From 512 to 16 channels of 20x20 it takes 0.65 of the
#: time so, of 28x28 as well, from 300 to 7 of 40x40 0.78, from 20 to 8 of 100x100 0.81; where packing would take a
#: quarter 0.86 to 1.07, a sixth 0.9 to 1.06. Channels that are multiples of so many bytes apart drive one another out
#: of a cache: from 64 to 8 of 64x64 it would take 1.36, from 256 to 4 of 112x112 1.06.
_WHOLE_LONGER, _ALIASED = 1.4, 1024
#: Bytes of all pixels of a packed channel up to which tiles read it as it is, if all of x is packed so by each thread:
#: then it lies in few lines of which several tiles are read. 1x1 at stride 2 from 128 to 256 channels of 14x14 takes
#: 0.83 to 0.96 of the time so, from 64 to 128 of 8x14x14 0.84, from 512 to 1024 of 14x14 as long; of 28x28, of which
#: 425 kB are packed for all, 1.09.
_FEW_LINES = 1024


def _most_of_depthwise(problem: Convolution) -> float:
    """Share of the cycles of a depthwise convolution up to which the direct one is taken, by the estimates of both.

    Many filters of one channel share what it reads, and one channel alone fills no vector. Of both ways for 19 such
    layers the faster one is taken, or one that takes 5 % longer. Short sums take longer directly than is estimated: 3x3
    from 1 to 32 channels of 28x28 1.2 times as long as depthwise; with 16 registers the direct ones take less (Zen 3's
    code on Zen 4). On Zen 5 so do those of many taps: 5x5 from 1 to 32 channels of 112x112 0.86 of the time, 7x7 0.82,
    5x5 in 3 groups to 231 channels of 53x41 0.79.
    """
    of_many = 1.15 if IS_ZEN_5 else 1.0
    return (of_many if problem.taps > 9 else 0.85) * (1.1 if TARGET.registers == 16 else 1.0)


def _packing_beside(problem: Convolution, plan: Plan) -> float:
    """Cycles to pack what a direct convolution reads, where it is weighed against a depthwise one.

    3x3 over 512 channels of one pixel takes 9 us by channels and 44 packed. Measured where registers are few: with 32
    the shares above were measured without it.
    """
    return packing_cycles(problem, plan) if TARGET.registers == 16 else 0.0


def _cycles_without_panels(problem: Convolution, plan: Plan, tile: TileShape) -> float:
    """Cycles of several taps where registers are few, as they compare with the estimate of panels."""
    if not is_in_place(plan):
        return (_PACKED_ALONE_LONGER if packs_little(problem, plan) else _PACKED_LONGER) * plan.cycles
    depth, height, width = problem.axes
    size, rows = problem.element.size, problem.channels // problem.groups * depth.kernel * height.kernel
    if rows * width.size * size <= _NEAR_ROWS:
        return _IN_PLACE_LONGER * plan.cycles
    pixels = tile.pixels(lanes_for(problem.element))
    reach = (pixels - 1) * width.stride + (width.kernel - 1) * width.dilation
    lines = tile_count(problem, tile, grid_of(plan)) * rows * (reach * size / 64 + 1)
    return _FAR_LONGER * plan.cycles + _FAR_LINE * lines


def plan_directly(problem: Convolution) -> tuple[Plan, TileShape]:
    """Plan of the direct convolution, and the tile whose packed weights it reads."""
    found = plan_all_taps(problem)
    by_run = plan_runs(problem) if suits_runs(problem) else None
    if by_run is not None and by_run[0].cycles < found[0].cycles:
        found = by_run
    if suits_masked_rows(problem):
        # Of 42 grouped layers, drawn by chance, that take masked tiles by this, none took longer, and all 0.78 of the
        # time in the geometric mean.
        masked = plan_masked_rows(problem)
        if masked[0].cycles < found[0].cycles + packing_cycles(problem, found[0]):
            return masked
    if suits_joined(problem):
        joined = plan_joined(problem)
        others = found[0].cycles + packing_cycles(problem, found[0]) + streaming_cycles(problem, found[1])
        if joined[0].cycles + streaming_cycles(problem, joined[1]) < others:
            return joined
    return found


def plan_all_taps(problem: Convolution) -> tuple[Plan, TileShape]:
    """The same, all taps at once by tiles that need no masks."""
    found = plan_panels(problem) if suits_panels(problem) else None
    if found is None:
        return plan_direct(problem)
    if problem.taps > 1:  # which see a line several times
        other, tile = plan_direct(problem)
        cycles = _cycles_without_panels(problem, other, tile)
        if cycles < found[0].cycles:
            return replace(other, cycles=cycles), tile
    else:
        other, tile = plan_direct(problem)
        if is_in_place(other):
            is_shorter = _cycles_in_place(problem, other, tile) < found[0].cycles
        else:
            is_shorter = packs_little(problem, other) and problem.pixels * problem.element.size <= _FEW_LINES
        if is_shorter:
            return other, tile
    return found


def _cycles_in_place(problem: Convolution, plan: Plan, tile: TileShape) -> float:
    """Cycles of a single tap in place where registers are few, as they compare with the estimate of panels."""
    if lie_apart(problem):
        return _APART_STEP * tile_count(problem, tile, grid_of(plan)) * problem.channels // problem.groups
    is_aliased = problem.x_strides[1] * problem.element.size % _ALIASED == 0
    return inf if is_aliased else _WHOLE_LONGER * direct_cycles(problem, tile, grid_of(plan))


def _plan_depthwise(problem: Convolution) -> Plan:
    """Lanes on columns, or on channels where that is faster, or all that can be."""
    if not is_depthwise(problem):
        return plan_channelwise(problem)
    if is_channelwise(problem) and channelwise_cycles(problem) < depthwise_cycles(problem):
        return plan_channelwise(problem)
    return plan_depthwise(problem)


#: Share of the direct convolution's cycles below which Winograd is taken: it has 1.8 to 11 times as many weights, which
#: a network reads from memory. 3x3 at stride 2 over 192 channels of 16x16 takes as long either way even without that.
#: Groups have few weights. With 16 registers they took 0.96 of what is expected in the median beside the direct
#: convolution, and others 1.1 (Zen 3).
#: On Zen 5 others take longer than estimated: at stride 1 3x3 over 512 channels of 7x7 takes 0.38 ms and not 0.52, with
#: weights from memory 0.53 and not 0.73. Of 48 layers at stride 2 the choice takes 1.5 % longer than the best, and 3 %
#: by 0.9; by 1.0 1 %, but with weights from memory some take up to a fifth longer than directly.
#: With 16 registers 94 layers take 1.5 % longer by 0.9 than by the better way, on a Zen 3; between 0.83 and 0.9 is 3x3
#: at stride 2 from 100 to 20 channels of four times 112x112, which takes 0.77 of the time directly.
_LEAST_GAIN, _LEAST_GAIN_AT_STRIDE_1 = (0.94, 1.0) if IS_ZEN_5 else (0.83 if TARGET.registers == 16 else 0.9, 0.9)
_LEAST_GAIN_OF_GROUPS = 1.05 if TARGET.registers == 16 else 0.9
#: The same of filters of one row or column with up to so many output channels, which tiles with lanes on pixels sum
#: faster than estimated. Measured on Zen 5: seven such layers, from 18 to 353 to 4 to 20 channels, then take 0.54 to
#: 0.89 of the time; 14 others, with more than 20, would take 1.1.
_LEAST_GAIN_OF_ROWS, _FEW_CHANNELS = (0.82, 20) if IS_ZEN_5 else (0.9, 0)


def _least_gain(problem: Convolution) -> float:
    """Share of the direct convolution's cycles below which Winograd is taken."""
    if problem.groups > 1:
        return _LEAST_GAIN_OF_GROUPS
    _, height, width = problem.axes
    if 1 in (height.kernel, width.kernel) and problem.out_channels <= _FEW_CHANNELS:
        return _LEAST_GAIN_OF_ROWS
    return _LEAST_GAIN_AT_STRIDE_1 if all(axis.stride == 1 for axis in problem.axes) else _LEAST_GAIN


#: Cycles of one core to transform a vector of weights into memory, where that is part of every call; and from how many
#: bytes on the memory is a fresh one each time, whose pages have to be given first: 256 -> 256 channels by F(4, 3) take
#: 10 cycles, 128 -> 128 19, 512 -> 512 (38 MB) 78.
_PREPARE, _FRESH_BYTES, _PREPARE_FRESH = 15.0, 32 * 1024**2, 80.0
#: Weights that are kept are transformed on the fly only where that is expected to be so many times faster. What it
#: costs is a matter of the processor, what it saves one of the memory, which gives more or less from hour to hour: 512
#: -> 512 channels on 12x12 took 1.39 ms ahead and 1.11 on the fly in one hour, 1.01 and 1.34 in the next.
_MARGIN = 1.25


def expected_cycles(problem: Convolution, form: WinogradForm) -> float:
    """Cycles of one core by which forms are compared: of a call, and what preparing the weights adds to it."""
    return winograd_cycles(problem, form) + _preparation(problem, form)


def _preparation(problem: Convolution, form: WinogradForm) -> float:
    """Cycles to transform the weights ahead in every call, or what speaks against doing it on the fly."""
    problem = as_images(problem)
    if problem.prepared:
        return (_MARGIN - 1) * winograd_cycles(problem, form) if form.on_the_fly else 0.0
    if form.on_the_fly:
        return 0.0
    weights = problem.channels // problem.groups * problem.out_channels
    vectors = form.products * form.phases * form.fold * weights / lanes_for(problem.element)
    is_fresh = vectors * TARGET.vector_bytes > _FRESH_BYTES
    return vectors * (_PREPARE_FRESH if is_fresh else _PREPARE)


@lru_cache(maxsize=1024)
def plan_weights(element: ElementType, shape: tuple[int, ...], groups: int, form: Form) -> list[tuple[Plan, int]]:
    """Plans that prepare weights one after the other, each with the number of elements that it writes."""
    if isinstance(form, PlainForm):
        return []
    if isinstance(form, SomeTaps):
        moved = plan_places(element, shape, form.places, prod(shape[2:]))
        return [moved, *plan_weights(element, (*shape[:2], len(form.places)), groups, form.form)]
    lanes = lanes_for(element)
    block = form.block(lanes) if isinstance(form, TileShape) else 2 * lanes
    plans = []
    if isinstance(form, WinogradForm) and form.slices > 1:
        plans.append(_plan_slices(element, shape, form))
        shape = (shape[0], form.channels(shape[1], lanes), prod(form.kernels))
    group_out, reduction = shape[0] // groups, prod(shape[1:])
    blocks = ceil_div(group_out, block)
    elements = groups * blocks * reduction * block
    fields = {
        "tasks": groups * blocks,
        "block": block,
        "blocks": blocks,
        "reduction": reduction,
        "group_channels": group_out,
    }
    cycles = elements * element.size * 0.75
    plans.append((Plan((Step(Code(pack_weights, element), fields),), 0, 0, element, cycles), elements))
    if isinstance(form, WinogradForm) and not form.on_the_fly:
        channel_blocks = form.channel_blocks(shape[1], lanes)  # in which taps of depth are counted
        pitch = u_product(form, channel_blocks, element.size, lanes)
        fields = {
            "tasks": groups * blocks,
            "channels": shape[1],
            "padded_channels": channel_blocks * lanes,
            "out_blocks": groups * blocks,
            "u_product": pitch,
        }
        step = Step(Code(winograd_weights, element, form.shape), fields)
        plans.append((Plan((step,), 0, 0, element, 4 * cycles), groups * blocks * form.products * pitch))
    return plans


def _plan_slices(element: ElementType, shape: tuple[int, ...], form: WinogradForm) -> tuple[Plan, int]:
    """Plan that makes channels of the taps of depth: (out channel, tap, channel, row and column), whole vectors."""
    inputs, taps, channels = shape[1], prod(form.kernels), form.channels(shape[1], lanes_for(element))
    offsets = table(np.arange(form.slices * taps))
    fields = {
        "tasks": shape[0],
        "group_channels": shape[0],
        "group_inputs": inputs,
        "phases": form.slices,
        "taps": taps,
        "offsets": address(offsets),
        "in_group": 0,
        "in_channel": inputs * form.slices * taps,
        "in_input": form.slices * taps,
        "out_group": 0,
        "out_phase": channels // form.slices * taps,
        "out_channel": channels * taps,
        "out_inputs": channels // form.slices,
    }
    elements = shape[0] * channels * taps
    return Plan((Step(Code(turn, element), fields),), 0, 0, element, 2.0 * elements, (offsets,)), elements


def tells_weights(form: Form) -> bool:
    """Whether weights can be had back: not of some taps alone, nor to the last bit if they were transformed."""
    return isinstance(form, TileShape | PlainForm)


def unpack_weights(packed: np.ndarray, form: Form, shape: tuple[int, ...], groups: int) -> np.ndarray:
    """Weights as they were before they were prepared, contiguous, if the form `tells_weights`."""
    if isinstance(form, PlainForm):
        return packed
    if not isinstance(form, TileShape):
        raise TypeError(f"form must be one that tells the weights, got {form}")
    reduction, block = prod(shape[1:]), form.block(lanes_for(ELEMENT_TYPES[packed.dtype]))
    blocks = packed.reshape(groups, -1, reduction, block).transpose(0, 1, 3, 2)  # to (group, block, channel, reduction)
    return np.ascontiguousarray(blocks.reshape(groups, -1, reduction)[:, : shape[0] // groups].reshape(shape))
