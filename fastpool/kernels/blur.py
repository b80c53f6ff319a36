"""Blurring and subsampling by one filter along both axes: down the rows into a buffered row, then along its columns.

Rows arrive as a table of sources, one for each tap of each output row, which knows the padding. The padding of the
columns is filled in from the buffered row itself.
"""

from fastpool.kernels._jit import device
from fastpool.kernels.simd import (
    even_lanes,
    fma,
    lanes_of,
    load,
    masked_load,
    range_mask,
    scalar,
    splat,
    store,
)
from fastpool.kernels.stores import masked_store


@device
def _blur_rows(spec, call, plane, sources, line):
    """Combine the rows that an output row sees."""
    width, lanes, taps, weights, x_row = call.width, lanes_of(spec), call.taps, call.filter, call.x_row
    if call.x_column != 1:
        for w in range(width):
            total = scalar(spec, 0)
            for k in range(taps):
                if sources[k] >= 0:
                    total += weights[k] * plane[sources[k] * x_row + w * call.x_column]
            line[w] = total
        return
    zeros = splat(spec, 0)
    whole = width - width % lanes
    for w in range(0, whole, lanes):
        total = zeros
        for k in range(taps):
            if sources[k] >= 0:
                total = fma(load(spec, plane + (sources[k] * x_row + w)), splat(spec, weights[k]), total)
        store(spec, line + w, total)
    if whole < width:
        total, mask = zeros, range_mask(spec, 0, width - whole)
        for k in range(taps):
            if sources[k] >= 0:
                value = masked_load(spec, plane + (sources[k] * x_row + whole), mask, zeros)
                total = fma(value, splat(spec, weights[k]), total)
        masked_store(spec, line + whole, total, mask)


@device
def _pad_columns(spec, call, line):
    """Fill the padding at both ends of a buffered row."""
    sources, left = call.column_sources, call.pad_left
    for i in range(left + call.pad_right):
        place = i - left if i < left else call.width + (i - left)
        line[place] = line[sources[i]] if sources[i] >= 0 else scalar(spec, 0)


@device
def _blur_columns(spec, call, buffer, out):
    """Outputs of a row from the buffered row, whose first element is the leftmost padding."""
    columns, lanes, stride, taps, weights = call.out_columns, lanes_of(spec), call.stride, call.taps, call.filter
    if stride > 2:
        for q in range(columns):
            total = scalar(spec, 0)
            for k in range(taps):
                total += weights[k] * buffer[q * stride + k]
            out[q] = total
        return
    for q in range(0, columns, lanes):
        total = splat(spec, 0)
        for k in range(taps):
            at = buffer + (q * stride + k)
            value = load(spec, at)
            if stride == 2:
                value = even_lanes(value, load(spec, at + lanes))
            total = fma(value, splat(spec, weights[k]), total)
        masked_store(spec, out + q, total, range_mask(spec, 0, columns - q))


def blur(call, task, thread):
    """Some output rows of one plane, or all of some planes."""
    spec = call.spec
    first_plane = task // call.row_tasks * call.planes_per_task
    first_row = task % call.row_tasks * call.rows_per_task
    end_row = min(first_row + call.rows_per_task, call.out_rows)
    buffer = call.scratch + thread * call.buffer
    for i in range(0, call.buffer, lanes_of(spec)):
        store(spec, buffer + i, splat(spec, 0))
    line = buffer + call.pad_left
    for index in range(first_plane, min(first_plane + call.planes_per_task, call.planes)):
        plane = call.x + (index // call.channels * call.x_batch + index % call.channels * call.x_channel)
        for row in range(first_row, end_row):
            _blur_rows(spec, call, plane, call.row_sources + row * call.taps, line)
            _pad_columns(spec, call, line)
            _blur_columns(spec, call, buffer, call.out + (index * call.out_rows + row) * call.out_columns)
