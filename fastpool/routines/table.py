"""THE table of kernels: every routine, with the shapes (variant, vectors, width) that plans ask for on this processor.

Tests and benchmarks iterate it: a kernel that is not here is not tested, and a plan that asks for a shape that is not
here fails a test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastpool.dtypes import FLOATS, INTEGERS, POOLED, ElementType, pooled_types, sum_type
from fastpool.machine.processor import TARGET
from fastpool.routines.argpool import argpool
from fastpool.routines.blur import blur
from fastpool.routines.ceilings import ACCUMULATORS, peak, stream_copy, stream_read
from fastpool.routines.channelwise import VARIANTS as CHANNELWISE_VARIANTS
from fastpool.routines.channelwise import channelwise
from fastpool.routines.depthwise import (
    DILATED_FILTERS,
    HALVES_PAY,
    LARGEST_AT_STRIDE_1,
    LARGEST_FILTER,
    depthwise,
    has_filter,
)
from fastpool.routines.direct import (
    EDGED_ROWS,
    JOINED_SHAPES,
    MASKED_ROWS,
    MASKED_SHAPES,
    direct,
    edged,
    has_far,
    masked,
    row_of_tiles,
)
from fastpool.routines.elementwise import BINARY, SMOOTH, UNARY, elementwise
from fastpool.routines.flatpool import flat_pool, groups_of_vectors, variant_of_flat
from fastpool.routines.fractional import fractional, fractional_indices
from fastpool.routines.gemv import COLUMNS, gemv, row_shape
from fastpool.routines.interleave import INTERLEAVED_STRIDES, interleave
from fastpool.routines.largepool import BESIDE, large_pool
from fastpool.routines.largepool import variant_of as variant_of_large
from fastpool.routines.median import LARGEST_SORTED, counted_median, median_in_place, sorted_median
from fastpool.routines.overlap_add import overlap_add
from fastpool.routines.pack import (
    PACKED_STRIDES,
    PLANE_VECTORS,
    pack_by_table,
    pack_channel,
    pack_images,
    pack_input,
    pack_planes,
    pack_weights,
)
from fastpool.routines.panels import pack_panels, panel_input
from fastpool.routines.pool import VARIANTS, pool
from fastpool.routines.reduce import planes_together, reduce_planes
from fastpool.routines.routine import Routine, lanes
from fastpool.routines.shortpool import groups_of_short_rows, short_pool, variant_of_short
from fastpool.routines.smallpool import SMALL_WINDOWS, groups_in_registers, small_pool, variant_of
from fastpool.routines.stochastic import weighted_draw, weighted_mean
from fastpool.routines.tiles import RUNS, TILE_SHAPES
from fastpool.routines.turn import turn
from fastpool.routines.unpool import unpool
from fastpool.routines.winograd import (
    finish_rows,
    multiply,
    repair_rows,
    transform_filters,
    transform_rows,
    winograd_fused,
    winograd_input,
    winograd_output,
    winograd_weights,
)

#: Variant, vectors and width of a spec.
Shape = tuple[str, int, int]

_ANY: tuple[Shape, ...] = (("", 1, 1),)
_TILES = TILE_SHAPES[TARGET.registers]
_EDGED = tuple(edged(*row, far) for row in EDGED_ROWS for far in (False, True) if not far or has_far(row[0]))
#: F(m, r) of filters of k taps at stride s: "winograd k s", m, r; where phases are channels, "winograd k s folded";
#: where one axis alone is filtered, "winograd k s across" or "winograd k s down".
WINOGRAD_SHAPES: tuple[Shape, ...] = (
    ("winograd 3 1", 4, 3),
    ("winograd 3 1", 2, 3),
    ("winograd 3 1", 5, 3),
    ("winograd 3 1", 7, 3),
    ("winograd 4 1", 4, 4),
    ("winograd 5 1", 2, 5),
    ("winograd 5 1", 3, 5),
    ("winograd 5 1", 5, 5),
    ("winograd 3 2", 4, 2),
    ("winograd 3 2", 2, 2),
    ("winograd 5 2", 4, 3),
    ("winograd 5 2", 2, 3),
    ("winograd 4 2", 4, 2),
    ("winograd 5 2 folded", 4, 3),
    ("winograd 4 2 folded", 4, 2),
    ("winograd 6 2 folded", 4, 3),
    ("winograd 7 2 folded", 4, 4),
    ("winograd 7 4 folded", 4, 2),
    ("winograd 8 4 folded", 4, 2),
    ("winograd 11 4 folded", 4, 3),
    ("winograd 2 1", 4, 2),
    *(
        (f"winograd {kernel} {stride} {axis}", outputs, taps)
        for axis in ("across", "down")
        for kernel, stride, outputs, taps in (
            *((2, 1, 4, 2), (2, 1, 6, 2), (3, 1, 4, 3), (3, 1, 7, 3), (4, 1, 6, 4), (5, 1, 5, 5), (5, 1, 6, 5)),
            *((6, 1, 5, 6), (7, 1, 4, 7), (8, 1, 3, 8), (9, 1, 2, 9), (3, 2, 4, 2), (3, 2, 6, 2), (4, 2, 6, 2)),
            *((5, 2, 4, 3), (5, 2, 7, 3), (6, 2, 7, 3), (7, 2, 6, 4), (8, 2, 6, 4), (9, 2, 5, 5)),
        )
    ),
)
#: The same with dilated columns, for what meets columns.
_DILATED: tuple[Shape, ...] = tuple(
    (f"{variant} dilated", outputs, taps)
    for variant, outputs, taps in WINOGRAD_SHAPES
    if variant.endswith((" 1", " 1 across"))
)
#: Vectors of columns, at the strides that have them, or element by element.
_PACKINGS = (*(f"stride {stride}" for stride in PACKED_STRIDES), "")
#: Rows of whole vectors, rows within half of one, or within one, and those that end in half of one.
_WITHIN = ("", "narrow ", "single ")
_PARTS = (*_WITHIN, "halved ") if HALVES_PAY else _WITHIN
#: Filters of depthwise convolutions with lanes on columns, at each of the strides.
_SIZES = range(1, max(LARGEST_FILTER, LARGEST_AT_STRIDE_1) + 1)
_FILTERS = {
    stride: [(rows, columns) for rows in _SIZES for columns in _SIZES if has_filter(rows, columns, stride)]
    for stride in (1, 2)
}
#: What medians are taken of: the spec's elements, or integers that it widens (to float64).
_SOURCES = ("", *(f"from {name}" for name in (*(x.numba_name for x in INTEGERS.values()), "uint64")))


_TWO_OPERANDS = tuple(f"{name} {second}" for name in BINARY for second in ("plane", "array"))


def _small_windows(operations: Sequence[str]) -> list[Shape]:
    """Shapes of `small_pool` for these operations (and what they read)."""
    return [
        (variant_of(operation, group, step, stride, narrow), *window)
        for operation in operations
        if not operation.startswith("powersum")
        for window in sorted(SMALL_WINDOWS)
        for step in sorted({1, min(2, window[0]), window[0]})
        for stride in (1, 2)
        for group in groups_in_registers(window[1], stride)
        if group > 1 or step == 1  # a row alone has no next
        for narrow in (False, True)
    ]


def _short_rows(operations: Sequence[str]) -> list[Shape]:
    """Shapes of `short_pool` for these operations."""
    return [
        (variant_of_short(operation, group, step, parts, stride, narrow), *window)
        for operation in operations
        if operation in ("max", "min", "all")
        for window in sorted(SMALL_WINDOWS)
        for stride in (1, 2)
        for parts in range(1, stride + 1)
        for group in groups_of_short_rows(window[0], parts)
        for step in sorted({1, min(2, window[0]) if group > 1 else 1})  # a row alone has no next
        for narrow in (False, True)
    ]


def _flat_rows(operations: Sequence[str]) -> list[Shape]:
    """Shapes of `flat_pool` for these operations."""
    return [
        (variant_of_flat(operation, group, step, in_place), *window)
        for operation in operations
        if operation in ("max", "min", "all")
        for window in sorted(SMALL_WINDOWS)
        for step in range(1, window[0] + 1)
        for group in groups_of_vectors(window[0], step)
        if group > 1 or step == 1  # a vector alone has no next
        for in_place in (False, True)
    ]


def _large_windows(operations: Sequence[str], lanes: int) -> list[Shape]:
    """Shapes of `large_pool` for these operations (and what they read)."""
    return [
        (variant_of_large(operation, fused, stride), beside, 1 << level)
        for operation in operations
        if not operation.startswith("powersum")
        for fused in (False, True)
        for stride in (1, 2)
        for beside in BESIDE
        for level in range((2 * lanes).bit_length())
    ]


_TURNS = (*((f"stride {stride}", 1, 1) for stride in INTERLEAVED_STRIDES), *_ANY)

KERNELS: dict[str, tuple[Routine, tuple[Shape, ...]]] = {
    "pack_channel": (pack_channel, tuple((way, 1, 1) for way in _PACKINGS)),
    "pack_by_table": (pack_by_table, _ANY),
    "pack_planes": (pack_planes, tuple(("", vectors, 1) for vectors in PLANE_VECTORS)),
    "pack_input": (pack_input, _ANY),
    "pack_images": (pack_images, _ANY),
    "pack_weights": (pack_weights, _ANY),
    "pack_panels": (
        pack_panels,
        tuple((tile.role, tile.vectors, tile.width) for tile in _TILES if TARGET.registers == 16),
    ),
    "panel_input": (panel_input, _ANY if TARGET.registers == 16 else ()),
    "direct": (direct, _ANY),
    "interleave": (interleave, _TURNS),
    "overlap_add": (overlap_add, _TURNS),
    "turn": (turn, _ANY),
    "row_of_tiles": (
        row_of_tiles,
        tuple((tile.role, tile.vectors, tile.width) for tile in _TILES)
        + tuple(
            (variant, tile.vectors, tile.width)
            for variant in ("strided", *_EDGED)
            for tile in _TILES
            if tile.role == "channels"
        )
        + tuple(("joined", *shape) for shape in JOINED_SHAPES)
        + tuple((masked(*row, far), *shape) for row in MASKED_ROWS for far in (False, True) for shape in MASKED_SHAPES),
    ),
    "transform_rows": (transform_rows, WINOGRAD_SHAPES + _DILATED),
    "multiply": (
        multiply,
        tuple(
            ("product", vectors, tile.width)
            for vectors in (2, 1)
            for tile in _TILES
            if tile.role == "channels" and tile.vectors == 2
        ),
    ),
    "finish_rows": (finish_rows, WINOGRAD_SHAPES + _DILATED),
    "repair_rows": (repair_rows, _ANY),
    "winograd_input": (winograd_input, _ANY),
    "winograd_output": (winograd_output, _ANY),
    "winograd_fused": (winograd_fused, _ANY),
    "winograd_weights": (winograd_weights, WINOGRAD_SHAPES),
    "transform_filters": (
        transform_filters,
        tuple(shape for shape in WINOGRAD_SHAPES if not shape[0].endswith(("folded", "across", "down"))),
    ),
    "depthwise": (
        depthwise,
        tuple(
            (f"{part}{far}stride {stride}", *size)
            for part in _PARTS
            for far in ("", "far ")
            for stride in _FILTERS
            for size in _FILTERS[stride]
        )
        + tuple(
            (f"{part}dilated {far}stride 1", *size)
            for part in _WITHIN
            for far in ("", "far ")
            for size in DILATED_FILTERS
        ),
    ),
    "channelwise": (channelwise, tuple((variant, 1, run) for variant in CHANNELWISE_VARIANTS.values() for run in RUNS)),
    "pool": (pool, tuple((operation, 1, 1) for operation in VARIANTS)),
    "small_pool": (small_pool, tuple(_small_windows(VARIANTS))),
    "short_pool": (short_pool, tuple(_short_rows(VARIANTS))),
    "flat_pool": (flat_pool, ()),  # of integers only
    "large_pool": (large_pool, tuple(_large_windows(VARIANTS, TARGET.vector_bytes // 4))),
    "reduce_planes": (
        reduce_planes,
        tuple((operation, 1, TARGET.vector_bytes // size) for operation in ("max", "min", "sum") for size in (4, 8)),
    ),
    "argpool": (argpool, tuple((operation, 1, 1) for operation in ("max", "min"))),
    "blur": (blur, _ANY),
    "fractional": (fractional, (("max", 1, 1),)),
    "fractional_indices": (fractional_indices, (("max", 1, 1),)),
    "unpool": (unpool, _ANY),
    "elementwise": (elementwise, tuple((name, 1, 1) for name in (*UNARY, *SMOOTH, *_TWO_OPERANDS))),
    "gemv": (
        gemv,
        (
            *sorted({row_shape(TARGET.vector_bytes // size, way) for size in (4, 8) for way in ("rows", "dots")}),
            COLUMNS,
        ),
    ),
    "sorted_median": (
        sorted_median,
        tuple((source, 1, taps) for source in _SOURCES for taps in range(1, LARGEST_SORTED + 1)),
    ),
    "counted_median": (counted_median, tuple((source, 1, 1) for source in _SOURCES)),
    "weighted_draw": (weighted_draw, _ANY),
    "weighted_mean": (weighted_mean, _ANY),
    "peak": (peak, (("", 1, ACCUMULATORS),)),
    "stream_read": (stream_read, (("", 1, ACCUMULATORS),)),
    "stream_copy": (stream_copy, _ANY),
    "median_in_place": (median_in_place, tuple((source, 1, 1) for source in _SOURCES)),
}

_SUMS = {sum_type(x, weight) for x in INTEGERS.values() for weight in INTEGERS.values()}
#: The same for integers: routine -> dtype of the sums -> shapes. All but `pack_channel` see elements of that dtype
#: only; it widens whatever is summed in them.
INTEGER_KERNELS: dict[str, dict[str, tuple[Shape, ...]]] = {
    name: {
        sums.numba_name: tuple(
            shape for shape in KERNELS[name][1] if shape[0].split()[0:1] not in (["edged"], ["masked"], ["joined"])
        )
        for sums in _SUMS
    }
    for name in ("pack_input", "pack_weights", "direct", "row_of_tiles", "interleave", "turn")
} | {
    "pack_channel": {
        sums.numba_name: tuple(
            (f"{way} from {x.numba_name}".strip() if x != sums else way, 1, 1)
            for way in _PACKINGS
            for x in INTEGERS.values()
            if any(sum_type(x, weight) == sums for weight in INTEGERS.values())
        )
        for sums in _SUMS
    },
    "unpool": dict.fromkeys(("int8", "int16", "int32", "int64"), _ANY),
}


def _pooled() -> set[tuple[str, str, str]]:
    """Operation, type that is read, and type that is computed in, of all poolings of other than float32 and float64."""
    found = set()
    for x in (*POOLED.values(), ElementType(np.dtype(np.float16), "bfloat16")):
        names = ("max", "all" if x.dtype.kind == "b" else "min", *VARIANTS[2:])
        for operation, is_sum in [*((name, False) for name in names), ("sum", True)]:
            computed, _ = pooled_types(x, operation, is_sum)
            if x.dtype not in FLOATS:
                found.add((operation, x.numba_name, computed.numba_name))
    return found


def _widening(routine: str) -> dict[str, tuple[Shape, ...]]:
    """Shapes of a routine of poolings of integers and 16-bit floats, by the type that they compute in."""
    extrema, reduced = ("max", "min", "all"), ("max", "min", "all", "sum")
    shapes: dict[str, list[Shape]] = {}
    for operation, source, computed in sorted(_pooled()):
        variant = operation if source == computed else f"{operation} from {source}"
        count = lanes(POOLED[np.dtype(computed)])
        shapes.setdefault(computed, []).extend(
            {
                "pool": [(variant, 1, 1)],
                "argpool": [(variant, 1, 1)] if operation in extrema else [],
                "reduce_planes": [(variant, 1, planes_together(count))] if operation in reduced else [],
                "small_pool": _small_windows([variant]),
                "short_pool": _short_rows([variant]),
                "flat_pool": _flat_rows([variant]) if POOLED[np.dtype(computed)].size in TARGET.reordered else [],
                "large_pool": _large_windows([variant], count),
            }[routine]
        )
    return {computed: tuple(of_type) for computed, of_type in shapes.items() if of_type}


#: The same for poolings of integers and of 16-bit floats: routine -> type that is computed in -> shapes.
POOLING_KERNELS: dict[str, dict[str, tuple[Shape, ...]]] = {
    name: _widening(name)
    for name in ("pool", "small_pool", "short_pool", "flat_pool", "large_pool", "reduce_planes", "argpool")
}
