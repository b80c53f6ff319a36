"""Launchers: the steps of a plan or of a chain of plans, on the calling thread or shared with the workers.

Steps run one after the other. Within a step each thread takes the tasks of its own share, and then those that are left
of the others', so that no core waits for a slower one. Shares are the same in every call: what a thread wrote is still
in its core's cache when the next call or layer comes to that part of the image. Tasks of a step are independent and
write disjoint memory, and no task depends on the thread that runs it: results are the same for any number of threads.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastpool.kernels import _workers
from fastpool.kernels._jit import device_of_launchers as device
from fastpool.kernels.simd import I8, I64
from fastpool.routines.launchers import COUNT, COUNTERS, LINE, LINE_BYTES, STEPS, STOP, THREADS, WIDTH
from fastpool.routines.layout import ALONE, EACH, FIRST_ADDRESS, OUT, OUT_AT, SCRATCH, SCRATCH_AT, TASKS, WHO


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
def _allocate(typingctx, size):
    """Memory of Python's allocator, which works without the GIL; null where there is none."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(I8.as_pointer(), [I64])
        function = cgutils.get_or_insert_function(builder.module, kind, "PyMem_RawMalloc")
        return builder.bitcast(builder.call(function, args), I64.as_pointer())

    return _workers.ADDRESS(types.intp), codegen


@intrinsic
def _release(typingctx, memory):
    """Give memory back."""

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer()])
        function = cgutils.get_or_insert_function(builder.module, kind, "PyMem_RawFree")
        builder.call(function, [builder.bitcast(args[0], I8.as_pointer())])
        return context.get_dummy_value()

    return types.void(memory), codegen


@intrinsic
def _is_null(typingctx, memory):
    """Whether there was no memory."""

    def codegen(context, builder, sig, args):
        return builder.icmp_unsigned("==", builder.ptrtoint(args[0], I64), I64(0))

    return types.boolean(memory), codegen


@intrinsic
def _next_line(typingctx, memory):
    """Address of the next cache line: that of `memory` if one begins there."""

    def codegen(context, builder, sig, args):
        # The address as a number only says how far the next line is: the pointer itself stays one.
        skip = builder.and_(builder.neg(builder.ptrtoint(args[0], I64)), I64(LINE_BYTES - 1))
        place = builder.gep(builder.bitcast(args[0], I8.as_pointer()), [skip])
        return builder.bitcast(place, I64.as_pointer())

    return memory(memory), codegen


@device
def _place_scratch(steps, count, width, scratch):
    for step in range(count):
        row = steps + step * width
        _workers.write_words(row, FIRST_ADDRESS + SCRATCH, scratch + row[SCRATCH_AT])
        if row[OUT_AT] >= 0:
            _workers.write_words(row, FIRST_ADDRESS + OUT, scratch + row[OUT_AT])


@device
def _copy_with_addresses(plan_steps, count, width, steps, x, weights, bias, residual, out, indices, filters):
    for word in range(count * width):
        steps[word] = plan_steps[word]
    for step in range(count):
        row = steps + (step * width + FIRST_ADDRESS)
        row[0], row[1], row[2], row[3] = row[0] + x, row[1] + weights, row[2] + bias, row[3] + residual
        row[4], row[6], row[7] = row[4] + out, row[6] + indices, row[7] + filters


@device
def _whole_lines(words):
    return (words + LINE - 1) // LINE * LINE


@device
def _for_itself(block, tasks, thread, inside, next_finished, next_tasks):
    """Do all tasks of a step that each thread does for itself, unless all of the next one is done.

    Others do not wait for it before the next step, but after that: what comes then may use the same scratch memory. Who
    is `inside` is counted before it looks whether the next step is done, and the others look in the other order.
    """
    _workers.add(inside, 0, 1)
    if _workers.look(next_finished, 0) < next_tasks:
        for task in range(tasks):
            _invoke(block, task, thread)
    _workers.add(inside, 0, -1)


