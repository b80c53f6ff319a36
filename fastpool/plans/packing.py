"""Where the reduction reads, and how packed input is laid out: `fastpool.kernels.pack` says why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastpool.arrays import address
from fastpool.geometry import Axis, padding_source
from fastpool.machine.processor import THREADS
from fastpool.plans.plan import Code, table
from fastpool.plans.problem import Convolution, apart, ceil_div
from fastpool.routines.direct import PRIVATE, SHARED
from fastpool.routines.pack import (
    NOWHERE,
    PACKED_STRIDES,
    PACKING,
    PLANE_VECTORS,
    ROWS_AHEAD,
    pack_by_table,
    pack_planes,
)
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.tiles import LEVEL_2_BYTES


@dataclass(frozen=True)
class PackedAxis:
    """Layout of one axis, for a run of outputs."""

    phases: tuple[int, ...]  #: padded index at which each phase begins; its elements are `stride` apart
    length: int  #: elements of each phase
    taps: tuple[tuple[int, int], ...]  #: (index of the phase, element) of each tap


def pack_axis(axis: Axis, outputs: int) -> PackedAxis:
    """Polyphase: tap k of output o reads element o + (k*dilation)//stride of phase (k*dilation) % stride."""
    reach = [k * axis.dilation for k in range(axis.kernel)]
    phases = tuple(sorted({r % axis.stride for r in reach}))
    index = {phase: i for i, phase in enumerate(phases)}
    taps = tuple((index[r % axis.stride], r // axis.stride) for r in reach)
    return PackedAxis(phases, outputs + reach[-1] // axis.stride, taps)


def pack_taps(axis: Axis, outputs: int) -> PackedAxis:
    """Tap by tap, if that takes less: where taps lie further apart than outputs, what is between them is left out."""
    phased = pack_axis(axis, outputs)
    if axis.kernel * outputs >= len(phased.phases) * phased.length:
        return phased
    return copies_of_taps(axis, outputs)


def copies_of_taps(axis: Axis, outputs: int) -> PackedAxis:
    """Tap by tap: a copy for each of what it meets."""
    begins = tuple(k * axis.dilation for k in range(axis.kernel))
    return PackedAxis(begins, outputs, tuple((k, 0) for k in range(axis.kernel)))


#: Of depths, rows and columns.
Packed = tuple[PackedAxis, PackedAxis, PackedAxis]


@dataclass(frozen=True)
class Source:
    """Where the reduction reads: offsets of the taps and pitches, in elements."""

    packing: int
    offsets: tuple[int, ...]
    channel: int
    depth: int
    row: int
    packed: Packed | None


#: Bytes that each thread packs for itself at most, beside the weights that pass; and what that may take of its share of
#: the multiplications.
ALONE_BYTES, _ALONE_SHARE = LEVEL_2_BYTES * 5 // 8, 1 / 2


def pays_alone(packing: float, multiplying: float, byte_count: int) -> bool:
    """Whether each thread better packs all that it reads than a part for all, by the cycles that both take in all.

    What another core has packed comes from its cache, line by line, and packing over it again takes the lines back:
    1x1 from 576 to 160 channels of 7x7 takes 8 % less without that, from 64 to 384 of 14x14 4 %, 3x3 at stride 2 from
    50 to 70 of 57x57 3.5 %. Half of the multiplications' time is better than a quarter (12 such layers take 0.975 of
    the time), all of it worse (1.03).
    """
    return byte_count <= ALONE_BYTES and packing <= _ALONE_SHARE * multiplying / THREADS


def lay_out(problem: Convolution, packing: int, outputs: tuple[int, int, int]) -> Packed:
    """Lay out the packed input for a run of outputs: a task's own is of one depth, few rows, and vectors of columns."""
    (depth, depths), (row, rows), (column, columns) = zip(problem.axes, outputs, strict=True)
    rows_of = pack_taps if packing == PRIVATE else pack_axis
    return rows_of(depth, depths), rows_of(row, rows), pack_axis(column, columns)


def packed_elements(packed: Packed) -> int:
    """Elements of a packed channel."""
    return prod(len(axis.phases) * axis.length for axis in packed)


def channel_elements(packed: Packed, size: int) -> int:
    """Elements from one packed channel to the next."""
    return apart(packed_elements(packed), size)


def packed_source(problem: Convolution, packing: int, outputs: tuple[int, int, int]) -> Source:
    """Give the source of a run of outputs that are packed."""
    return source_of(problem, packing, lay_out(problem, packing, outputs))


def source_of(problem: Convolution, packing: int, packed: Packed) -> Source:
    """Give the source that is laid out so."""
    d, h, w = packed
    row = w.length
    depth = h.length * row
    plane = d.length * depth
    offsets = tuple(
        ((pd * len(h.phases) + ph) * len(w.phases) + pw) * plane + ed * depth + eh * row + ew
        for pd, ed in d.taps
        for ph, eh in h.taps
        for pw, ew in w.taps
    )
    return Source(packing, offsets, channel_elements(packed, problem.element.size), depth, row, packed)


def _sources(axis: Axis, layout: PackedAxis, mode: str) -> tuple[np.ndarray, list[int]]:
    """Give the index in x of each element of the phases, for tasks anywhere, and where each phase begins therein."""
    pitch = axis.out + layout.length  # a task's last rows may lie beyond the output
    phased = pack_axis(axis, pitch)
    phases, begins = layout.phases, [i * pitch for i in range(len(layout.phases))]
    if len(phased.phases) * phased.length < len(phases) * pitch:  # taps have elements in common
        index = {phase: i * phased.length for i, phase in enumerate(phased.phases)}
        begins = [index[phase % axis.stride] + phase // axis.stride for phase in phases]
        phases, pitch = phased.phases, phased.length
    elements = np.arange(pitch) * axis.stride - axis.pad_begin
    indices = (elements + np.array(phases)[:, np.newaxis]).reshape(-1)
    outside = (indices < 0) | (indices >= axis.size)
    sources = np.where(outside, -1, indices)
    if mode != "zeros":  # beyond the padding nothing is read for a result, and a zero serves
        for i in np.flatnonzero(outside & (indices < axis.size + axis.pad_end)):
            sources[i] = padding_source(int(indices[i]), axis.size, mode)
    return sources, begins


def packing_shape(problem: Convolution) -> tuple[str, int, int]:
    """Shape of the spec of the routine that packs x: vectors of columns, or one element after the other."""
    stride = problem.axes[2].stride
    way = f"stride {stride}" if stride in PACKED_STRIDES and problem.x_strides[4] == 1 else ""
    return f"{way} {problem.widened_from}".strip(), 1, 1


#: Cycles to pack an element, 0.6 to 1.7, or a short row, of 3 to 7 elements 25 to 32; one by one, not vector by vector,
#: an element 2.2 to 6.1; by a table 2.4, and in channels of ten, each of which takes a call, 3.5.
PACK_CYCLES, PACK_ONE_CYCLES, _ROW_CYCLES, _TABLE_CYCLES = 1.2, 4.0, 28.0, 3.5
#: Cycles to load a plane that is packed in registers, and to write a vector of its elements, by vectors of the plane:
#: 384 channels of 20x3 in 20 vectors each 170, of 4 planes of 3x2 in 16 112, 200 of 16 planes of 4x3 in 144 980. By a
#: table an element takes 2.4; a fifth has to be gained. By eight vectors 3x3x3 at stride 2 over 64 channels of 8x10x10
#: takes 105 us, and row by row 129, from 136 to 5 of 11x10x10 120 and 156; 1x1 at stride 2 over 4 times 14x5, two such
#: vectors of each plane, 36 us in all, and in place 17.
_PLANE_CYCLES, _MOVE_CYCLES = {1: 12.0, 2: 12.0, 4: 12.0, 8: 40.0}, {1: 5.0, 2: 6.5, 4: 8.0, 8: 15.0}
_ONE_BY_ONE_CYCLES = 2.0
#: How often planes are packed in registers: by each thread for itself. Counted once, 1x1 at stride 2 from 96 to 256
#: channels of 7x7 took 8 % longer packed than in place.
_ALONE = 2
#: Elements of a packed channel up to which there is a table of them: 8 kB, a quarter of a level-1 cache. Of those that
#: are written from registers up to so many: there it is 4 bytes for each, read in order, and planning takes 2 ms.
MOST_PLACES, _MOST_WRITTEN = 1024, 4096


def is_packed_in_vectors(problem: Convolution) -> bool:
    """Whether vectors of columns are packed, and not one element after the other."""
    return packing_shape(problem)[0].startswith("stride")


def _cycles_by_rows(problem: Convolution, packed: Packed) -> float:
    """Cycles to pack a channel row by row."""
    each = max(PACK_CYCLES, _ROW_CYCLES / packed[2].length) if is_packed_in_vectors(problem) else PACK_ONE_CYCLES
    return each * packed_elements(packed)


def is_packed_by_table(problem: Convolution, packed: Packed) -> bool:
    """Whether a channel that is packed as a whole is so element by element, as its rows are short."""
    elements, is_empty = packed_elements(packed), not all(axis.size for axis in problem.axes)
    if problem.element.is_integer or is_empty or elements > _MOST_WRITTEN:
        return False
    if elements > MOST_PLACES and not plane_vectors(problem, packed):
        return False
    return _cycles_by_table(problem, packed) < _cycles_by_rows(problem, packed)


def _cycles_by_table(problem: Convolution, packed: Packed) -> float:
    """Cycles to pack a channel by a table."""
    one_by_one = _TABLE_CYCLES * packed_elements(packed)
    return min(one_by_one, _cycles_in_registers(problem, packed)) if plane_vectors(problem, packed) else one_by_one


def _vectors_of_plane(problem: Convolution) -> int:
    """Vectors that hold a plane of x, and an element that is none; 0 where it cannot be kept in registers."""
    _, height, width = problem.axes
    _, _, _, row, column = problem.x_strides
    lies_together = (width.size == 1 or column == 1) and (height.size == 1 or row == width.size)
    if problem.element.is_integer or problem.widened_from or not lies_together:
        return 0
    needed = ceil_div(height.size * width.size + 1, lanes_for(problem.element))
    return next((vectors for vectors in PLANE_VECTORS if needed <= vectors), 0)


def _cycles_in_registers(problem: Convolution, packed: Packed) -> float:
    """Cycles to pack a channel whose planes are kept in registers."""
    planes, lanes = problem.axes[0].size, lanes_for(problem.element)
    depths, rows, columns = packed
    of_depths, of_phases = len(depths.phases) * depths.length, len(rows.phases) * len(columns.phases)
    # Of several planes each phase, or tap, is written apart, of one all that follow one another.
    parts, at_once = of_depths * of_phases, rows.length * columns.length
    if planes == 1:
        parts, at_once = of_depths, of_phases * at_once
    vectors = _vectors_of_plane(problem)
    return planes * _PLANE_CYCLES[vectors] + _MOVE_CYCLES[vectors] * parts * ceil_div(at_once, lanes)


def plane_vectors(problem: Convolution, packed: Packed) -> int:
    """Vectors that hold a plane of x while it is packed; 0 where that cannot be, or one by one takes less."""
    vectors = _vectors_of_plane(problem)
    pays = vectors > 0 and _cycles_in_registers(problem, packed) < _ONE_BY_ONE_CYCLES * packed_elements(packed)
    return vectors if pays else 0


def is_packed_in_registers(problem: Convolution, packed: Packed) -> bool:
    """Whether a channel that is packed as a whole is so from planes in registers."""
    return is_packed_by_table(problem, packed) and plane_vectors(problem, packed) > 0


def table_code(problem: Convolution, packed: Packed) -> Code:
    """Code that packs a channel by a table."""
    vectors = plane_vectors(problem, packed)
    return Code(pack_planes, problem.element, ("", vectors, 1)) if vectors else Code(pack_by_table, problem.element)


def channel_cycles(problem: Convolution, packed: Packed) -> float:
    """Cycles to pack a whole channel, by each thread where it takes so little that none waits for another."""
    if not is_packed_by_table(problem, packed):
        return _cycles_by_rows(problem, packed)
    if plane_vectors(problem, packed):
        return _ALONE * _cycles_in_registers(problem, packed)
    return _cycles_by_table(problem, packed)


def _places(problem: Convolution, packed: Packed) -> np.ndarray:
    """Element of a channel of x of each of a packed channel, or that it is a zero."""
    found = []
    for axis, layout in zip(problem.axes, packed, strict=True):
        sources, begins = _sources(axis, layout, problem.padding_mode)
        found.append(np.array([sources[begin : begin + layout.length] for begin in begins]))  # by phase
    depths, rows, columns = found
    # [depth phase][row phase][column phase][depth][row][column]
    parts = [
        sources.reshape([len(sources) if at == i else sources.shape[1] if at == 3 + i else 1 for at in range(6)])
        for i, sources in enumerate((depths, rows, columns))
    ]
    exists = np.logical_and.reduce(np.broadcast_arrays(*(part >= 0 for part in parts)))
    places = sum(part * stride for part, stride in zip(parts, problem.x_strides[2:], strict=True))
    return np.where(exists, places, NOWHERE).reshape(-1)


def _behind_each_other(problem: Convolution) -> Convolution:
    """The convolution of planes that lie behind each other."""
    _, height, width = problem.axes
    batch, channel, _, row, column = problem.x_strides
    return replace(problem, x_strides=(batch, channel, height.size * width.size, row, column))


def _arranged(places: np.ndarray, width: int) -> np.ndarray:
    """Places of (tap, pixel) in the order (panel, tap, pixel of the panel); the last one is filled with zeros."""
    taps, pixels = places.shape
    filled = np.full((taps, ceil_div(pixels, width) * width), NOWHERE)
    filled[:, :pixels] = places
    return filled.reshape(taps, -1, width).transpose(1, 0, 2).reshape(-1)


class Moves(NamedTuple):
    """Vectors that are written of planes in registers, those of a plane after those of the one before."""

    move_begins: list[int]  #: first vector of each plane, and how many there are
    move_targets: list[int]  #: element at which each begins
    move_lanes: list[int]  #: how many it has
    orders: np.ndarray  #: elements of the plane in its lanes, as many to an integer as there is room for


def _moves(problem: Convolution, places: np.ndarray, run: int, panel: int) -> Moves:
    """Vectors that have all places, which are elements of planes behind each other, in their order.

    So many of them follow one another, `panel` apart.
    """
    lanes, size = lanes_for(problem.element), problem.axes[1].size * problem.axes[2].size
    of_planes: list[list[tuple[int, list[int]]]] = [[] for _ in range(problem.axes[0].size)]
    plane, taken = -1, lanes
    for number, place in enumerate(places.tolist()):
        exists = place != NOWHERE
        if taken == lanes or number % run == 0 or (exists and place // size != plane):
            plane, taken = place // size if exists else max(plane, 0), 0
            of_planes[plane].append((number // run * panel + number % run, []))
        # The first lane beyond the plane is zero.
        of_planes[plane][-1][1].append(place % size if exists else size)
        taken += 1
    moves = [move for of_plane in of_planes for move in of_plane]
    begins = np.cumsum([0, *map(len, of_planes)]).tolist()
    orders = np.zeros((len(moves), lanes), np.dtype(f"i{problem.element.size}"))
    for order, (_, elements) in zip(orders, moves, strict=True):
        order[: len(elements)] = elements
    targets, counts = [at for at, _ in moves], [len(elements) for _, elements in moves]
    return Moves(begins, targets, counts, orders.view(np.int64).reshape(-1))


def pack_block(problem: Convolution, source: Source, tables: list[Any], width: int = 0) -> int:
    """Address of the block that says how channels are packed; where nothing is packed it is not read.

    Joined images are packed in panels, of so many pixels.
    """

    def kept(values: Any) -> int:
        tables.append(table(values))
        return address(tables[-1])

    fields = dict(zip(("x_depth", "x_row", "x_column"), problem.x_strides[2:], strict=True))
    fields["x_ahead"] = ROWS_AHEAD * problem.x_strides[1]
    d, h, w = problem.axes
    packed = source.packed or (pack_axis(d, d.out), pack_axis(h, h.out), pack_axis(w, w.out))
    pads_with_data = problem.padding_mode != "zeros" and (w.pad_begin > 0 or w.pad_end > 0)
    for name, axis, layout in zip(("depth", "row", "column"), problem.axes, packed, strict=True):
        sources, begins = np.zeros(0, np.int64), [0] * len(layout.phases)
        if source.packed and (name != "column" or pads_with_data):
            sources, begins = _sources(axis, layout, problem.padding_mode)
        if name == "column":
            sources = np.maximum(sources, 0)  # columns that no result needs are read as well
        fields |= {
            f"{name}_begins": kept(begins),
            f"{name}_phase_count": len(layout.phases),
            f"{name}_map": kept(sources),
            f"packed_{name}s": layout.length,
        }
    phases = packed[2].phases
    fields |= {
        "stride_column": w.stride,
        "column_phases": kept(phases),
        "column_places": kept(
            [phases.index(k) if k in phases else -1 for k in range(min(w.stride, max(PACKED_STRIDES)))]
        ),
        "column_lows": kept([ceil_div(w.pad_begin - phase, w.stride) for phase in phases]),
        "column_highs": kept([ceil_div(w.pad_begin + w.size - phase, w.stride) for phase in phases]),
    }
    is_by_table = source.packing == SHARED and source.packed is not None and is_packed_by_table(problem, packed)
    in_registers = is_by_table and plane_vectors(problem, packed) > 0
    placed = _behind_each_other(problem) if in_registers else problem
    places = _places(placed, packed) if is_by_table else np.zeros(0, np.int64)
    run = len(places)
    if width:
        places, run = _arranged(places.reshape(problem.taps, -1), width), problem.taps * width
    panel = problem.channels * run
    fields |= {"places": kept(places), "place_count": len(places), "place_run": max(1, run), "panel": panel}
    moves = _moves(problem, places, run, panel) if in_registers else Moves([0], [], [], np.zeros(0, np.int64))
    fields |= {name: kept(values) for name, values in zip(Moves._fields, moves, strict=True)}
    fields |= {"plane_count": problem.axes[0].size, "plane_size": h.size * w.size, "plane_step": problem.x_strides[2]}
    fields |= {"width": w.size, "pad_left": w.pad_begin, "pads_with_data": int(pads_with_data)}
    tables.append(PACKING.block(**fields))
    return address(tables[-1])
