"""Attributes of a node, checked as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import AttributeProto, NodeProto, helper

from fastpool.onnx.errors import ModelError

_KINDS: dict[int, str] = {
    AttributeProto.INT: "an integer",
    AttributeProto.FLOAT: "a number",
    AttributeProto.STRING: "a string",
    AttributeProto.INTS: "integers",
    AttributeProto.FLOATS: "numbers",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSOR: "a tensor",
    AttributeProto.GRAPH: "a graph",
}


class Attributes:
    """What a node was given by name; every reader refuses a value of another kind."""

    def __init__(self, proto: NodeProto, label: str):
        self._label = label
        self._protos: dict[str, AttributeProto] = {}
        for attribute in proto.attribute:
            if attribute.name in self._protos:
                raise ModelError(f"{label} has the attribute {attribute.name!r} twice")
            if attribute.ref_attr_name:
                raise ModelError(f"{label}: the attribute {attribute.name!r} refers to one of a function outside it")
            self._protos[attribute.name] = attribute

    def __contains__(self, name: str) -> bool:
        return name in self._protos

    def _get(self, name: str, *kinds: int) -> AttributeProto | None:
        found = self._protos.get(name)
        if found is not None and found.type not in kinds:
            raise ModelError(
                f"{self._label}: the attribute {name!r} must be {_KINDS[kinds[0]]}, "
                f"got {_KINDS.get(found.type, 'something else')}"
            )
        return found

    def integer(self, name: str, default: int, low: int | None = None) -> int:
        """Give an integer, at least `low`."""
        found = self._get(name, AttributeProto.INT)
        value = default if found is None else int(found.i)
        if low is not None and value < low:
            raise ModelError(f"{self._label}: the attribute {name!r} must be at least {low}, got {value}")
        return value

    def number(self, name: str, default: float) -> float:
        """Give a number; an integer is one, as LpPool's p was a float once."""
        found = self._get(name, AttributeProto.FLOAT, AttributeProto.INT)
        if found is None:
            return default
        return float(found.f) if found.type == AttributeProto.FLOAT else float(found.i)

    def flag(self, name: str, default: bool = False) -> bool:
        """Give an integer as a truth value."""
        return bool(self.integer(name, int(default)))

    def string(self, name: str, default: str, allowed: Sequence[str] = ()) -> str:
        """Give a string, one of those that are allowed."""
        found = self._get(name, AttributeProto.STRING)
        value = default if found is None else found.s.decode("utf-8", "replace")
        if allowed and value not in allowed:
            raise ModelError(f"{self._label}: the attribute {name!r} must be one of {tuple(allowed)}, got {value!r}")
        return value

    def integers(self, name: str, length: int | None = None, low: int | None = None) -> list[int] | None:
        """Give integers, `length` of them and each at least `low`; None where there are none."""
        found = self._get(name, AttributeProto.INTS)
        if found is None:
            return None
        values = [int(value) for value in found.ints]
        if length is not None and len(values) != length:
            raise ModelError(f"{self._label}: the attribute {name!r} must have {length} integers, got {values}")
        if low is not None and any(value < low for value in values):
            raise ModelError(f"{self._label}: the attribute {name!r} must have integers from {low} on, got {values}")
        return values

    def numbers(self, name: str) -> list[float] | None:
        """Give numbers; None where there are none."""
        found = self._get(name, AttributeProto.FLOATS)
        return None if found is None else [float(value) for value in found.floats]

    def proto(self, name: str, kind: int) -> Any:
        """Give the attribute itself, of one kind; None where there is none."""
        return self._get(name, kind)

    def replaced(self, name: str, value: Any, *dropped: str) -> Attributes:
        """Attributes with another value of one of them, and without some."""
        other = Attributes(NodeProto(), self._label)
        other._protos = {key: item for key, item in self._protos.items() if key not in dropped}
        other._protos[name] = helper.make_attribute(name, value)
        return other
