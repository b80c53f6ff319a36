"""How kernels become machine code: the only file with Numba's flags, the cache and its guard.

A *routine* is a module-level function ``body(call, ...)``. Numba compiles it once for each `Spec` (element type and tile)
into a C function. Its address goes into a *call block*, a row of 8-byte words with the numbers, addresses and tables
of one call; the type of `call` carries the block's `Layout`, so that a body writes ``call.channels``. A *kernel* is a
routine ``body(call, task, thread)`` that `launch` runs for every task.

Why addresses, and not functions that Numba inlines: the parallel region is compiled once for the whole package, a driver
once for an element type, and a further tile costs 0.3 s instead of 2 s. The serial twin of a kernel is the very same
machine code. An indirect call costs nanoseconds, for a row of tiles.
"""

from __future__ import annotations

import hashlib
import threading
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.ccallback import CFunc
from numba.core.errors import NumbaError
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, models, register_model

from fastpool.kernels.simd import I8, I64, Pointer, Spec

#: First words of every call block. `x` ... `scratch` are filled in by `launch`.
HEAD = {
    "function": "integer",
    "tasks": "integer",
    "x": "elements",
    "weights": "elements",
    "bias": "elements",
    "residual": "elements",
    "out": "elements",
    "scratch": "elements",
    "indices": "integers",
}
FIRST_ADDRESS = 2
ADDRESSES = len(HEAD) - FIRST_ADDRESS


@dataclass(frozen=True)
class Layout:
    """Names and kinds of the words of a call block, in order.

    Kinds: ``integer``; ``number`` (a float64); ``elements``, ``integers`` (addresses of elements of the spec's type, of
    int64); ``routine`` (address of code); or the `Layout` of another block that the word points to.
    """

    name: str
    fields: dict[str, Any] = field(hash=False)
    has_head: bool = True

    @property
    def words(self) -> dict[str, Any]:
        """Head, if any, and fields."""
        return HEAD | self.fields if self.has_head else self.fields

    def block(self, **values: int | float) -> np.ndarray:
        """Words of one call, without those that `launch` fills in; every field must be given."""
        given = set(values) - {"tasks"}
        if given != set(self.fields):
            raise TypeError(f"{self.name}: missing or unknown fields {sorted(given ^ set(self.fields))}")
        words = np.zeros(len(self.words), np.int64)
        for index, (name, kind) in enumerate(self.words.items()):
            if name in values:
                words[index : index + 1].view(np.float64 if kind == "number" else np.int64)[0] = values[name]
        return words


@cache
def fingerprint() -> str:
    """Digest of all that machine code depends on besides the body's own file, which is all that Numba's cache sees."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


class Call(types.Type):
    """Type of a call block: address of its words, with layout and spec."""

    def __init__(self, layout: Layout, spec: Spec):
        self.layout, self.spec = layout, spec
        super().__init__(name=f"Call({layout.name},{spec},{fingerprint()})")


@register_model(Call)
class _CallModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, I64.as_pointer())


class Code(types.Type):
    """Type of the address of a routine."""

    def __init__(self) -> None:
        super().__init__(name="Code")


@register_model(Code)
class _CodeModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, I8.as_pointer())


def _type_of(kind: Any, spec: Any) -> Any:
    if isinstance(kind, Layout):
        return Call(kind, spec)
    return {
        "integer": types.intp,
        "number": types.float64,
        "elements": Pointer(spec.dtype),
        "integers": Pointer(types.int64),
        "routine": Code(),
    }[kind]


@infer_getattr
class _CallAttributes(AttributeTemplate):
    key = Call

    def generic_resolve(self, call: Call, name: str) -> Any:
        return call.spec if name == "spec" else _type_of(call.layout.words[name], call.spec)


@lower_getattr_generic(Call)
def _call_field(context: Any, builder: Any, call: Call, value: Any, name: str) -> Any:
    if name == "spec":
        return context.get_dummy_value()
    index = list(call.layout.words).index(name)
    word = builder.gep(value, [I64(index)])
    kind = context.get_value_type(_type_of(call.layout.words[name], call.spec))
    return builder.load(builder.bitcast(word, kind.as_pointer()), align=8)


@intrinsic
def invoke(typingctx: Any, code: Any, call: Any, *arguments: Any) -> Any:
    """Call the routine at address `code`."""
    signature = types.void(code, call, types.StarArgTuple.from_types(arguments))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        code, call, packed = args
        values = [call] + [builder.extract_value(packed, i) for i in range(len(arguments))]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.bitcast(code, kind.as_pointer()), values)
        return context.get_dummy_value()

    return signature, codegen


@dataclass(frozen=True)
class Compiled:
    """Machine code of a kernel for one spec."""

    address: int
    cached: bool
    function: CFunc = field(repr=False)


_OPTIONS = {"nopython": True, "error_model": "numpy", "boundscheck": False}
_warned = False
_lock = threading.Lock()


def _warn_uncached(reason: BaseException) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels cannot be kept on disk ({reason}); they are compiled anew in every process. "
            "Set NUMBA_CACHE_DIR to a writable folder.",
            RuntimeWarning,
            stacklevel=2,
        )


def _compile(routine: Routine, spec: Spec, disk_cache: bool = True) -> Compiled:
    """Compile a routine for `spec`, or load it from the disk cache."""
    arguments = (Call(routine.layout, spec), *(_type_of(kind, spec) for kind in routine.arguments))
    signature = (arguments, types.void)
    if disk_cache:
        try:
            function = CFunc(routine.body, signature, locals={}, options=dict(_OPTIONS))
            function.enable_caching()
            function.compile()
            return Compiled(function.address, function.cache_hits > 0, function)
        except NumbaError:
            raise
        except Exception as reason:  # no writable folder, full disk, damaged entry: the code itself is fine
            _warn_uncached(reason)
    function = CFunc(routine.body, signature, locals={}, options=dict(_OPTIONS))
    function.compile()
    return Compiled(function.address, False, function)


@dataclass(frozen=True)
class Routine:
    """A body, the layout of its call block, the kinds of its further arguments; machine code for each spec asked for."""

    body: Any
    layout: Layout
    arguments: tuple[Any, ...]
    compiled: dict[Spec, Compiled] = field(default_factory=dict, compare=False, repr=False)

    def address(self, spec: Spec) -> int:
        """Address of the machine code for `spec`."""
        found = self.compiled.get(spec)
        if found is None:
            with _lock:
                found = self.compiled.get(spec) or _compile(self, spec)
                self.compiled[spec] = found
        return found.address

    def assembly(self, spec: Spec) -> str:
        """Assembly of the machine code for `spec`, compiled anew (code from the disk cache has no text)."""
        return str(_compile(self, spec, disk_cache=False).function._library.get_asm_str())


def kernel(layout: Layout) -> Any:
    """Decorator: ``body(call, task, thread)`` with this call block becomes a kernel."""
    return routine(layout, "integer", "integer")


def routine(layout: Layout, *arguments: Any) -> Any:
    """Decorator: ``body(call, *arguments)``, with arguments of these kinds, becomes a `Routine`."""

    def decorate(body: Any) -> Routine:
        return Routine(body, layout, arguments)

    return decorate


def device(function: Any) -> Any:
    """A function that routines call; compiled and inlined with them."""
    return numba.njit(function, error_model="numpy", boundscheck=False)


def launcher(function: Any, parallel: bool) -> Any:
    """Compile a function of `_launch`; it lets go of the GIL while it runs."""
    options = {"nogil": True, "parallel": parallel, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError as reason:  # no folder for the cache
        _warn_uncached(reason)
        return numba.njit(function, **options)
