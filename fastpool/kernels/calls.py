"""Call blocks: how a routine gets its numbers, addresses and tables.

A call block is a row of 8-byte words. The type of the argument `call` carries the block's `Layout`, so that a kernel
body writes ``call.channels`` and Numba loads a word. Pointers are loaded as pointers: none is ever made from an
integer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, models, register_model

from fastpool.kernels.simd import I8, I64, Pointer, Spec, result_of, source_of

#: First words of every call block. `alone` says that the caller does all tasks, too little to be shared; `x` ... are
#: filled in by the launchers.
HEAD = {
    "function": "integer",
    "tasks": "integer",
    "alone": "integer",
    "x": "source",
    "weights": "elements",
    "bias": "elements",
    "residual": "elements",
    "out": "result",
    "scratch": "elements",
    "indices": "integers",
    "filters": "elements",
}
TASKS, ALONE, FIRST_ADDRESS = 1, 2, 3
ADDRESSES = len(HEAD) - FIRST_ADDRESS
#: Which of the addresses is that of the scratch memory.
SCRATCH = list(HEAD).index("scratch") - FIRST_ADDRESS


@dataclass(frozen=True)
class Layout:
    """Names and kinds of the words of a call block, in order.

    Kinds: ``integer``; ``number`` (a float64); ``bound`` (a float64; where the spec's elements are integers an int64,
    which is exact); ``elements``, ``source``, ``result``, ``integers`` (addresses of elements of the spec's type, of
    the type that is read and widened to it, of the type that is written, of int64); ``routine`` (address of code); or
    the `Layout` of another block that the word points to.
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
                real = kind == "number" or (kind == "bound" and isinstance(values[name], float))
                words[index : index + 1].view(np.float64 if real else np.int64)[0] = values[name]
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


def type_of(kind: Any, spec: Any) -> Any:
    """Numba type of a word or an argument of this kind."""
    if isinstance(kind, Layout):
        return Call(kind, spec)
    return {
        "integer": types.intp,
        "number": types.float64,
        "bound": types.intp if isinstance(spec.dtype, types.Integer) else types.float64,
        "elements": Pointer(spec.dtype),
        "source": Pointer(source_of(spec)),
        "result": Pointer(result_of(spec)),
        "integers": Pointer(types.int64),
        "routine": Code(),
    }[kind]


@infer_getattr
class _CallAttributes(AttributeTemplate):
    key = Call

    def generic_resolve(self, call: Call, name: str) -> Any:
        return call.spec if name == "spec" else type_of(call.layout.words[name], call.spec)


def field_ir(context: Any, builder: Any, call: Call, value: Any, name: str) -> Any:
    """Load the word `name` of the call block at `value`."""
    index = list(call.layout.words).index(name)
    word = builder.gep(value, [I64(index)])
    kind = context.get_value_type(type_of(call.layout.words[name], call.spec))
    return builder.load(builder.bitcast(word, kind.as_pointer()), align=8)


@lower_getattr_generic(Call)
def _call_field(context: Any, builder: Any, call: Call, value: Any, name: str) -> Any:
    return context.get_dummy_value() if name == "spec" else field_ir(context, builder, call, value, name)


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
