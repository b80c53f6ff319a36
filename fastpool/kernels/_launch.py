"""The only parallel region of the package.

`parallel` and `serial` run the steps of a plan one after the other. Within a step each thread takes the tasks of its
own share, and then those that are left of the others', so that no core waits for a slower one. Shares are the same in
every call: what a thread wrote is still in its core's cache when the next call or layer comes to that part of the
image. Tasks of a step are independent and write disjoint memory, and no task depends on the thread that runs it:
results are the same for any number of threads.
"""

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels.calls import ADDRESSES, FIRST_ADDRESS

LINE_BYTES = 64
_LINE = LINE_BYTES // 8  # words apart, so that the counters of two steps do not share a cache line


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


@intrinsic
def _place(typingctx, steps, step, index, scratch):
    """Store the address of the first cache line in `scratch` as a word of row `step`."""

    def codegen(context, builder, sig, args):
        array = context.make_array(sig.args[0])(context, builder, args[0])
        memory = context.make_array(sig.args[3])(context, builder, args[3])
        words = builder.extract_value(array.shape, 1)
        word = builder.gep(array.data, [builder.add(builder.mul(args[1], words), args[2])])
        # The address as a number only says how far the next line is: the pointer itself stays one.
        skip = builder.and_(builder.neg(builder.ptrtoint(memory.data, ir.IntType(64))), ir.IntType(64)(LINE_BYTES - 1))
        start = builder.gep(memory.data, [skip])
        builder.store(start, builder.bitcast(word, start.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(steps, types.intp, types.intp, scratch), codegen


@njit
def _with_addresses(plan_steps, scratch, x, weights, bias, residual, out, indices, filters):
    steps = plan_steps.copy()
    for step in range(steps.shape[0]):
        row = steps[step, FIRST_ADDRESS : FIRST_ADDRESS + ADDRESSES]
        row[0], row[1], row[2], row[3], row[4] = x, weights, bias, residual, out
        row[6], row[7] = indices, filters
        _place(steps, step, FIRST_ADDRESS + 5, scratch)
    return steps


def serial(plan_steps, scratch_bytes, x, weights, bias, residual, out, indices, filters):
    """Run every task of every step on this thread."""
    scratch = np.empty(scratch_bytes, np.uint8)
    steps = _with_addresses(plan_steps, scratch, x, weights, bias, residual, out, indices, filters)
    for step in range(steps.shape[0]):
        for task in range(steps[step, 1]):
            _invoke(steps, step, task, 0)
    return scratch.size  # keeps the scratch alive until here


def parallel(plan_steps, scratch_bytes, x, weights, bias, residual, out, indices, filters, threads):
    """Run the tasks of each step on `threads` threads, the steps one after the other."""
    scratch = np.empty(scratch_bytes, np.uint8)
    steps = _with_addresses(plan_steps, scratch, x, weights, bias, residual, out, indices, filters)
    counters = np.zeros(steps.shape[0] * threads * _LINE, np.int64)
    for step in range(steps.shape[0]):
        tasks = steps[step, 1]
        for thread in prange(threads):
            for turn in range(threads):
                owner = (thread + turn) % threads
                counter = (step * threads + owner) * _LINE
                end = (owner + 1) * tasks // threads
                task = owner * tasks // threads + _take(counters, counter)
                while task < end:
                    _invoke(steps, step, task, thread)
                    task = owner * tasks // threads + _take(counters, counter)
    return scratch.size


def address(array):
    """Address of the first element; five times as fast as asking NumPy for it."""
    return array.ctypes.data
