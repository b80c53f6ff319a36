"""asv: every public operation, and what a call costs where there is next to nothing to compute."""

from __future__ import annotations

import os
from functools import lru_cache

from bench.operations import INPUTS, OPERATIONS, Run, prepare
from bench.suite import ALL, DTYPES, THREADS, WARM_UP, thread_count
from bench.timing import measure_call

_TINY, *_LAYERS = INPUTS
_CHOSEN = (_LAYERS, DTYPES, THREADS) if os.environ.get(ALL) else (_LAYERS[-1:], DTYPES, THREADS[:1])


@lru_cache(maxsize=1)
def _warmed_up(operation: str, input_name: str, dtype: str, threads: str) -> Run:
    import fastpool

    fastpool.set_num_threads(thread_count(threads))
    run = prepare(operation, input_name, dtype)
    measure_call(run, WARM_UP, 0.0)
    return run


class Operation:
    """Operations on the input of a layer, or of two; results in new arrays."""

    params = (list(OPERATIONS), *_CHOSEN)
    param_names = ("operation", "input", "dtype", "threads")
    timeout = 300.0
    skip_params = ()

    def setup(self, operation: str, input_name: str, dtype: str, threads: str) -> None:
        """Prepare the call."""
        self.run = _warmed_up(operation, input_name, dtype, threads)

    def time_call(self, operation: str, input_name: str, dtype: str, threads: str) -> None:
        """Call it."""
        self.run()


class Overhead(Operation):
    """Calls on a tiny input: checks of arguments, the plan's look-up, the launch."""

    params = (list(OPERATIONS), [_TINY], ["float32"], ["all"])
