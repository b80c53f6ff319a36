"""What the variants of a direct convolution's register tiles are: see `direct`."""

from fastpool.kernels.simd import known
from fastpool.routines.direct import is_edged, is_masked


def is_by_channels(spec):
    """Whether lanes are output channels."""
    return spec.variant != "pixels" and not is_masked(spec.variant)


@known
def is_strided(spec):
    """Whether pixels lie apart, by a number that is known at run time only."""
    return int(spec.variant == "strided")


def is_joined(spec):
    """Whether pixels of several images follow one another."""
    return spec.variant == "joined"


def row_of(spec):
    """Taps of a row of the filter and step of the pixels of an edged or masked tile; else (0, 1)."""
    return tuple(map(int, spec.variant.split()[1:3])) if is_edged(spec.variant) or is_masked(spec.variant) else (0, 1)


@known
def sees_edges(spec):
    """Whether all taps of a row are one step, and pixels may be outside of x."""
    return int(is_edged(spec.variant))


@known
def sees_masks(spec):
    """Whether all taps of a row are one step, and lanes are pixels."""
    return int(is_masked(spec.variant))


@known
def stride_of(spec):
    """Step of the pixels of such a tile."""
    return row_of(spec)[1]


@known
def tile_pixels(spec):
    """Output pixels of a tile."""
    count = spec.width if is_by_channels(spec) else spec.vectors * spec.lanes
    return count
