"""Call blocks in Numba: ``call.channels`` in a body loads the word that the layout has for it.

Pointers are loaded as pointers: none is ever made from an integer.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, lower_getattr_generic, models, register_model

from fastpool.kernels.simd import I8, I64, Pointer, Spec, result_of, source_of
from fastpool.machine.store import fingerprint
from fastpool.routines.layout import Layout


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


@intrinsic
def exists(typingctx, code):
    """Whether there is a routine."""

    def codegen(context, builder, sig, args):
        return builder.icmp_unsigned("!=", builder.ptrtoint(args[0], I64), I64(0))

    return types.boolean(code), codegen


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
