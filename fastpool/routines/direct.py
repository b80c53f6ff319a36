"""Direct convolution."""

from __future__ import annotations

from fastpool.machine.processor import TARGET
from fastpool.routines.layout import Layout
from fastpool.routines.pack import PACKING
from fastpool.routines.panels import PANELS
from fastpool.routines.routine import kernel, routine

#: Where pixels are read: in x, or in a packed copy of all threads, of a task, or of a thread for all of its tasks.
IN_PLACE, SHARED, PRIVATE, OWN = range(4)
#: Channels of a 1x1 filter that are one step. With 16 registers a channel's 12 multiply-adds take no longer than the
#: loop around them, and one thread of a Zen 3 runs at 0.67 to 0.78 of its peak instead of 0.45 to 0.73, all in its
#: level-2 cache; beside the 28 of 32 registers the loop goes unnoticed.
CHANNELS_AT_ONCE = 4 if TARGET.registers < 32 else 1
#: Channels to the one whose rows are fetched beside an edged tile. With 16 registers a tile sees a line or two of a
#: row, each channel's in pages of their own, which no hardware foresees: 3x3 at stride 2 over 128 channels of 56x56
#: takes 24 % less time so, 261 of 28x28 25 %, 256 of 28x28 20 %; 2, 4 and 8 channels ahead make no difference.
CHANNELS_AHEAD = 4 if TARGET.registers < 32 else 0
#: Taps of a row of the filter, and stride, of which there are edged tiles.
EDGED_ROWS = ((2, 2), (3, 1), (3, 2), (4, 4), (5, 1), (5, 2), (7, 1))


def has_edged(taps: int, stride: int, size: int) -> bool:
    """Whether there are edged tiles for such a row, of elements of that many bytes.

    Not of 7 taps of float64: of so much straight code LLVM does not keep all in registers (59 of 196 steps spill).
    """
    return (taps, stride) in EDGED_ROWS and (taps <= 5 or size <= 4)


def has_far(taps: int) -> bool:
    """Whether there are edged tiles that fetch rows of x which lie in memory; where registers are few all of them do.

    Beside 5 taps, a row of which takes long anyhow, not all of a tile of float64 would stay in registers.
    """
    return CHANNELS_AHEAD == 0 and taps <= 4


