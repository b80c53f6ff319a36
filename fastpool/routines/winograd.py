"""Winograd convolution."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel, routine

WINOGRAD = Layout(
    "winograd",
    {
        "transform_rows": "routine",
        "multiply": "routine",
        "multiply_last": "routine",  # the same for the last out block: if it fills one vector at most, by one
        "transform_filters": "routine",
        "finish_rows": "routine",
        "repair_rows": "routine",  # or none, where `missed` is set if it is needed
        "missed": "integers",
        "kernel_rows": "integer",
        "kernel_columns": "integer",
        "row_stride": "integer",
        "column_stride": "integer",
        "products": "integer",  # of a tile
        "phases": "integer",  # of the input that are not channels
        "fold": "integer",  # lanes of a channel
        "images": "integer",  # of a pass
        "first_image": "integer",
        "groups": "integer",
        "channels": "integer",  # of a group
        "channel_blocks": "integer",  # of one phase of a group: those of each tap of depth, one after the other
        "slice_blocks": "integer",  # of one tap of depth
        "slices": "integer",  # taps of depth
        "depths": "integer",  # of the output, each of which is an image here
        "depth_stride": "integer",
        "depth_dilation": "integer",
        "depth_size": "integer",
        "pad_front": "integer",
        "multiplied": "integer",  # channels of one phase of a group, and phases that are channels
        "out_channels": "integer",  # of a group
        "out_blocks": "integer",
        "x_batch": "integer",
        "x_channel": "integer",
        "x_depth": "integer",
        "x_row": "integer",
        "width": "integer",
        "row_map": "integers",  # of padded rows to those of x, or -1
        "row_starts": "integers",  # first output row of each row of tiles
        "row_dilation": "integer",  # from one output row of a tile to the next
        "column_dilation": "integer",
        "pad_left": "integer",
        "out_rows": "integer",
        "out_columns": "integer",
        "out_batch": "integer",
        "out_channel": "integer",
        "residual_batch": "integer",
        "has_residual": "integer",
        "has_bounds": "integer",
        "tile_rows": "integer",  # of one image
        "tile_columns": "integer",
        "group_rows": "integer",  # of tiles, in one task
        "group_columns": "integer",
        "row_groups": "integer",
        "column_groups": "integer",
        "segments": "integers",  # first phase and number of phases of each product
        "v_tiles": "integer",  # tiles of a panel
        "v_panel": "integer",  # elements from one panel to the next
        "v_task": "integer",  # of all panels of a task
        "v_product": "integer",
        "on_the_fly": "integer",
        "summed_blocks": "integer",  # of channels: their sum is added to that of others
        "part_blocks": "integer",  # blocks of channels that are multiplied at once
        "weights_block": "integer",  # elements of the weights of an out block
        "weights_channels": "integer",  # of a block of its channels, where they are transformed on the fly
        "u_product": "integer",
        "fetched": "integer",  # elements that a channel and product has of the weights that are fetched meanwhile
        "fetched_product": "integer",
        "m_product": "integer",
        "shared": "integer",  # elements of scratch before those of the threads
        "scratch_thread": "integer",
        "v_offset": "integer",  # within a thread's scratch
        "m_offset": "integer",
        "u_offset": "integer",
        "strip_offset": "integer",
        "low": "number",
        "high": "number",
    },
)

#: Vectors of output channels of an out block.
BLOCK_VECTORS = 2

#: By strides of rows and columns: row and column phase, in the order of U and V. Phases of any product are neighbours.
PHASES = {
    (1, 1): ((0, 0),),
    (2, 2): ((1, 0), (0, 0), (0, 1), (1, 1)),
    (1, 2): ((0, 0), (0, 1)),
    (2, 1): ((0, 0), (1, 0)),
}

WEIGHTS = Layout(
    "winograd_weights",
    {
        "channels": "integer",
        "padded_channels": "integer",
        "out_blocks": "integer",
        "u_product": "integer",
    },
)

transform_rows = routine("winograd.transform_rows", WINOGRAD, *("elements",) * 3, *("integer",) * 5)
multiply = routine("winograd.multiply", WINOGRAD, *("elements",) * 3, "integer", "integer", "elements")
transform_filters = routine("filters.transform_filters", WINOGRAD, "elements", "elements", "integer")
_PLACE = ("integer", "integer", "integer", "integer", "integer", "integer")
finish_rows = routine("winograd.finish_rows", WINOGRAD, "elements", "elements", *_PLACE)
repair_rows = routine("winograd.repair_rows", WINOGRAD, "elements", *("integer",) * 9)
winograd_input = kernel("winograd.winograd_input", WINOGRAD)
winograd_output = kernel("winograd.winograd_output", WINOGRAD)
winograd_fused = kernel("winograd.winograd_fused", WINOGRAD)
winograd_weights = kernel("filters.winograd_weights", WEIGHTS)
