"""What Numba does with a body on its way to machine code: those of its passes that kernels need, and one of ours."""

from __future__ import annotations

from typing import Any

from numba.core import ir, typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.ir_utils import get_definition, guard

from fastpool.kernels.calls import Call
from fastpool.kernels.simd import KNOWN, Spec


@register_pass(mutates_CFG=False, analysis_only=False)
class _TellKnown(FunctionPass):  # type: ignore[misc]
    """Puts values in place of calls of `known` functions.

    Branches that code of a spec never takes are left out then, and not compiled for LLVM to leave them out: a row of
    tiles, of which there are four kinds in one body, takes a third less time.
    """

    _name = "tell_known"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Do so in the body."""
        body = state.func_ir
        for block in body.blocks.values():
            for statement in block.find_insts(ir.Assign):
                function, spec = _call_of_known(body, state.args, statement.value)
                if function is not None:
                    constant = ir.Const(function(spec), statement.loc)
                    body._definitions[statement.target.name] = [
                        constant if found is statement.value else found
                        for found in body._definitions[statement.target.name]
                    ]
                    statement.value = constant
        return True


def _call_of_known(body: Any, types: Any, value: Any) -> tuple[Any, Any]:
    """Function and spec of a call of a known function; (None, None) of anything else."""
    if not (isinstance(value, ir.Expr) and value.op == "call" and len(value.args) == 1):
        return None, None
    called, spec = guard(get_definition, body, value.func), guard(get_definition, body, value.args[0])
    function = KNOWN.get(called.value) if isinstance(called, ir.Global | ir.FreeVar) else None
    if isinstance(spec, ir.Expr) and spec.op == "getattr" and spec.attr == "spec":
        call = guard(get_definition, body, spec.value)
        kind = types[call.index] if isinstance(call, ir.Arg) else None
        found = kind.spec if isinstance(kind, Call) else None
    else:
        found = types[spec.index] if isinstance(spec, ir.Arg) else None
    return (function, found) if function and isinstance(found, Spec) else (None, None)


#: Without Numba's passes for what no kernel has: closures, context managers, array expressions, calls of `literally`.
#: They find nothing, and take an eighth of the time.
_PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    _TellKnown,
    untyped_passes.DeadBranchPrune,
    untyped_passes.GenericRewrites,
    untyped_passes.ReconstructSSA,
    untyped_passes.DeadBranchPrune,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.AnnotateTypes,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)


class Passes(CompilerBase):  # type: ignore[misc]
    """Takes a body through those passes."""

    #: Where its code goes; None: where Numba's goes.
    library: type[JITCodeLibrary] | None = None

    def define_pipelines(self) -> list[PassManager]:
        """Give the passes in their order."""
        if self.library:
            self.state.library = self.library(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
            self.state.library.enable_object_caching()
        passes = PassManager("kernels")
        for each in _PASSES:
            passes.add_pass(each, "")
        passes.finalize()
        return [passes]


class _Quick(JITCodeLibrary):  # type: ignore[misc]
    """Code that LLVM goes through once, with all that it calls, and not first by function: a fifth of the time."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout


class _Inlined(JITCodeLibrary):  # type: ignore[misc]
    """Code that is inlined into other code only, and of which no machine code is made: a quarter of the time."""

    @property
    def codegen(self) -> _Inlined:
        """What would keep Python's objects of a function beside its machine code."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Keep none."""

    def get_pointer_to_function(self, name: str) -> int:
        """Give 0: there is none."""
        self._ensure_finalized()
        return 0

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _InlinedFirst(_Inlined):
    """The same, of which LLVM unrolls and vectorises no loop before it sees where it is inlined."""

    def _optimize_final_module(self) -> None:
        pass


class PassesOfInlined(Passes):
    """Passes of a function that is inlined only."""

    library = _Inlined


class PassesOfInlinedFirst(Passes):
    """Passes of one whose loops are left as they are until it is inlined."""

    library = _InlinedFirst


class _QuickInlined(_Quick, _InlinedFirst):
    """Code that is inlined into such code."""


class QuickPasses(Passes):
    """Passes of code that is none the faster for more of them: launchers, and what says so of itself."""

    library = _Quick


class QuickPassesOfInlined(Passes):
    """Passes of what is inlined into it."""

    library = _QuickInlined
