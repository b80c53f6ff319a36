"""What there is to call: name, call block and shapes of every kernel, without its body. `table` lists them all.

A body is in the module of `fastpool.kernels` that a routine names, and is loaded, with Numba, only to be compiled.
"""
