"""What Python calls to run the steps of plans, and the words by which callers and workers come to know of one another.

`kernels._launch` and `kernels._workers` have what they do.
"""

from __future__ import annotations

from fastpool.routines.layout import ADDRESSES
from fastpool.routines.routine import Entry

LINE_BYTES = 64
LINE = LINE_BYTES // 8  # words apart, so that no two counters share a cache line

# Words of the control block.
BUSY, GENERATION, STATE, SLEEPERS, STOP, JOB, FUNCTIONS, MUTEX, CONDITION, WORDS = (
    LINE * line for line in (0, 1, 2, 3, 4, 5, 6, 7, 9, 11)
)
#: Addresses of the system's functions, from word FUNCTIONS on.
LOCK, UNLOCK, SLEEP, WAKE, YIELD = range(FUNCTIONS, FUNCTIONS + 5)
#: Words of a job: addresses of the steps and of the counters, number of steps, words of a step, threads.
STEPS, COUNTERS, COUNT, WIDTH, THREADS = range(JOB, JOB + 5)

CLOSED = 1 << 32

_STEPS = ("words", "integer", "integer")  # address, number, words of each
_ARRAYS = ("integer",) * (ADDRESSES - 1)  # all but the scratch memory
_SHARED = ("integer", "words")  # threads, control block

serial = Entry("_launch.serial", (*_STEPS, "integer", *_ARRAYS))
parallel = Entry("_launch.parallel", (*_STEPS, "integer", *_ARRAYS, *_SHARED))
serial_chain = Entry("_launch.serial_chain", (*_STEPS, "integer"))
parallel_chain = Entry("_launch.parallel_chain", (*_STEPS, "integer", *_SHARED))
work = Entry("_launch.work", ("words", "integer"))
stop = Entry("_launch.stop", ("words",))
address = Entry("_launch.address", ("array",), keeps_gil=True)