def left_out(taps: int, stride: int) -> list[tuple[int, int, int]]:
    """First and last pixels that each tap of an edged tile may leave out, and how far out an edge has to be for it.

    As many as half a filter of padding asks for. Where that is one pixel at most, fewer taps may leave it out: at
    stride 2 the last pixels find all taps but one where the width is even, of 5. Else an edge is 0 or 1.
    Filters that do not overlap cut images into patches, which have no padding.
    """
    half = taps // 2 if stride < taps else 0
    firsts = [max(0, -((tap - half) // stride)) for tap in range(taps)]
    one_by_one = max(firsts) <= 1
    return [
        (first, last, min(tap, taps - 1 - tap) + 1 if one_by_one else 1)
        for tap, (first, last) in enumerate(zip(firsts, reversed(firsts), strict=True))
    ]


def left_out_at(taps: int, stride: int, edge: tuple[int, int]) -> list[tuple[int, int]]:
    """First and last pixels that each tap leaves out where the row begins and ends so far out."""
    return [
        (first if edge[0] >= level else 0, last if edge[1] >= level else 0)
        for first, last, level in left_out(taps, stride)
    ]


def edged(taps: int, stride: int, far: bool = False) -> str:
    """Variant of edged tiles for a row of taps: of floats, as a product of integers takes a register more.

    If x is `far`, they fetch rows ahead.
    """
    return f"edged {taps} {stride}{' far' if far else ''}"


def is_edged(variant: str) -> bool:
    """Whether a variant is one of those."""
    return variant.startswith("edged")


#: Taps of a row of the filter, and stride, of which there are masked tiles; and their shapes, vectors of pixels times
#: channels. A broadcast weight serves each vector, and a vector of pixels each channel. Without AVX-512, masks and
#: columns would not leave enough registers.
MASKED_ROWS = ((3, 1), (3, 2))
MASKED_SHAPES = ((2, 8), (1, 8), (2, 4)) if TARGET.name == "avx512" else ()


def masked(taps: int, stride: int, far: bool = False) -> str:
    """Variant of masked tiles for a row of taps; if x is `far`, they fetch rows ahead."""
    return f"masked {taps} {stride}{' far' if far else ''}"


def is_masked(variant: str) -> bool:
    """Whether a variant is one of those."""
    return variant.startswith("masked")


#: Tiles whose pixels may be of several images: vectors of channels, and pixels; few widths that waste little. With 16
#: registers all that there are.
JOINED_SHAPES = (
    tuple((vectors, width) for vectors in (2, 1) for width in (14, 12, 10, 8, 6, 4))
    if TARGET.registers == 32
    else ((2, 6), (2, 5), (2, 4))
)


DIRECT = Layout(
    "direct",
    {
        "row_of_tiles": "routine",
        "row_of_last": "routine",  # the same for the last block of channels: if it fills one vector at most, by one
        "row_of_rest": "routine",  # the same for the last tile of a row, which may be narrower
        "whole_tiles": "integer",  # tiles of a row before that one, or all of them; and of the last block of channels
        "whole_of_last": "integer",
        "pack_channel": "routine",
        "packing": PACKING,
        "pack_panels": "routine",
        "panels": PANELS,
        "panel": "integer",  # elements of the source from one tile to the next where it is packed in panels, else 0
        "panel_channels": "integer",  # of x in one group, that are packed in panels
        "lines": "integer",  # elements of a thread's scratch before the lines in which pixels are gathered for panels
        "source": "integer",  # IN_PLACE, SHARED, PRIVATE or OWN
        "images": "integer",
        "groups": "integer",
        "channels": "integer",  # of x in one group, that are summed
        "group_inputs": "integer",  # of x in one group, in all
        "first_channel": "integer",  # of x in one group, that is summed
        "weights_block": "integer",  # elements of a block's weights
        "first_weight": "integer",  # of a block, that is summed
        "adds": "integer",  # whether sums are added to what `out` holds, without bias and residual
        "no_bias": "elements",  # zeros
        "group_channels": "integer",  # of out, in one group
        "block": "integer",  # output channels of a tile
        "blocks": "integer",
        "taps": "integer",
        "offsets": "integers",
        "steps": "integers",  # elements from the weights of a tap to those of the next
        "x_batch": "integer",
        "x_channel": "integer",
        "apart": "integer",  # elements of the source from pixel to pixel; 1 unless strided or edged; masked: 0
        "run": "integer",  # taps of a row of the filter
        "run_used": "integer",  # those of them that are summed
        "row_taps": "integers",  # first and end tap of each output row: the others meet nothing but padding
        "edges": "integers",  # of a tile: how far out its first pixels are, and its last: see `left_out`
        "edges_begin": "integer",  # tiles from and up to which all pixels find all taps
        "edges_end": "integer",
        "dilation": "integer",  # of such a row
        "width": "integer",  # elements of a row of x, where tiles are masked
        "pad_left": "integer",
        "source_batch": "integer",
        "source_channel": "integer",
        "source_depth": "integer",
        "source_row": "integer",
        "out_batch": "integer",
        "out_channel": "integer",
        "image_pixels": "integer",  # pixels of an image in a joined row of all images; and what lies in out between
        "image_gap": "integer",  # the last of an image and the first of the next, in a channel
        "residual_gap": "integer",
        "residual_batch": "integer",
        "has_residual": "integer",
        "has_bounds": "integer",
        "out_depths": "integer",
        "out_rows": "integer",
        "out_columns": "integer",  # that are written
        "first_column": "integer",
        "out_row": "integer",  # elements of out from one row to the next
        "row_tasks": "integer",  # within one depth
        "tiles": "integer",  # in a row
        "pixels": "integer",  # of a tile
        "tile_tasks": "integer",
        "blocks_per_task": "integer",
        "block_tasks": "integer",
        "blocks_outermost": "integer",
        "last_start": "integer",
        "fetches_output": "integer",  # whether cells of `out` are fetched while a tile is summed
        "out_ahead": "integer",  # elements from its own cells to those
        "x_ahead": "integer",  # elements from pixels to those that are fetched meanwhile; 0: none are
        "lines_ahead": "integer",  # cache lines of the next block's weights that are fetched beside a step of a tile
        "tile_ahead": "integer",  # elements of them beside a tile
        "tiles_fetching": "integer",  # tiles beside which they are fetched
        "scratch_thread": "integer",
        "low": "bound",
        "high": "bound",
    },
)

row_of_tiles = routine("direct.row_of_tiles", DIRECT, *("elements",) * 6, *("integer",) * 6)
direct = kernel("direct.direct", DIRECT)
