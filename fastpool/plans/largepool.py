"""Plan of a pooling with large windows: groups of rows, strips of columns, and how windows are put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from fastpool.arrays import address
from fastpool.geometry import Axis
from fastpool.plans.plan import Code, Plan, Step, table, thread_scratch
from fastpool.plans.shares import shares
from fastpool.plans.smallpool import mask_words, outside_row
from fastpool.plans.windows import Pooling, finishing, windows_of
from fastpool.routines.largepool import BESIDE, ROWS, large_pool, overlaps, variant_of
from fastpool.routines.pool import loses_nan
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import SCRATCH_LIMIT

#: Bytes of the buffer of a strip's rows, which are read soon after they are written: beyond that there are more strips.
BUFFER_BYTES = 64 * 1024
#: Windows are large whose rows and columns together are more. Others that `small_pool` has not are rarely asked for:
#: one spec of `pool` serves them all.
SMALL = 13
#: Output columns of a strip at least, in widths of the window: the columns of one more are seen by the next strip, too.
LEAST_STRIP = 2


def is_large(problem: Pooling) -> bool:
    """Whether `large_pool` computes it: large windows, stride 1 or 2 along, no dilation, plain rows of one depth."""
    depth, height, width = problem.axes
    if not isinstance(height, Axis) or not isinstance(width, Axis) or problem.indices:
        return False
    return (
        height.kernel + width.kernel > SMALL
        and depth.size == 1
        and windows_of(depth).count == [1]
        and width.stride <= 2
        and height.dilation == width.dilation == 1
        and problem.x_strides[4] == 1
        and problem.operation != "powersum"
    )


@dataclass(frozen=True)
class _Groups:
    """Output rows that are done together, and the input rows of each. Windows of a group have a row in common."""

    first: list[int]  #: output row that each begins with, and the end
    suffix_start: list[int]
    suffix_rows: list[int]
    prefix_rows: list[int]

    @property
    def rows(self) -> int:
        """Output rows of the largest."""
        return max(end - first for first, end in pairwise(self.first))


def _groups_of(height: Axis, pieces: int) -> _Groups:
    """At least so many groups."""
    count = max(pieces, -(-height.out // (1 + (height.kernel - 1) // height.stride)))
    found = _Groups([i * height.out // count for i in range(count + 1)], [], [], [])

    def inside(row: int) -> int:
        return min(max(row, 0), height.size)

    for first, end in pairwise(found.first):
        starts = [inside(o * height.stride - height.pad_begin) for o in range(first, end)]
        ends = [inside(o * height.stride - height.pad_begin + height.kernel) for o in range(first, end)]
        found.suffix_start.append(ends[0] - 1)
        found.suffix_rows.extend(below - start for start, below in zip(starts, [*starts[1:], ends[0]], strict=True))
        found.prefix_rows.extend(end - above for end, above in zip(ends, [ends[0], *ends], strict=False))
    return found


@dataclass(frozen=True)
class _Strips:
    """Output columns that are done together, and the input columns of each."""

    first: list[int]  #: output column that each begins with, and the end
    input: list[int]
    loads: list[int]
    shift: list[int]
    vectors: int  #: that the windows of a strip need
    beside: int  #: vectors that are taken down the columns together


def _strips_of(width: Axis, lanes: int, most: int) -> _Strips:
    """Strips of about so many input columns."""
    count = -(-width.out // max((most - width.kernel) // width.stride, LEAST_STRIP * width.kernel, 64))
    columns = -(-width.out // (count * lanes)) * lanes
    found = _Strips([*range(0, width.out, columns), width.out], [], [], [], 1, 1)
    vectors = 1
    for first, end in pairwise(found.first):
        start = first * width.stride - width.pad_begin
        stop = (end - 1) * width.stride - width.pad_begin + width.kernel
        base = min(max(start, 0), width.size) // lanes * lanes
        found.input.append(base)
        found.loads.append(max(0, -(-(min(stop, width.size) - base) // lanes)))
        found.shift.append(start - base)
        vectors = max(vectors, -(-(stop - base) // lanes), -(-(end - first) // lanes))
    beside = BESIDE[max(found.loads) > 2]
    return replace(found, vectors=vectors, beside=beside)


def _terms(kernel: int, widths: list[int], once: bool) -> list[tuple[int, int]]:
    """What a window is combined of: which of the lines with windows of these widths, and the column where they end.

    Of the last line two that overlap; where each element counts `once`, of each line as many as add up.
    """
    if not once:
        return [(len(widths) - 1, widths[-1] - 1), (len(widths) - 1, kernel - 1)]
    found, seen = [], 0
    for line in reversed(range(len(widths))):
        if seen + widths[line] <= kernel:
            seen += widths[line]
            found.append((line, seen - 1))
    return found


def plan_large(problem: Pooling) -> Plan | None:
    """Plan of a pooling that `is_large`; none where it would take too much scratch."""
    element, lanes = problem.element, lanes_for(problem.element)
    _, height, width = problem.axes
    assert isinstance(height, Axis)
    assert isinstance(width, Axis)
    planes = problem.images * problem.channels
    planes_per_task, rows_per_task = shares(planes, height.out, height.size * width.size)
    pieces = -(-height.out // rows_per_task)
    groups = _groups_of(height, pieces)
    strips = _strips_of(width, lanes, BUFFER_BYTES // (groups.rows * element.size))

    once = not overlaps(problem.operation)  # each element counts
    in_registers = min(1 << (width.kernel.bit_length() - 1), 2 * lanes)
    doublings = (width.kernel // in_registers).bit_length() - 1
    widths = [1 << level for level in range((in_registers << doublings).bit_length())]
    widths = widths if once else widths[-1 - doublings :]
    fused = height.stride == 1 and height.kernel > 1
    code = Code(large_pool, element, (variant_of(problem.variant, fused, width.stride), strips.beside, in_registers))

    together = ROWS if fused else 1
    rows = -(-groups.rows // together) * together
    pitch = -(-strips.vectors // strips.beside) * strips.beside * lanes
    lead = -(-max(width.pad_begin, widths[-1] if doublings else 0) // lanes) * lanes
    line_pitch = lead + pitch + 2 * lanes
    seen = (rows - 1) * height.stride + height.kernel if loses_nan(code.spec) else 0
    line_start = (rows + 1) * pitch
    marks = line_start + together * len(widths) * line_pitch
    found = marks + seen * pitch
    scratch = found + (rows * pitch if seen else 0) + 2 * lanes
    if scratch * element.size > SCRATCH_LIMIT:
        return None

    tables: list[Any] = [outside_row(problem, code.spec, width.size)]

    def kept(values: Any) -> int:
        tables.append(table(values))
        return address(tables[-1])

    fields: dict[str, Any] = {
        "tasks": -(-planes // planes_per_task) * pieces * len(strips.input),
        "x_batch": problem.x_strides[0],
        "x_channel": problem.x_strides[1],
        "channels": problem.channels,
        "x_row": problem.x_strides[3],
        "height": height.size,
        "outside": address(tables[0]),
        "out_rows": height.out,
        "out_columns": width.out,
        "kernel_rows": height.kernel,
        "row_stride": height.stride,
        "last_row": height.kernel - 1 - height.pad_begin,
        "groups": len(groups.suffix_start),
        "group_first": kept(groups.first),
        "group_tasks": pieces,
        "suffix_start": kept(groups.suffix_start),
        "suffix_rows": kept(groups.suffix_rows),
        "prefix_rows": kept(groups.prefix_rows),
        "strips": len(strips.input),
        "strip_first": kept(strips.first),
        "strip_input": kept(strips.input),
        "strip_loads": kept(strips.loads),
        "strip_shift": kept(strips.shift),
        "load_masks": kept([mask_words(width.size, base, lanes, pitch // lanes) for base in strips.input]),
        "mask_words": pitch // lanes,
        "vectors": strips.vectors,
        "pitch": pitch,
        "lead": lead,
        "lines": len(widths),
        "line_pitch": line_pitch,
        "row_lines": len(widths) * line_pitch,
        "doublings": doublings,
        "terms": len(_terms(width.kernel, widths, once)),
        "term_offsets": kept([line * line_pitch + end for line, end in _terms(width.kernel, widths, once)]),
        "prefix_row": rows * pitch,
        "line_start": line_start,
        "marks": marks,
        "found": found,
        "scratch_thread": thread_scratch(scratch, element),
        "planes": planes,
        "planes_per_task": planes_per_task,
        **finishing(problem, tables),
    }
    cycles = planes * strips.vectors * (8.0 * height.size + 15 * height.out)
    return Plan((Step(code, fields),), 0, fields["scratch_thread"], element, cycles, tuple(tables))
