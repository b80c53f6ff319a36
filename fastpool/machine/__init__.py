"""The processor, and machine code for it: on disk, in memory, as functions. Nothing here loads Numba."""
