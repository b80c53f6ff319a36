"""What an operator is: a function that binds a node to the shapes of its inputs, found in one table by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.graph import Node


@dataclass(frozen=True)
class Value:
    """What is known of a value before it is computed; `data` where that is everything."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of a contiguous array."""
        return self.size * self.dtype.itemsize

    @classmethod
    def of(cls, array: np.ndarray) -> Value:
        """Value that is known."""
        return cls(array.shape, array.dtype, array)


#: A computation with all its arrays; None where there is nothing to do.
Task = Callable[[], object] | None
Arrays = Sequence[Any]


@dataclass
class Kernel:
    """A node bound to the shapes of its inputs. `make` binds it to arrays, `outputs` followed by `scratch`."""

    outputs: list[Value]
    make: Callable[[Arrays, Arrays], Task]
    algorithm: str | Callable[[], str] = "NumPy"
    multiply_adds: int = 0
    parameters: int = 0  #: elements of constants
    is_view: bool = False  #: whether output 0 is input 0, in another shape
    joins: list[int] = field(default_factory=list)  #: byte offsets in output 0 where the inputs go, of a concatenation
    overwrites: tuple[int, ...] = ()  #: inputs whose array output 0 may take
    scratch: list[Value] = field(default_factory=list)
    makes_run: bool = False  #: whether `make` gives a `Run`, or None, and looks at no array's contents


Inputs = Sequence[Value | None]
Binder = Callable[[Node, Inputs], Kernel]

#: (domain, operator) -> function that binds it.
OPERATORS: dict[tuple[str, str], Binder] = {}


def operator(*names: str) -> Callable[[Binder], Binder]:
    """Enter a function under operators of ONNX's own domain."""

    def enter(binder: Binder) -> Binder:
        for name in names:
            OPERATORS["", name] = binder
        return binder

    return enter


def required(node: Node, inputs: Inputs, *names: str) -> list[Value]:
    """Give the first inputs, which must be there."""
    found = []
    for index, name in enumerate(names):
        value = inputs[index] if index < len(inputs) else None
        if value is None:
            raise ModelError(f"{node.label} lacks its input {index}, {name}")
        found.append(value)
    return found


def optional(inputs: Inputs, index: int) -> Value | None:
    """Give an input that may be missing."""
    return inputs[index] if index < len(inputs) else None


def constant(value: Value) -> np.ndarray:
    """Contents of an input that decides about shapes; the fallback takes one that is computed."""
    if value.data is None:
        raise Unsupported("an input that decides about the shape is not constant")
    return value.data


def constant_integers(node: Node, value: Value, name: str) -> list[int]:
    """Give the integers of such an input."""
    data = constant(value)
    if data.dtype.kind not in "iu" or data.ndim > 1:
        raise ModelError(f"{node.label}: its input {name} must be a list of integers, got {data.dtype} {data.shape}")
    return [int(item) for item in data.reshape(-1)]


def axis_of(node: Node, axis: int, rank: int, name: str = "axis", extra: int = 0) -> int:
    """Give an axis counted from the front."""
    if not -rank <= axis < rank + extra:
        raise ModelError(f"{node.label}: {name} must be in [{-rank}, {rank + extra}), got {axis}")
    return axis + rank if axis < 0 else axis


def axes_of(node: Node, axes: Sequence[int], rank: int) -> list[int]:
    """Give several axes counted from the front, none twice."""
    found = [axis_of(node, axis, rank, "axes") for axis in axes]
    if len(set(found)) < len(found):
        raise ModelError(f"{node.label}: axes must not name one twice, got {list(axes)}")
    return found


def computed(outputs: list[Value], function: Callable[..., Any], **fields: Any) -> Kernel:
    """A kernel that copies what a function of the inputs returns."""

    def make(inputs: Arrays, results: Arrays) -> Task:
        def task() -> None:
            found = function(*inputs)
            found = found if isinstance(found, tuple) else (found,)
            for result, array in zip(results, found, strict=False):
                if result is not None:
                    result[...] = array

        return task

    return Kernel(outputs, make, **fields)


def moved(output: Value, view: Callable[[np.ndarray], np.ndarray], **fields: Any) -> Kernel:
    """A kernel that copies a view of its first input."""

    def make(inputs: Arrays, results: Arrays) -> Task:
        source, target = view(inputs[0]), results[0]
        return lambda: np.copyto(target, source)

    return Kernel([output], make, **fields)


def known(*arrays: np.ndarray) -> Kernel:
    """A kernel whose outputs are known already."""
    return Kernel([Value.of(array) for array in arrays], lambda inputs, outputs: None)


def numbers(node: Node, x: Value, kinds: str = "iuf") -> None:
    """Leave elements of other kinds to the fallback."""
    if x.dtype.kind not in kinds or x.dtype.isbuiltin != 1:
        raise Unsupported(f"elements of {x.dtype}")


def unary(x: Value, function: Callable[[np.ndarray, np.ndarray], object], **fields: Any) -> Kernel:
    """A kernel of a function (x, out) that may write over x."""

    def make(inputs: Arrays, outputs: Arrays) -> Task:
        source, out = inputs[0], outputs[0]
        return lambda: function(source, out)

    return Kernel([Value(x.shape, x.dtype)], make, overwrites=(0,), **fields)
