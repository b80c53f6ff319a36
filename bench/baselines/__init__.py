"""The same operations in plain NumPy, each as fast as plain NumPy makes it.

A baseline is a straight line of NumPy calls over buffers and views made beforehand: the timed call allocates nothing,
slices nothing and sets up no padding, which is more than a user's one-liner gets. Several ways are built for each case,
and `bench.timing.fastest` keeps the one that wins on the machine at hand.
"""

from __future__ import annotations

from bench.baselines.convolution import convolutions
from bench.baselines.pooling import poolings
from bench.baselines.program import Builder
from bench.cases import Arrays, Case, ConvCase


def baselines(case: Case, arrays: Arrays) -> dict[str, Builder]:
    """Return the ways that NumPy has of computing a case: name -> function that prepares it."""
    if isinstance(case, ConvCase):
        return convolutions(case, arrays)
    return poolings(case, arrays)
