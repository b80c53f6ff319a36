"""Filters of a transposed convolution (channel, out channel, tap), turned into those of ordinary ones.

These are (out channel, channel, tap), with the taps of each phase beside each other.
"""


def turn(call, task, thread):
    """Filters of one output channel."""
    group, channel = task // call.group_channels, task % call.group_channels
    inputs, kernel, taps, offsets = call.group_inputs, call.kernel, call.taps, call.offsets
    source = call.weights + ((group * inputs * call.group_channels + channel) * kernel)
    target = call.out + (group * call.out_group + channel * call.out_channel)
    for i in range(inputs):
        filter_, place = source + i * call.group_channels * kernel, target + i * taps
        for phase in range(call.phases):
            for tap in range(taps):
                place[phase * call.out_phase + tap] = filter_[offsets[phase * taps + tap]]
