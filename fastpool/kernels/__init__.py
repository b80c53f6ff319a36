"""Kernels: what computes. Plain functions that Numba compiles; `fastpool.routines` says how they are called."""
