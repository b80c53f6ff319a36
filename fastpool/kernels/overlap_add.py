"""Sums of overlapping results: a row of outputs from all rows of the product whose taps meet in it.

Each phase of the columns is summed vector by vector, every tap under a mask of the inputs that are there, into a row of
this thread's own; the phases are then put together.
"""

from fastpool.kernels.interleave import put_rows_together
from fastpool.kernels.simd import clamp, lanes_of, masked_load, range_mask, splat, store


def overlap_add(call, task, thread):
    """Some rows of one channel of an image, counted over its depths."""
    spec, lanes, columns = call.spec, lanes_of(call.spec), call.columns
    plane, share = task // call.row_tasks, task % call.row_tasks
    channels = call.groups * call.group_channels
    image, channel = plane // channels, plane % channels
    rows, lines = call.rows, call.depths * call.rows
    product = call.scratch + plane * call.channel
    target = call.out + (image * call.out_batch + channel * call.out_channel)
    own = call.scratch + (call.own + thread * call.own_thread)
    bias, nothing = splat(spec, call.bias[channel]), splat(spec, 0)
    low, high = splat(spec, call.low), splat(spec, call.high)
    for line in range(share * lines // call.row_tasks, (share + 1) * lines // call.row_tasks):
        depth, row = line // rows, line % rows
        for phase in range(call.stride_column):
            place, first, end = own + phase * call.own_pitch, call.column_begins[phase], call.column_begins[phase + 1]
            for q in range(0, call.count, lanes):
                total = bias
                for i in range(call.depth_begins[depth], call.depth_begins[depth + 1]):
                    for j in range(call.row_begins[row], call.row_begins[row + 1]):
                        source = product + (call.depth_offsets[i] + call.row_offsets[j] + q)
                        for k in range(first, end):
                            at = call.column_shifts[k] + q
                            mask = range_mask(spec, -at, columns - at)
                            total = total + masked_load(spec, source + call.column_offsets[k], mask, nothing)
                store(spec, place + q, clamp(total, low, high))
        begin = depth * call.out_depth + row * call.out_row
        put_rows_together(call, own, call.own_pitch, target + begin)
