"""The only parallel region of the package.

`launch_parallel` and `launch_serial` run the steps of a plan one after the other; within a step every thread takes the
next task until none is left, so that no core waits for a slower one. Tasks of a step are independent and write
disjoint memory, and no task depends on the thread that runs it: results are the same for any number of threads.
"""

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels.calls import ADDRESSES, FIRST_ADDRESS

_LINE = 8  # 64-bit words of a cache line: counters of two steps may not share one


@intrinsic
def _invoke(typingctx, steps, step, task, thread):
    """Call the function whose address is the first word of row `step`."""

    def codegen(context, builder, sig, args):
        array_type = sig.args[0]
        array = context.make_array(array_type)(context, builder, args[0])
        words = builder.extract_value(array.shape, 1)
        block = builder.gep(array.data, [builder.mul(args[1], words)])
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word.as_pointer(), word, word])
        function = builder.load(builder.bitcast(block, kind.as_pointer().as_pointer()), align=8)
        builder.call(function, [block, args[2], args[3]])
        return context.get_dummy_value()

    return types.void(steps, types.intp, types.intp, types.intp), codegen


@intrinsic
def _take(typingctx, counters, index):
    """Add one to a shared counter, return what it was."""

    def codegen(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", builder.gep(array.data, [args[1]]), ir.IntType(64)(1), "monotonic")

    return types.int64(counters, types.intp), codegen


def _with_addresses(plan_steps, x, weights, bias, residual, out, scratch, indices):
    steps = plan_steps.copy()
    for step in range(steps.shape[0]):
        row = steps[step, FIRST_ADDRESS : FIRST_ADDRESS + ADDRESSES]
        row[0], row[1], row[2], row[3], row[4], row[5], row[6] = x, weights, bias, residual, out, scratch, indices
    return steps


_with_addresses_jit = njit(_with_addresses)


def serial(plan_steps, x, weights, bias, residual, out, scratch, indices):
    """Run every task of every step on this thread."""
    steps = _with_addresses_jit(plan_steps, x, weights, bias, residual, out, scratch, indices)
    for step in range(steps.shape[0]):
        for task in range(steps[step, 1]):
            _invoke(steps, step, task, 0)


def parallel(plan_steps, x, weights, bias, residual, out, scratch, indices, threads):
    """Run the tasks of each step on `threads` threads, the steps one after the other."""
    steps = _with_addresses_jit(plan_steps, x, weights, bias, residual, out, scratch, indices)
    counters = np.zeros(steps.shape[0] * _LINE, np.int64)
    for step in range(steps.shape[0]):
        tasks = steps[step, 1]
        for thread in prange(threads):
            task = _take(counters, step * _LINE)
            while task < tasks:
                _invoke(steps, step, task, thread)
                task = _take(counters, step * _LINE)
