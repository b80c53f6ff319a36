"""Plan of a transposed convolution as a product of matrices, whose results are added where they overlap.

Each tap of each output channel is a channel of a 1x1 convolution, which reads x in place and wastes no lane; the sums
over the taps that meet in an output follow (Caffe and PyTorch call that `col2im`). Of few output channels a phase alone
would fill no vector, and tiny maps are mostly edges. There are ``(kernel / stride)**axes`` times as many results as
outputs, and all of them are written and read again.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.plans.composer import Composer
from fastpool.plans.plan import Code, Step, table, thread_scratch
from fastpool.plans.problem import ceil_div
from fastpool.plans.transposed_problem import (
    Filters,
    Piece,
    Range,
    Transposed,
    TransposedAxis,
    TransposedConvolution,
    pieces,
    whole_lines,
)
from fastpool.routines.interleave import INTERLEAVED_STRIDES
from fastpool.routines.overlap_add import overlap_add
from fastpool.routines.routine import lanes as lanes_for

#: Cycles to add a vector of the product to an output, and to store one of these.
_ADD, _STORE = 4.0, 8.0


def _inputs_of(axis: TransposedAxis, outputs: Range) -> Range:
    """Inputs that these outputs of each phase see."""
    first = -(-(outputs[0] * axis.phases + axis.pad_begin - (axis.kernel - 1) * axis.dilation) // axis.stride)
    last = (min(axis.out, outputs[1] * axis.phases) - 1 + axis.pad_begin) // axis.stride
    begin = min(max(first, 0), axis.size - 1)
    return begin, min(max(last + 1, begin + 1), axis.size)


def _taps_of(axis: TransposedAxis, outputs: Range, inputs: Range) -> tuple[list[int], list[int], list[int]]:
    """For outputs begin to end where their taps begin in a table of (tap, input counted from the first of `inputs`)."""
    begins, taps, places = [0], [], []
    for output in range(outputs[0] * axis.phases, min(axis.out, outputs[1] * axis.phases)):
        reach = output + axis.pad_begin
        for tap in range(axis.kernel):
            place, rest = divmod(reach - tap * axis.dilation, axis.stride)
            if rest == 0 and inputs[0] <= place < inputs[1]:
                taps.append(tap)
                places.append(place - inputs[0])
        begins.append(len(taps))
    return begins, taps, places


def suits_overlap_add(problem: TransposedConvolution) -> bool:
    """Whether taps overlap; where none do, phases are a product of matrices, too."""
    return not problem.element.is_integer and problem.phases > 1 and any(a.kernel > a.stride for a in problem.axes)


def plan_overlap_add(problem: TransposedConvolution) -> Transposed:
    """Plan by a product of matrices, and how its weights lie."""
    element, lanes = problem.element, lanes_for(problem.element)
    taps = prod(axis.kernel for axis in problem.axes)
    channels = problem.out_channels * taps
    # Biases are added with the sums: those of the product are zeros.
    filters = Filters(None, (channels, problem.channels // problem.groups, 1, 1, 1), 0, 2 * problem.out_channels)
    image_bytes = channels * prod(axis.size for axis in problem.axes) * element.size
    all_pieces = pieces(problem, image_bytes)

    def inputs_of(piece: Piece) -> list[Range]:
        return [_inputs_of(axis, outputs) for axis, outputs in zip(problem.axes, piece.ranges, strict=True)]

    def elements(piece: Piece) -> int:
        return whole_lines(piece.images * channels * prod(end - begin for begin, end in inputs_of(piece)), element)

    buffer = max(map(elements, all_pieces))
    composer = Composer(problem, buffer)
    count = max(piece.counts[2] for piece in all_pieces)
    pitch = ceil_div(count, lanes) * lanes
    own = thread_scratch(problem.axes[2].phases * pitch, element)
    for piece in all_pieces:
        inputs = inputs_of(piece)
        sizes = [end - begin for begin, end in inputs]
        windows = [(begin, Axis(size, 1, 1, 1, 0, 0, size)) for (begin, _), size in zip(inputs, sizes, strict=True)]
        composer.convolve(piece, filters, windows, (-np.inf, np.inf), 0)
        _add_overlaps(composer, piece, inputs, own, pitch)
    return composer.composed((filters,), own)


def _add_overlaps(composer: Composer, piece: Piece, inputs: list[Range], own: int, pitch: int) -> None:
    """Add the step that sums the product over the taps."""
    problem, element = composer.problem, composer.problem.element
    fields = problem.result_fields(piece)
    out_begin = fields.pop("out_begin")
    sizes = [end - begin for begin, end in inputs]
    pixels, kernel = prod(sizes), [axis.kernel for axis in problem.axes]
    width = problem.axes[2]
    tables = []
    taps, places = (kernel[1] * kernel[2] * pixels, kernel[2] * pixels), (sizes[1] * sizes[2], sizes[2])
    for axis in (0, 1):
        ends, tap, place = map(np.array, _taps_of(problem.axes[axis], piece.ranges[axis], inputs[axis]))
        tables += [table(ends), table(tap * taps[axis] + place * places[axis])]
    begins, offsets, shifts = [0], [], []
    for phase in range(width.phases):
        for k in range(width.kernel):
            shift, rest = divmod(phase + width.pad_begin - k * width.dilation, width.stride)
            if rest == 0:
                shift += piece.ranges[2][0] - inputs[2][0]
                shifts.append(shift)
                offsets.append(k * pixels + shift)
        begins.append(len(shifts))
    tables += [table(begins), table(offsets), table(shifts)]
    depths, rows = ("depth_begins", "depth_offsets"), ("row_begins", "row_offsets")
    names = (*depths, *rows, "column_begins", "column_offsets", "column_shifts")
    bounds = {"low": problem.low, "high": problem.high}
    fields |= dict(zip(names, map(address, tables), strict=True))
    fields |= {
        "columns": sizes[2],
        "count": piece.counts[2],
        "channel": prod(kernel) * pixels,
        "own": composer.buffer,
        "own_thread": own,
        "own_pitch": pitch,
    }
    is_usual = fields["stride_column"] in INTERLEAVED_STRIDES
    code = Code(overlap_add, element, (f"stride {fields['stride_column']}" if is_usual else "", 1, 1))
    # The sums of a row stay in a level-1 cache.
    vectors = ceil_div(piece.counts[2], lanes_for(element)) * piece.images * problem.out_channels
    lines = (len(tables[1]) * len(tables[3])) * len(shifts) * _ADD
    cycles = vectors * (lines + fields["depths"] * fields["rows"] * width.phases * _STORE)
    composer.add(Step(code, fields | bounds, begins={"out": out_begin * element.size}), cycles, *tables)
