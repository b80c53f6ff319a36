"""Plan of a transposed convolution by phases: no zeros are inserted, none are multiplied.

Outputs whose index has the same remainder modulo the stride (a *phase*) see the same subset of the taps, at consecutive
inputs. So a phase is an ordinary convolution at unit stride with those taps, flipped: the work is that of the taps that
meet an input, whatever the stride. Phases that see inputs at the same places are one convolution, with the channels of
all of them: at 2x2 and stride 2, all four are one of 1x1. Where there is more than one phase, the convolutions write
into a buffer, some rows at a time, and each time a last step puts the phases together.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from fastpool.arrays import address
from fastpool.plans.composer import Composer
from fastpool.plans.plan import Code, Step, table
from fastpool.plans.transposed_problem import (
    Filters,
    Piece,
    Transposed,
    TransposedConvolution,
    pieces,
    whole_lines,
)
from fastpool.routines.interleave import INTERLEAVED_STRIDES, interleave
from fastpool.routines.routine import lanes as lanes_for

#: Factor by which phases, each a small convolution of its own, take longer than the sum of their estimates. Of 15
#: layers on 4x4 to 8x8 those for whose one product 1.0 to 1.3 times as many cycles are estimated take 0.65 to 0.91 of
#: the time by it (512 to 256 channels of 4x4, 4x4 at stride 2: 424 us instead of 484); one of 1.6 times takes 1.2 (256
#: to 128 of 8x8).
_LONGER = 1.25


def _filters_of(problem: TransposedConvolution) -> tuple[Filters, ...]:
    """Filters of each convolution that the phases come to."""
    found: list[Filters] = []
    begin, bias_begin = 0, 2 * problem.out_channels
    for windows in product(*(axis.windows() for axis in problem.axes)):
        phases = prod(len(window.phases) for window in windows)
        taps = tuple(len(window.taps[0]) for window in windows)
        shape = (phases * problem.out_channels, problem.channels // problem.groups, *taps)
        found.append(Filters(windows, shape, begin, bias_begin))  # type: ignore[arg-type]
        begin += whole_lines(prod(shape), problem.element)
        bias_begin += shape[0]
    return tuple(found)


def plan_phases(problem: TransposedConvolution) -> Transposed:
    """Plan by phases, and how its weights lie."""
    filters, element = _filters_of(problem), problem.element
    is_single = problem.phases == 1
    counts = prod(axis.count for axis in problem.axes)
    image_bytes = sum(f.shape[0] for f in filters) * counts * element.size

    def begins_of(piece: Piece) -> list[int]:
        """Elements at which the result of each convolution begins, and their end: whole vectors are loaded there."""
        pixels = piece.images * prod(piece.counts)
        sizes = [whole_lines(f.shape[0] * pixels, element) for f in filters]
        ends = np.cumsum([0, *sizes, whole_lines(lanes_for(element), element)])
        return [int(end) for end in ends]

    all_pieces = pieces(problem, 0 if is_single else image_bytes)
    composer = Composer(problem, 0 if is_single else max(begins_of(piece)[-1] for piece in all_pieces))
    for piece in all_pieces:
        begins, groups = np.full(problem.phases, -1), np.zeros(problem.phases, np.int64)
        of_group = problem.out_channels // problem.groups * prod(piece.counts)
        seen = 0
        for f, begin in zip(filters, begins_of(piece), strict=False):
            assert f.windows is not None
            of_axes = zip(f.windows, problem.axes, piece.ranges, strict=True)
            parts = [window.part(axis.size, *outputs) for window, axis, outputs in of_axes]
            if not all(axis.size for _, axis in parts):
                continue
            composer.convolve(piece, f, parts, (problem.low, problem.high), None if is_single else begin)
            seen += 1
            for number, phase in enumerate(product(*(window.phases for window in f.windows))):
                place = np.ravel_multi_index(phase, [axis.phases for axis in problem.axes])
                begins[place], groups[place] = begin + number * of_group, f.phases * of_group
        if not (is_single and seen):
            _put_together(composer, piece, begins, groups)
    if not is_single:
        composer.cycles *= _LONGER
    return composer.composed(filters)


def _put_together(composer: Composer, piece: Piece, begins: np.ndarray, groups: np.ndarray) -> None:
    """Add the step that does so; phases of each group lie from `begins` on, `groups` apart."""
    problem = composer.problem
    fields = problem.result_fields(piece)
    out_begin = fields.pop("out_begin")
    tables = table(begins), table(groups)
    fields |= {
        "phase_begins": address(tables[0]),
        "phase_groups": address(tables[1]),
        "phase_channel": prod(piece.counts),
        "phase_depth": piece.counts[1] * piece.counts[2],
        "phase_row": piece.counts[2],
        "stride_depth": problem.axes[0].phases,
        "stride_row": problem.axes[1].phases,
    }
    is_whole = bool((begins >= 0).all()) and fields["stride_column"] in INTERLEAVED_STRIDES
    variant = f"stride {fields['stride_column']}" if is_whole else ""
    code = Code(interleave, problem.element, (variant, 1, 1))
    # Each element is read from a level-2 or last-level cache, and written to memory.
    written = piece.images * problem.out_channels * fields["depths"] * fields["rows"] * fields["width"]
    cycles = written * problem.element.size / 4
    size = problem.element.size
    begins_of_step = {"out": out_begin * size, "bias": problem.out_channels * size}  # the biases that are limited
    composer.add(Step(code, fields, begins=begins_of_step), cycles, *tables)
