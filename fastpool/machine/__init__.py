"""The processor, and machine code for it: on disk, in memory, as functions. Numba is loaded for what is missing."""
