"""How functions become machine code: the only file with Numba's flags.

Numba compiles a body to a function with its own calling convention. Here each gets one of C around it: for routines,
``void (call, ...)``; for what Python calls, the convention of Python's own built-in functions, which takes the
arguments out of their objects and lets go of the GIL meanwhile. That, and not Numba's dispatcher, because it can be
called without Numba.

The code is kept on disk by `machine.store`. Where that cannot be, Numba's own cache keeps it, with a guard.
"""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler  # type: ignore[attr-defined]
from numba.core.typing import signature

from fastpool import forks
from fastpool.kernels._features import are_settings_of_environment
from fastpool.kernels._passes import Passes, PassesOfInlined, PassesOfInlinedFirst, QuickPasses, QuickPassesOfInlined
from fastpool.kernels._target import Device, chosen, target
from fastpool.kernels.calls import Call, type_of
from fastpool.kernels.elements import I8, I64
from fastpool.kernels.simd import HAS_MASKS, Pointer, type_for
from fastpool.machine import code, store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastpool.routines.routine import Entry, Routine, Spec

if numba.config.DISABLE_JIT:
    raise RuntimeError("NUMBA_DISABLE_JIT is set: kernels are written to be compiled, and cannot run without")
forks.wait_for(global_compiler_lock)

_OPTIONS = {"nopython": True, "error_model": "numpy", "boundscheck": False}
_POINTER = I8.as_pointer()
#: Elements of a NumPy array begin at the address that its object has behind what every object begins with.
_ARRAY_DATA = object.__basicsize__


class _Compiler(_FunctionCompiler):  # type: ignore[misc]
    """Compiles to Numba's calling convention, and leaves the module open."""

    def _customize_flags(self, flags: Any) -> Any:
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
        flags.enable_pyobject = False
        return flags


class _GuardedCache(FunctionCache):  # type: ignore[misc]
    """Numba's disk cache, except that nothing which goes wrong with it stops a computation."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load machine code; None where there is none, or where it is damaged."""
        try:
            found = super().load_overload(sig, target_context)
            if found is not None and tuple(found.signature.args) != tuple(getattr(sig, "args", sig)):
                raise ValueError(f"the entry of {sig} holds the code of {found.signature}")
            return found
        except Exception as reason:  # a damaged file may raise anything
            store.warn(str(reason))
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save machine code, if there is room."""
        try:
            super().save_overload(sig, data)
        except Exception as reason:
            store.warn(str(reason))


def _numba_cache(body: Any) -> Any:
    """Numba's cache, for systems whose object code `machine.image` does not read; None where it is not needed."""
    if store.can_load() and store.folder():
        return None
    # The name names the entry: with the fingerprint in it, code made from older files is never found.
    if store.fingerprint() not in body.__qualname__:
        body.__qualname__ += f"_{store.fingerprint()}"
    try:
        return _GuardedCache(body)
    except RuntimeError as reason:  # Numba found no folder
        store.warn(str(reason))
        return None


def _compile(
    body: Any, arguments: tuple[Any, ...], result: Any, wrap: Any, passes: type[Passes], on_disk: bool = True
) -> code.Made:
    """Compile a body for arguments of these types; ``wrap(context, library, fndesc, name)`` adds the C function."""
    with global_compiler_lock, _without_garbage_collection(), chosen():
        return _compile_alone(body, arguments, result, wrap, passes, on_disk)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Let the garbage be: compiling makes millions of objects, and looking through them takes a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _compile_alone(
    body: Any, arguments: tuple[Any, ...], result: Any, wrap: Any, passes: type[Passes], on_disk: bool
) -> code.Made:
    wanted = signature(result, *arguments)
    cache = _numba_cache(body) if on_disk else None
    found = cache.load_overload(wanted, target.target_context) if cache else None
    is_cached = found is not None
    if found is None:
        found = _Compiler(body, target, dict(_OPTIONS), {}, passes).compile(arguments, result)
    library, fndesc = found.library, found.fndesc
    name = f"fastpool.{fndesc.llvm_func_name}"
    if not is_cached:
        wrap(found.target_context, library, fndesc, name)
        library.finalize()
        if cache:
            cache.save_overload(wanted, found)
    data = library._get_compiled_object() if store.can_load() and not is_cached else None
    may_be_kept = data is not None and are_settings_of_environment()
    return code.Made(data, name, lambda: int(library.get_pointer_to_function(name)), is_cached, may_be_kept, library)


def compile_routine(routine: Routine, spec: Spec, on_disk: bool = True) -> code.Made:
    """Compile a routine for `spec`."""
    kind: Any = type_for(spec)  # type: ignore[no-untyped-call]
    arguments = (Call(routine.layout, kind), *(type_of(argument, kind) for argument in routine.arguments))
    passes = QuickPasses if getattr(routine.body, "is_quick", False) else Passes
    return _compile(routine.body, arguments, types.void, _wrap_routine, passes, on_disk)


def assembly(routine: Routine, spec: Spec) -> tuple[code.Made, str]:
    """Compile a routine for `spec`; give its assembly, too."""
    made = compile_routine(routine, spec, on_disk=False)
    return made, made.keeps.get_asm_str()


def compile_entry(entry: Entry) -> code.Made:
    """Compile what Python calls."""
    words: Any = Pointer(types.int64)  # type: ignore[no-untyped-call]
    kinds = {"integer": types.intp, "words": words, "array": types.intp}

    def wrap(context: Any, library: Any, fndesc: Any, name: str) -> None:
        _wrap_entry(entry, context, library, fndesc, name)

    return _compile(entry.body, tuple(kinds[argument] for argument in entry.arguments), types.intp, wrap, QuickPasses)


