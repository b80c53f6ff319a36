"""Packing of weights and of input rows."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel, routine

#: How a channel is packed. Strides are in elements of x; `*_map` give the source indices of the elements of a phase, or
#: -1 for a zero; `*_begins` say where in the map each phase that is packed begins. Columns from `column_lows` to
#: `column_highs` of a phase come from the input; `column_places` say which one is phase 0, 1, ..., or -1 for none.
PACKING = Layout(
    "packing",
    {
        "x_ahead": "integer",  # to the same pixels of a later channel, which are fetched
        "x_depth": "integer",
        "x_row": "integer",
        "x_column": "integer",
        "width": "integer",
        "stride_column": "integer",
        "column_phases": "integers",
        "column_places": "integers",
        "depth_begins": "integers",
        "row_begins": "integers",
        "column_begins": "integers",
        "depth_phase_count": "integer",
        "row_phase_count": "integer",
        "column_phase_count": "integer",
        "depth_map": "integers",
        "row_map": "integers",
        "column_map": "integers",
        "column_lows": "integers",
        "column_highs": "integers",
        "pad_left": "integer",
        "pads_with_data": "integer",
        "packed_depths": "integer",
        "packed_rows": "integer",
        "packed_columns": "integer",
        "places": "integers",  # element of x of each of a packed channel, or NOWHERE for a zero
        "place_count": "integer",
        "place_run": "integer",  # those that follow one another in the packed channel
        "panel": "integer",  # elements to the next such run
        "plane_count": "integer",  # planes that are kept in registers, one after the other
        "plane_size": "integer",
        "plane_step": "integer",
        "move_begins": "integers",  # vectors that are written of each plane
        "move_targets": "integers",  # element of the packed channel at which each begins
        "move_lanes": "integers",  # how many of its lanes are written
        "orders": "integers",  # and their elements of the plane: eight integers hold as many as a vector has lanes
    },
    has_head=False,
)

#: In place of an element's place: there is none. Those of arrays that run backwards are negative, too.
NOWHERE = -(2**62)
#: Channels to the one whose rows are fetched beside those that are packed. Of 16 images, 3x3 from 64 to 3 channels of
#: 112x112 takes 0.63 of the time so, from 128 to 128 of 56x56 in 32 groups 0.71; 9x9 from 64 to 3 of one image of
#: 224x224 0.88. Where x is in a cache, 69 layers take as long.
ROWS_AHEAD = 1
#: Strides of columns at which whole vectors are packed, each by a spec of its own ("stride 2"); "" serves any other.
#: Beside elements one by one, 3x3 at stride 3 over 64 channels of 57x57, padded, takes 0.64 of the time so, 7x7 at
#: stride 5 from 3 to 64 channels of 224x224 0.77, 16x16 at stride 16 from 4 to 9 0.47.
PACKED_STRIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 16)
_ARGUMENTS = ("source", "integer", "elements", "integer", "integer", "integer")
pack_channel = routine("pack.pack_channel", PACKING, *_ARGUMENTS)
pack_by_table = routine("pack.pack_by_table", PACKING, *_ARGUMENTS)
#: Vectors that hold a plane, for which there are instructions.
PLANE_VECTORS = (1, 2, 4, 8) if TARGET.name == "avx512" else ()
pack_planes = routine("planes.pack_planes", PACKING, *_ARGUMENTS)

PACK_INPUT = Layout(
    "pack_input",
    {
        "images": "integer",
        "channels": "integer",
        "together": "integer",  # channels of a task, the last one's may be fewer
        "x_batch": "integer",
        "x_channel": "integer",
        "packed_channel": "integer",
        "own": "integer",  # elements from one thread's copy to the next's, 0 if all threads share one
        "pack_channel": "routine",
        "packing": PACKING,
    },
)
pack_input = kernel("pack.pack_input", PACK_INPUT)

PACK_IMAGES = Layout(
    "pack_images",
    {
        "images": "integer",
        "width": "integer",  # images of a panel
        "panel": "integer",  # elements from one panel to the next
        "elements": "integer",  # of an image
        "together": "integer",  # of a task, the last one's may be fewer
        "x_batch": "integer",
        "own": "integer",  # elements from one thread's copy to the next's, 0 if all threads share one
    },
)
pack_images = kernel("pack.pack_images", PACK_IMAGES)

PACK_WEIGHTS = Layout(
    "pack_weights", {"block": "integer", "blocks": "integer", "reduction": "integer", "group_channels": "integer"}
)
pack_weights = kernel("pack.pack_weights", PACK_WEIGHTS)
