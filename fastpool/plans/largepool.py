"""Plan of a pooling with large windows: groups of rows, strips of columns, and how windows are put together."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.kernels import lanes as lanes_for
from fastpool.kernels.careful import loses_nan
from fastpool.kernels.largepool import ROWS, large_pool, overlaps, variant_of
from fastpool.plans.plan import Code, Plan, Step, table
from fastpool.plans.shares import shares
from fastpool.plans.smallpool import mask_words, outside_row
from fastpool.plans.windows import Pooling, finishing, windows_of

#: Bytes of the buffer of one task's rows: beyond that a strip has not all columns.
BUFFER_BYTES = 128 * 1024
#: Bytes of the same that no plan exceeds.
LARGEST_BUFFER = 4 * 1024 * 1024
#: Vectors that are taken down the columns together.
TOGETHER = 4


def is_large(problem: Pooling) -> bool:
    """Whether `large_pool` computes it: stride 1 or 2 along, no dilation, plain rows of one depth."""
    depth, height, width = problem.axes
    if not isinstance(height, Axis) or not isinstance(width, Axis) or problem.indices:
        return False
    return (
        depth.size == 1
        and windows_of(depth).count == [1]
        and width.stride <= 2
        and height.dilation == width.dilation == 1
        and problem.x_strides[4] == 1
        and problem.operation != "powersum"
    )


def plan_large(problem: Pooling) -> Plan:
    """Plan of a pooling that `is_large`."""
    element, lanes = problem.element, lanes_for(problem.element)
    _, height, width = problem.axes
    assert isinstance(height, Axis)
    assert isinstance(width, Axis)
    planes = problem.images * problem.channels
    planes_per_task, rows_per_task = shares(planes, height.out, height.size * width.size)

    pieces = -(-height.out // rows_per_task)
    most = 1 + (height.kernel - 1) // height.stride  # whose windows have a row in common
    groups = max(pieces, -(-height.out // most))
    firsts = [i * height.out // groups for i in range(groups + 1)]
    fused = height.stride == 1 and most > 1
    together = ROWS if fused else 1
    rows = -(-max(end - first for first, end in pairwise(firsts)) // together) * together
    suffix_start, suffix_rows, prefix_rows = [], [], []
    inside = lambda row: min(max(row, 0), height.size)  # noqa: E731
    for first, end in pairwise(firsts):
        starts = [inside(o * height.stride - height.pad_begin) for o in range(first, end)]
        ends = [inside(o * height.stride - height.pad_begin + height.kernel) for o in range(first, end)]
        suffix_start.append(ends[0] - 1)
        suffix_rows += [below - start for start, below in zip(starts, [*starts[1:], ends[0]], strict=True)]
        prefix_rows += [end - above for end, above in zip(ends, [ends[0], *ends], strict=False)]

    in_registers = min(1 << (width.kernel.bit_length() - 1), 2 * lanes)
    doublings = (width.kernel // in_registers).bit_length() - 1
    strip = width.out
    strip_first = [*range(0, width.out, strip), width.out]
    strip_input, strip_loads, strip_shift, vectors = [], [], [], 1
    for first, end in pairwise(strip_first):
        start = first * width.stride - width.pad_begin
        stop = (end - 1) * width.stride - width.pad_begin + width.kernel
        base = min(max(start, 0), width.size) // lanes * lanes
        strip_input.append(base)
        strip_loads.append(max(0, -(-(min(stop, width.size) - base) // lanes)))
        strip_shift.append(start - base)
        vectors = max(
            vectors, -(-(stop - base) // lanes), -(-(end - first) // lanes), -(-strip_loads[-1] // TOGETHER) * TOGETHER
        )
    lead = -(-max(width.pad_begin, in_registers << doublings if doublings else 0) // lanes) * lanes
    pitch = vectors * lanes
    line_pitch = lead + pitch + 2 * lanes

    twice = overlaps(problem.operation)
    in_line = 0 if twice else in_registers.bit_length() - 1  # the widest made in registers
    lines = in_line + 1 + doublings
    if twice:
        widest = in_registers << doublings
        offsets = [doublings * line_pitch + column - 1 for column in (widest, width.kernel)]
    else:
        offsets, seen = [], 0
        for line in reversed(range(lines)):
            if width.kernel >> line & 1:
                seen += 1 << line
                offsets.append(line * line_pitch + seen - 1)

    code = Code(large_pool, element, (variant_of(problem.variant, fused, width.stride), TOGETHER, in_registers))
    tables: list[Any] = []

    def kept(values: Any) -> int:
        tables.append(table(values))
        return address(tables[-1])

    prefix_row = rows * pitch
    line_start = prefix_row + pitch
    marks = line_start + together * lines * line_pitch
    seen = (rows - 1) * height.stride + height.kernel if loses_nan(code.spec) else 0
    found = marks + seen * pitch
    scratch = found + (rows * pitch if seen else 0) + 2 * lanes
    masks = [word for base in strip_input for word in mask_words(width.size, base, lanes, vectors)]
    tables.append(outside_row(problem, code.spec, width.size))
    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * pieces * len(strip_input),
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "channels": problem.channels,
        "x_row": problem.x_strides[3],
        "height": height.size,
        "out_rows": height.out,
        "out_columns": width.out,
        "groups": groups,
        "group_first": kept(firsts),
        "suffix_start": kept(suffix_start),
        "suffix_rows": kept(suffix_rows),
        "prefix_rows": kept(prefix_rows),
        "kernel_rows": height.kernel,
        "row_stride": height.stride,
        "last_row": height.kernel - 1 - height.pad_begin,
        "outside": address(tables[0]),
        "load_masks": kept(masks),
        "prefix_row": prefix_row,
        "group_tasks": pieces,
        "strips": len(strip_input),
        "strip_first": kept(strip_first),
        "strip_input": kept(strip_input),
        "strip_loads": kept(strip_loads),
        "strip_shift": kept(strip_shift),
        "vectors": vectors,
        "pitch": pitch,
        "lead": lead,
        "lines": lines,
        "line_pitch": line_pitch,
        "row_lines": lines * line_pitch,
        "doublings": doublings,
        "terms": len(offsets),
        "term_offsets": kept(offsets),
        "line_start": line_start,
        "marks": marks,
        "found": found,
        "scratch_thread": -(-scratch // lanes) * lanes,
        "planes": planes,
        "planes_per_task": planes_per_task,
        **finishing(problem, tables),
    }
    cycles = planes * vectors * (6 * height.size + 12 * height.out)
    return Plan((Step(code, fields),), 0, fields["scratch_thread"], element, cycles, tuple(tables))