def _callee(context: Any, module: Any, fndesc: Any) -> Any:
    kind = context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes)
    return ir.Function(module, kind, fndesc.llvm_func_name)


def _call(context: Any, builder: Any, callee: Any, fndesc: Any, values: Any) -> Any:
    """Call the body. Its status is of no interest: no body raises, so that there is nothing to report."""
    call = context.call_conv.call_function
    return call(builder, callee, fndesc.restype, fndesc.argtypes, values, attrs=("noinline",))[1]


def _wrap_routine(context: Any, library: Any, fndesc: Any, name: str) -> None:
    module = context.create_module(name)
    kind = ir.FunctionType(ir.VoidType(), [context.get_value_type(argument) for argument in fndesc.argtypes])
    function = ir.Function(module, kind, name)
    builder = ir.IRBuilder(function.append_basic_block())
    _call(context, builder, _callee(context, module, fndesc), fndesc, function.args)
    builder.ret_void()
    library.add_ir_module(module)


def _wrap_entry(entry: Entry, context: Any, library: Any, fndesc: Any, name: str) -> None:
    """``object *f(object *self, object **arguments, long count)``; see the kinds of arguments in `Entry`."""
    module = context.create_module(name)
    objects = _POINTER.as_pointer()

    def outside(name: str, result: Any, *arguments: Any) -> Any:
        return ir.Function(module, ir.FunctionType(result, arguments), name)

    number = outside("PyLong_AsLongLong", I64, _POINTER)
    address = outside("PyLong_AsVoidPtr", I64.as_pointer(), _POINTER)
    function = ir.Function(module, ir.FunctionType(_POINTER, [_POINTER, objects, I64]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    with builder.if_then(builder.icmp_signed("!=", function.args[2], I64(len(entry.arguments))), likely=False):
        builder.call(outside("PyErr_BadArgument", ir.IntType(32)), [])
        builder.ret(_POINTER(None))
    values = []
    for index, kind in enumerate(entry.arguments):
        item = builder.load(builder.gep(function.args[1], [I64(index)]), align=8)
        if kind == "array":
            place = builder.gep(item, [I64(_ARRAY_DATA)])
            values.append(builder.load(builder.bitcast(place, I64.as_pointer()), align=8))
        else:
            values.append(builder.call(address if kind == "words" else number, [item]))
    raised = builder.call(outside("PyErr_Occurred", _POINTER), [])
    with builder.if_then(builder.icmp_unsigned("!=", raised, _POINTER(None)), likely=False):
        builder.ret(_POINTER(None))  # one of them was no number
    callee = _callee(context, module, fndesc)
    if entry.keeps_gil:
        result = _call(context, builder, callee, fndesc, values)
    else:
        state = builder.call(outside("PyEval_SaveThread", _POINTER), [])
        result = _call(context, builder, callee, fndesc, values)
        builder.call(outside("PyEval_RestoreThread", ir.VoidType(), _POINTER), [state])
    with builder.if_then(builder.icmp_signed("<", result, I64(0)), likely=False):
        builder.ret(builder.call(outside("PyErr_NoMemory", _POINTER), []))
    builder.ret(builder.call(outside("PyLong_FromLongLong", _POINTER, I64), [result]))
    library.add_ir_module(module)


def _inlined(function: Any, passes: type[Passes]) -> Any:
    options = _OPTIONS | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
    return Device(function, targetoptions=options, pipeline_class=passes)


def device(function: Any) -> Any:
    """A function that routines call; compiled and inlined with them, and with no way in from Python or C.

    LLVM left some calls as calls, whose tiles and tuples then went through memory: depthwise took up to 1.24 times as
    long (576 channels of 14x14).
    """
    return _inlined(function, PassesOfInlined)


def device_with_loops(function: Any) -> Any:
    """The same, of which LLVM unrolls and vectorises no loop before it knows what it is called with.

    Doing so twice makes three times as much code: means of 3x3x3 windows took twice as long, of 9x9 1.5 times. Strips
    of depthwise convolutions would take up to 1.4 times as long so.
    """
    return _inlined(function, PassesOfInlinedFirst)


def device_of_launchers(function: Any) -> Any:
    """A function that launchers call: optimised with them, and not before."""
    return _inlined(function, QuickPassesOfInlined)


def quickly(function: Any) -> Any:
    """A routine that LLVM goes through once only.

    For those that were measured: `pack_panels` compiles in half the time, its code is half as long and level or faster.
    `small_pool`, `large_pool` and `counted_median` take 0.4 to 0.65 of the time, their loops are the same for AVX-512,
    and as fast with AVX2. Many others compile no faster; `argpool` would take 1.1 times as long, and `reduce_planes`.
    """
    function.is_quick = True
    return function


def quickly_with_masks(function: Any) -> Any:
    """The same where the processor has masks.

    With AVX-512 `pool` compiles in half the time to the same loops; with AVX2 3x3x3 maxima would take 1.1 times as
    long (Zen 3).
    """
    return quickly(function) if HAS_MASKS else function


def cache_folder() -> str | None:
    """Folder of Numba's cache, None where none can be written."""
    try:
        return str(FunctionCache(cache_folder).cache_path)
    except RuntimeError:
        return None
