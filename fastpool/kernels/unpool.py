"""Unpooling of maxima: each plane is cleared, then every value is put where its index says.

One thread does a whole plane, in the order of the values, so that of duplicate indices the last one wins. Elements are
only moved: the spec's are integers of their size, whatever they stand for.
"""

from fastpool.kernels.simd import lanes_of, scalar, splat, store


def unpool(call, task, thread):
    """Some planes."""
    spec = call.spec
    lanes, size, width = lanes_of(spec), call.size, call.width
    zeros, zero = splat(spec, 0), scalar(spec, 0)
    whole = size - size % lanes
    x_column, indices_column = call.x_column, call.indices_column
    first = task * call.planes_per_task
    for plane in range(first, min(first + call.planes_per_task, call.planes)):
        image, channel = plane // call.channels, plane % call.channels
        out = call.out + plane * size
        for i in range(0, whole, lanes):
            store(spec, out + i, zeros)
        for i in range(whole, size):
            out[i] = zero
        values = call.x + (image * call.x_batch + channel * call.x_channel)
        places = call.indices + (image * call.indices_batch + channel * call.indices_channel)
        for d in range(call.depths):
            for r in range(call.rows):
                row = values + (d * call.x_depth + r * call.x_row)
                where = places + (d * call.indices_depth + r * call.indices_row)
                for w in range(width):
                    out[where[w * indices_column]] = row[w * x_column]
