"""Launchers: the steps of a plan or of a chain of plans, on the calling thread or shared with the workers.

Steps run one after the other. Within a step each thread takes the tasks of its own share, and then those that are left
of the others', so that no core waits for a slower one. Shares are the same in every call: what a thread wrote is still
in its core's cache when the next call or layer comes to that part of the image. Tasks of a step are independent and
write disjoint memory, and no task depends on the thread that runs it: results are the same for any number of threads.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels import _workers
from fastpool.kernels._jit import device
from fastpool.kernels._workers import COUNT, COUNTERS, LINE, LINE_BYTES, STEPS, THREADS, WIDTH
from fastpool.kernels.calls import ADDRESSES, ALONE, FIRST_ADDRESS, SCRATCH, TASKS
from fastpool.kernels.simd import I64


@intrinsic
def _invoke(typingctx, block, task, thread):
    """Call the function whose address is the first word of a step."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
        function = builder.load(builder.bitcast(args[0], kind.as_pointer().as_pointer()), align=8)
        builder.call(function, args)
        return context.get_dummy_value()

    return types.void(block, types.intp, types.intp), codegen


@intrinsic
def _first_line(typingctx, memory):
    """Address of the first cache line in an array of bytes."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        # The address as a number only says how far the next line is: the pointer itself stays one.
        skip = builder.and_(builder.neg(builder.ptrtoint(data, I64)), I64(LINE_BYTES - 1))
        return builder.bitcast(builder.gep(data, [skip]), I64.as_pointer())

    return _workers.ADDRESS(memory), codegen


@device
def _place_scratch(steps, scratch):
    words = _workers.words_of(steps)
    for step in range(steps.shape[0]):
        place = step * steps.shape[1] + FIRST_ADDRESS + SCRATCH
        _workers.write_words(words, place, _first_line(scratch))


@device
def _with_addresses(plan_steps, scratch, x, weights, bias, residual, out, indices, filters):
    steps = plan_steps.copy()
    for step in range(steps.shape[0]):
        row = steps[step, FIRST_ADDRESS : FIRST_ADDRESS + ADDRESSES]
        row[0], row[1], row[2], row[3], row[4] = x, weights, bias, residual, out
        row[6], row[7] = indices, filters
    _place_scratch(steps, scratch)
    return steps


@device
def _take_part(steps, width, count, counters, threads, thread, control):
    """Take tasks of each step, from the thread's own share first; a step begins when all of the one before is done."""
    for step in range(count):
        block, shares = steps + step * width, counters + step * (threads + 1) * LINE
        tasks = block[TASKS]
        done = 0
        if block[ALONE]:
            if thread == 0:
                for task in range(tasks):
                    _invoke(block, task, thread)
                done = tasks
            turns = 0
        else:
            turns = threads
        for turn in range(turns):
            owner = (thread + turn) % threads
            first, end = owner * tasks // threads, (owner + 1) * tasks // threads
            task = first + _workers.take(shares, owner * LINE)
            while task < end:
                _invoke(block, task, thread)
                done += 1
                task = first + _workers.take(shares, owner * LINE)
        finished = shares + threads * LINE
        if done:
            _workers.add(finished, 0, done)
        if thread and step == count - 1:
            return  # only the caller has to know that all is done
        turn = 0
        while _workers.look(finished, 0) < tasks:
            _workers.stand_by(control, turn)
            turn += 1


def work(control, thread):
    """Be a worker: take part in jobs until sent home."""
    job = _workers.words_of(control)
    seen = 0
    while True:
        seen = _workers.wait_for_job(control, seen)
        if _workers.look(control, _workers.STOP):
            return
        if _workers.enter(control):
            if thread < job[THREADS]:
                steps, counters = _workers.read_words(job, STEPS), _workers.read_words(job, COUNTERS)
                _take_part(steps, job[WIDTH], job[COUNT], counters, job[THREADS], thread, control)
            _workers.leave(control)


def stop(control):
    """Send the workers home."""
    _workers.send_home(control)


@device
def _alone(steps):
    words, width = _workers.words_of(steps), steps.shape[1]
    for step in range(steps.shape[0]):
        block = words + step * width
        for task in range(block[TASKS]):
            _invoke(block, task, 0)


@device
def _together(steps, threads, control):
    """Share the tasks with up to `threads` - 1 workers; where another caller has them, do all on this thread."""
    if not _workers.reserve(control):
        _alone(steps)
        return
    count, width = steps.shape
    counters = np.zeros(((threads + 1) * count + 1) * LINE, np.int64)
    job = _workers.words_of(control)
    table, shares = _workers.words_of(steps), _workers.words_of(counters)
    _workers.write_words(job, STEPS, table)
    _workers.write_words(job, COUNTERS, shares)
    job[COUNT], job[WIDTH], job[THREADS] = count, width, threads
    _workers.call_workers(control)
    _take_part(table, width, count, shares, threads, 0, control)
    _workers.dismiss(control)
    counters[0] = 0  # keeps them alive until here


def serial(plan_steps, scratch_bytes, x, weights, bias, residual, out, indices, filters):
    """Run every task of every step on this thread."""
    scratch = np.empty(scratch_bytes, np.uint8)
    _alone(_with_addresses(plan_steps, scratch, x, weights, bias, residual, out, indices, filters))
    return scratch.size  # keeps the scratch alive until here


def parallel(plan_steps, scratch_bytes, x, weights, bias, residual, out, indices, filters, threads, control):
    """Run the steps of a plan on up to `threads` threads."""
    scratch = np.empty(scratch_bytes, np.uint8)
    _together(_with_addresses(plan_steps, scratch, x, weights, bias, residual, out, indices, filters), threads, control)
    return scratch.size


def serial_chain(steps, scratch_bytes):
    """Run steps that have their addresses on this thread."""
    scratch = np.empty(scratch_bytes, np.uint8)
    _place_scratch(steps, scratch)
    _alone(steps)
    return scratch.size


def parallel_chain(steps, scratch_bytes, threads, control):
    """Run steps that have their addresses on up to `threads` threads."""
    scratch = np.empty(scratch_bytes, np.uint8)
    _place_scratch(steps, scratch)
    _together(steps, threads, control)
    return scratch.size


def address(array):
    """Address of the first element; five times as fast as asking NumPy for it."""
    return array.ctypes.data