@device
def _take_part(steps, width, count, counters, threads, thread, control):
    """Take tasks of each step, from the thread's own share first; a step begins when all of the one before is done."""
    of_step = (threads + 1) * LINE
    for step in range(count):
        block, shares = steps + step * width, counters + step * of_step
        finished = shares + threads * LINE
        tasks = block[TASKS]
        done = 0
        if block[WHO] == EACH:
            _for_itself(block, tasks, thread, finished, finished + of_step, (block + width)[TASKS])
            continue
        if block[WHO] == ALONE:
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
        if done:
            _workers.add(finished, 0, done)
        if thread and step == count - 1:
            return  # only the caller has to know that all is done
        turn = 0
        while _workers.look(finished, 0) < tasks:
            _workers.stand_by(control, turn)
            turn += 1
        if step > 0 and (block + -width)[WHO] == EACH:
            while _workers.look(finished + -of_step, 0) > 0:
                _workers.stand_by(control, turn)
                turn += 1


def work(control, thread):
    """Be a worker: take part in jobs until sent home."""
    seen = 0
    while True:
        seen = _workers.wait_for_job(control, seen)
        if _workers.look(control, STOP):
            return 0
        if _workers.enter(control):
            if thread < control[THREADS]:
                steps, counters = _workers.read_words(control, STEPS), _workers.read_words(control, COUNTERS)
                _take_part(steps, control[WIDTH], control[COUNT], counters, control[THREADS], thread, control)
            _workers.leave(control)


def stop(control):
    """Send the workers home."""
    _workers.send_home(control)
    return 0


@device
def _alone(steps, count, width):
    for step in range(count):
        block = steps + step * width
        for task in range(block[TASKS]):
            _invoke(block, task, 0)


@device
def _counter_words(count, threads):
    """Words of the counters of a job: for each step one for each thread, and one for what is done."""
    return ((threads + 1) * count) * LINE


@device
def _together(steps, count, width, counters, threads, control):
    """Share the tasks with up to `threads` - 1 workers; where another caller has them, do all on this thread."""
    if not _workers.reserve(control):
        _alone(steps, count, width)
        return
    for word in range(0, _counter_words(count, threads), LINE):
        counters[word] = 0
    _workers.write_words(control, STEPS, steps)
    _workers.write_words(control, COUNTERS, counters)
    control[COUNT], control[WIDTH], control[THREADS] = count, width, threads
    _workers.call_workers(control)
    _take_part(steps, width, count, counters, threads, 0, control)
    _workers.dismiss(control)


# What Python calls. Each has one piece of memory for all that it needs, which begins with words and ends with scratch
# memory, and says -1 where there is none. Each piece within begins on a cache line.


def serial(plan_steps, count, width, scratch_bytes, x, weights, bias, residual, out, indices, filters):
    """Run every task of every step on this thread."""
    words = _whole_lines(count * width)
    memory = _allocate((words + LINE) * 8 + scratch_bytes)
    if _is_null(memory):
        return -1
    steps = _next_line(memory)
    _copy_with_addresses(plan_steps, count, width, steps, x, weights, bias, residual, out, indices, filters)
    _place_scratch(steps, count, width, steps + words)
    _alone(steps, count, width)
    _release(memory)
    return 0


def parallel(
    plan_steps, count, width, scratch_bytes, x, weights, bias, residual, out, indices, filters, threads, control
):
    """Run the steps of a plan on up to `threads` threads."""
    words, shares = _whole_lines(count * width), _counter_words(count, threads)
    memory = _allocate((words + shares + LINE) * 8 + scratch_bytes)
    if _is_null(memory):
        return -1
    steps = _next_line(memory)
    _copy_with_addresses(plan_steps, count, width, steps, x, weights, bias, residual, out, indices, filters)
    _place_scratch(steps, count, width, steps + (words + shares))
    _together(steps, count, width, steps + words, threads, control)
    _release(memory)
    return 0


def serial_chain(steps, count, width, scratch_bytes):
    """Run steps that have their addresses on this thread."""
    memory = _allocate(LINE * 8 + scratch_bytes)
    if _is_null(memory):
        return -1
    _place_scratch(steps, count, width, _next_line(memory))
    _alone(steps, count, width)
    _release(memory)
    return 0


def parallel_chain(steps, count, width, scratch_bytes, threads, control):
    """Run steps that have their addresses on up to `threads` threads."""
    shares = _counter_words(count, threads)
    memory = _allocate((shares + LINE) * 8 + scratch_bytes)
    if _is_null(memory):
        return -1
    counters = _next_line(memory)
    _place_scratch(steps, count, width, counters + shares)
    _together(steps, count, width, counters, threads, control)
    _release(memory)
    return 0


def address(array):
    """Address of an array's first element; five times as fast as asking NumPy for it."""
    return array
