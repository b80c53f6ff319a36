"""What kernels are compiled for: Numba's processor target with numbers, tuples and ranges, and nothing else.

Numba knows arrays, strings, dictionaries and much of NumPy and SciPy. Kernels use none of it, yet loading it takes
0.5 s, and every sum of two integers is looked for among NumPy's operators as well.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from numba.core import config, typing
from numba.core.cpu import CPUContext, CPUTargetOptions
from numba.core.descriptors import TargetDescriptor
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry
from numba.core.types import Function, unliteral  # type: ignore[attr-defined]

_NAME = "fastpool"


class _Kernels(CPU):  # type: ignore[misc]
    """Token of the target, as Numba's extensions have one."""


class _Types(typing.BaseContext):  # type: ignore[misc]
    """Types of what is built in."""

    def init(self) -> None:
        """Begin without anything known."""
        self._resolved: dict[Any, Any] = {}

    def resolve_function_type(self, function: Any, arguments: Any, keywords: Any) -> Any:
        """Give the signature of a call; that of an operator or an intrinsic is always the same."""
        if keywords or not isinstance(function, Function):
            return super().resolve_function_type(function, arguments, keywords)
        key = function, tuple(arguments)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = super().resolve_function_type(function, arguments, keywords)
        return found


class _Code(CPUContext):  # type: ignore[misc]
    """Code of what is built in."""

    def load_additional_registries(self) -> None:
        """Load what kernels use."""
        from numba.core import optional  # noqa: F401
        from numba.cpython import builtins, iterators, numbers, rangeobj, tupleobj  # noqa: F401

        if not config.OPT:
            rtsys.initialize(cpu_target.target_context)

    def post_lowering(self, module: Any, library: Any) -> None:
        """Do not link what counts references: there are none, but where LLVM does not leave out what is never run."""
        if not config.OPT:
            super().post_lowering(module, library)


class _Description(TargetDescriptor):  # type: ignore[misc]
    options = CPUTargetOptions

    @cached_property
    def typing_context(self) -> Any:
        """Give the one context."""
        return _Types()

    @cached_property
    def target_context(self) -> Any:
        """Give the one context."""
        return _Code(self.typing_context, _NAME)


target_registry[_NAME] = _Kernels
target = _Description(_NAME)


class Device(Dispatcher):
    """A function that is compiled for this target, and called from others."""

    targetdescr = target

    def get_call_template(self, arguments: Any, keywords: Any) -> Any:
        """Compile for a number, not for each number that stands in a call: inlined, it becomes one by itself."""
        return super().get_call_template([unliteral(each) for each in arguments], keywords)


def _decorator(**options: Any) -> Any:
    """Give what Numba makes functions with that are its own: largest and smallest of some numbers."""
    return partial(Device, targetoptions={"nopython": True} | options)


dispatcher_registry[_Kernels] = Device
jit_registry[_Kernels] = _decorator


def chosen() -> Any:
    """Context in which this is the target."""
    return target_override(_NAME)
