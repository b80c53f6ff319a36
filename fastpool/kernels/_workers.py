"""The threads of the package: how they wait for a job, take part in it and leave.

All is in one *control block*, an array of words that the callers and the workers share. A job is a table of steps. Who
calls opens the job, works through it and closes it; workers come when they see it, and take tasks while there are any.
Nobody is waited for who has not begun: a worker that sleeps, or that the system runs late, costs nothing but its help.

A worker that finds no job spins for a while, since the next call or layer mostly follows at once (then it begins
within 0.2 us), and sleeps after that. The state of a job is one word, the number of workers inside and a bit for
"closed": a worker enters by adding one, and turns back if the bit was set, so that none reads a job that has ended.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastpool.kernels._jit import device_of_launchers as device
from fastpool.kernels.simd import I64, Pointer
from fastpool.routines.launchers import (
    BUSY,
    CLOSED,
    CONDITION,
    GENERATION,
    LOCK,
    MUTEX,
    SLEEP,
    SLEEPERS,
    STATE,
    STOP,
    UNLOCK,
    WAKE,
    YIELD,
)

#: Looks at the control block before a worker sleeps: about 5 ms at 40 ns. On a machine that is shared, a processor that
#: was given up may take milliseconds to come back: calls with 3 ms between them took 580 us where workers slept after
#: 0.5 ms, and 270 where they still spun.
SPINS = 1 << 17
#: Looks between two offers to let another thread run, for the case that the one waited for has no processor.
_PATIENCE = 1 << 10

#: Type of the address of words.
ADDRESS = Pointer(types.int64)


@intrinsic
def read_words(typingctx, words, index):
    """Read a word that holds an address of words."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        return builder.load(builder.bitcast(place, I64.as_pointer().as_pointer()), align=8)

    return ADDRESS(words, types.intp), codegen


@intrinsic
def write_words(typingctx, words, index, value):
    """Write an address of words into a word."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        builder.store(args[2], builder.bitcast(place, I64.as_pointer().as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(words, types.intp, value), codegen


@intrinsic
def take(typingctx, words, index):
    """Add one to a counter, return what it was; says nothing of what other threads have written."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        return builder.atomic_rmw("add", place, I64(1), "monotonic")

    return types.int64(words, types.intp), codegen


def _exchanging(operation, ordering):
    """Intrinsic that changes a word and returns what it was."""

    @intrinsic
    def change(typingctx, words, index, value):
        def codegen(context, builder, sig, args):
            place = builder.gep(args[0], [args[1]])
            return builder.atomic_rmw(operation, place, args[2], ordering)

        return types.int64(words, types.intp, types.int64), codegen

    return change


add = _exchanging("add", "seq_cst")
_exchange = _exchanging("xchg", "seq_cst")
_and = _exchanging("and", "seq_cst")
_or = _exchanging("or", "seq_cst")


@intrinsic
def look(typingctx, words, index):
    """Read a word that other threads change; what they wrote before it is there as well."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        return builder.load_atomic(place, "seq_cst", 8)

    return types.int64(words, types.intp), codegen


@intrinsic
def _pause(typingctx):
    """Tell the processor that this is a loop that waits."""

    def codegen(context, builder, sig, args):
        triple = llvm.get_process_triple()
        if triple.startswith(("x86_64", "i386", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        elif triple.startswith(("aarch64", "arm64")):
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", (), kind), [ir.IntType(32)(1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _system(typingctx, control, function, first, second):
    """Call a function of the system on two places of the control block.

    Two more numbers follow, "for ever" and "in no special way", which Windows asks for and others never look at.
    """

    def codegen(context, builder, sig, args):
        control, function, first, second = args
        kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer()] * 2 + [I64] * 2)
        place = builder.bitcast(builder.gep(control, [function]), kind.as_pointer().as_pointer())
        code = builder.load(place, align=8)
        places = [builder.gep(control, [word]) for word in (first, second)]
        builder.call(code, [*places, I64(0xFFFFFFFF), I64(0)])
        return context.get_dummy_value()

    return types.void(control, types.intp, types.intp, types.intp), codegen


@device
def stand_by(control, turn):
    """Wait a moment; now and then let another thread have the processor."""
    if turn % _PATIENCE == _PATIENCE - 1:
        _system(control, YIELD, MUTEX, MUTEX)
    else:
        _pause()


@device
def wait_for_job(control, seen):
    """Wait until there is another job than the one seen; return its number."""
    for _ in range(SPINS):
        if look(control, GENERATION) != seen:
            return look(control, GENERATION)
        _pause()
    _system(control, LOCK, MUTEX, MUTEX)
    # Sleepers are counted before the last look, and jobs before sleepers are looked for: one sees the other.
    add(control, SLEEPERS, 1)
    while look(control, GENERATION) == seen:
        _system(control, SLEEP, CONDITION, MUTEX)
    add(control, SLEEPERS, -1)
    _system(control, UNLOCK, MUTEX, MUTEX)
    return look(control, GENERATION)


@device
def enter(control):
    """Go into the job, unless it is closed."""
    if add(control, STATE, 1) & CLOSED:
        add(control, STATE, -1)
        return False
    return True


@device
def leave(control):
    """Leave the job; from here on nothing of it may be touched."""
    add(control, STATE, -1)


@device
def reserve(control):
    """Take the workers, unless another caller has them."""
    return _exchange(control, BUSY, 1) == 0


@device
def _announce(control):
    """Let the workers look at the control block."""
    add(control, GENERATION, 1)
    if look(control, SLEEPERS) > 0:
        _system(control, LOCK, MUTEX, MUTEX)
        _system(control, WAKE, CONDITION, CONDITION)
        _system(control, UNLOCK, MUTEX, MUTEX)


@device
def call_workers(control):
    """Open the job that was written down, and call."""
    _and(control, STATE, ~CLOSED)
    _announce(control)


@device
def dismiss(control):
    """Close the job, wait until nobody is inside, give the workers back."""
    _or(control, STATE, CLOSED)
    turn = 0
    while look(control, STATE) != CLOSED:
        stand_by(control, turn)
        turn += 1
    _exchange(control, BUSY, 0)


@device
def send_home(control):
    """Let every worker go, for good."""
    _exchange(control, STOP, 1)
    _announce(control)  # without a job: what the last one left in the control block is no more
