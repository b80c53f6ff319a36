"""Filters whose axes change places.

Those of a transposed convolution (channel, out channel, tap) become those of ordinary ones (out channel, channel, tap),
with the taps of each phase beside each other; taps of depth become channels.
"""

from fastpool.kernels.simd import scalar


def turn(call, task, thread):
    """Filters of one output channel."""
    group, channel = task // call.group_channels, task % call.group_channels
    taps, offsets, zero = call.taps, call.offsets, scalar(call.spec, 0)
    source = call.weights + (group * call.in_group + channel * call.in_channel)
    target = call.out + (group * call.out_group + channel * call.out_channel)
    for i in range(call.out_inputs):
        filter_, place, exists = source + i * call.in_input, target + i * taps, i < call.group_inputs
        for phase in range(call.phases):
            for tap in range(taps):
                found = filter_[offsets[phase * taps + tap]] if exists else zero
                place[phase * call.out_phase + tap] = found
