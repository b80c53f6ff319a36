"""Stochastic pooling."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel
from fastpool.routines.taps import TAPPED

STOCHASTIC = Layout("stochastic", TAPPED)

weighted_mean = kernel("stochastic.weighted_mean", STOCHASTIC)
weighted_draw = kernel("stochastic.weighted_draw", STOCHASTIC)
