"""What the spec of a Winograd routine says of its form F(m, r): vectors are m, width is r, the variant has the rest.

``winograd 3 1``: size of the filter, and stride, along both axes. ``winograd 3 1 across`` filters columns alone, of 1x3
filters, and ``down`` rows alone, of 3x1: one tap, one output and one product are along the other axis.
"""

from fastpool.kernels.channels import is_folded
from fastpool.kernels.simd import known


def filter_of(spec):
    """Size of the filter along what is filtered, and stride."""
    words = spec.variant.split()
    return int(words[1]), int(words[2])


def along(spec, value):
    """`value` along rows and along columns, or 1 where these are not filtered."""
    words = spec.variant.split()
    return 1 if "across" in words else value, 1 if "down" in words else value


def sizes_of(spec):
    """Products of a tile along rows and along columns."""
    return along(spec, spec.vectors + spec.width - 1)


def strip_strides(spec):
    """Rows, and columns, of the strip from one output to the next."""
    return along(spec, 1 if is_folded(spec) else filter_of(spec)[1])


def is_dilated(spec):
    """Whether columns of a tile lie further apart than one: that costs an addition for each load and store."""
    return spec.variant.endswith(" dilated")


@known
def row_stride(spec):
    """Rows of x from one output to the next."""
    return along(spec, filter_of(spec)[1])[0]


@known
def column_stride(spec):
    """Columns of x from one output to the next."""
    return along(spec, filter_of(spec)[1])[1]


@known
def strip_row_stride(spec):
    """Rows of the strip from one output to the next."""
    return strip_strides(spec)[0]


@known
def strip_column_stride(spec):
    """Columns of the strip from one output to the next."""
    return strip_strides(spec)[1]


@known
def fold_of(spec):
    """Lanes of a channel of x."""
    return filter_of(spec)[1] ** 2 if is_folded(spec) else 1


@known
def filter_taps(spec):
    """Taps of a filter of one channel."""
    rows, columns = along(spec, filter_of(spec)[0])
    return rows * columns


@known
def output_rows(spec):
    """Outputs of a tile along rows, m of F(m, r)."""
    return along(spec, spec.vectors)[0]


@known
def output_columns(spec):
    """Outputs of a tile along columns."""
    return along(spec, spec.vectors)[1]


@known
def tap_rows(spec):
    """Taps of a phase along rows, r of F(m, r)."""
    return along(spec, spec.width)[0]


@known
def tap_columns(spec):
    """Taps of a phase along columns."""
    return along(spec, spec.width)[1]


@known
def products_of(spec):
    """Products of a tile."""
    rows, columns = sizes_of(spec)
    return rows * columns
