"""Passes over a graph whose shapes are known: additions and activations become part of what is added and activated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastpool.dtypes import FLOATS
from fastpool.onnx.graph import Node, changed, users_of
from fastpool.onnx.ops.activation import are_ordered, bounds_of
from fastpool.onnx.ops.operator import Value

#: Operators that take an activation on their way to memory.
_ACTIVATED = ("Conv", "ConvTranspose", "BatchNormalization", "Add", "Gemm")

#: Operators whose product with their input is one, too: what a sigmoid becomes, and one of straight lines.
_GATED = {"Sigmoid": "Swish", "HardSigmoid": "HardSwish"}
#: Of 1/6 as a float32.
_ROUNDING = 1e-7

Values = Mapping[str, Value | None]


def fuse(nodes: Sequence[Node], values: Values, outputs: Sequence[str]) -> list[Node]:
    """Nodes with the same results for these values, and fewer of them."""
    users = users_of(nodes, outputs)
    fused: list[Node | None] = []
    places: dict[str, int] = {}
    for node in _with_common_prefixes(nodes):
        if not node.domain and node.op == "Add":
            place = _addend(node, fused, places, values, users)
        elif not node.domain and node.op in ("Relu", "Clip"):
            place = _activated(node, fused, places, values, users)
        elif not node.domain and node.op == "Mul":
            place = _gated(node, fused, places, values, users)
        else:
            place = None
        if place is None:
            place = len(fused)
            fused.append(node)
        else:
            before = fused[place]
            assert before is not None
            fused[place] = _merged(before, node, values)
        for name in node.outputs:
            if name:
                places[name] = place
    return [node for node in fused if node is not None]


def _merged(before: Node, node: Node, values: Values) -> Node:
    if node.op == "Mul":
        op = _GATED[before.op]
        return changed(before, op=op, outputs=node.outputs, merged=(*before.merged, "Mul"), state={})
    if node.op == "Add":
        other = node.inputs[1] if node.inputs[0] == before.outputs[0] else node.inputs[0]
        inputs = (*before.inputs, "")[:3]
        return changed(
            before, inputs=(*inputs, other), outputs=node.outputs, has_residual=True, merged=(*before.merged, "Add")
        )
    bounds = bounds_of(node, [values.get(name) for name in node.inputs])
    return changed(before, outputs=node.outputs, bounds=bounds, merged=(*before.merged, node.op))


def _addend(
    node: Node, fused: Sequence[Node | None], places: Mapping[str, int], values: Values, users: Mapping[str, int]
) -> int | None:
    """Place of the convolution that can add the other summand: the later one, so that this is computed before it."""
    if len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
        return None
    a, b, result = (values.get(name) for name in (*node.inputs, node.outputs[0]))
    if a is None or b is None or result is None or not a.shape == b.shape == result.shape:
        return None
    candidates = []
    for own, other in (node.inputs, node.inputs[::-1]):
        place = places.get(own)
        before = None if place is None else fused[place]
        if place is None or before is None or before.op != "Conv" or before.domain or users[own] != 1:
            continue
        weight = values.get(before.inputs[1])
        if before.bounds is not None or before.has_residual or weight is None or weight.data is None:
            continue
        if weight.dtype in FLOATS and places.get(other, -1) < place:
            candidates.append(place)
    return max(candidates, default=None)


def _gated(
    node: Node, fused: Sequence[Node | None], places: Mapping[str, int], values: Values, users: Mapping[str, int]
) -> int | None:
    """Place of the sigmoid that this multiplies by what it was computed from."""
    for own, other in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 else ():
        place = places.get(own)
        before = None if place is None else fused[place]
        if before is None or before.domain or before.op not in _GATED or users[own] != 1:
            continue
        x = values.get(other)
        if before.inputs[0] != other or x is None or x.dtype not in FLOATS:
            continue
        slope, middle = (before.attributes.number(name, default) for name, default in (("alpha", 0.2), ("beta", 0.5)))
        if before.op == "Sigmoid" or (abs(slope - 1 / 6) < _ROUNDING and middle == 0.5):
            return place
    return None


def _activated(
    node: Node, fused: Sequence[Node | None], places: Mapping[str, int], values: Values, users: Mapping[str, int]
) -> int | None:
    """Place of the node that can bound its own results."""
    place = places.get(node.inputs[0])
    before = None if place is None else fused[place]
    if before is None or before.domain or before.op not in _ACTIVATED or before.bounds is not None:
        return None
    result = values.get(node.inputs[0])
    if users[node.inputs[0]] != 1 or any(before.outputs[1:]) or result is None or result.dtype not in FLOATS:
        return None
    bounds = bounds_of(node, [values.get(name) for name in node.inputs])
    return place if bounds is not None and are_ordered(bounds) else None


def _with_common_prefixes(nodes: Sequence[Node]) -> list[Node]:
    """Concatenations that begin with all of another one take its result, which then is written in place.

    Dense blocks join all that came before again and again.
    """
    seen: dict[tuple[str, int, tuple[str, ...]], str] = {}
    result = []
    for node in nodes:
        if node.op == "Concat" and not node.domain and all(node.inputs):
            axis = node.attributes.integer("axis", 1)
            given = node.inputs
            for count in range(len(given) - 1, 1, -1):
                found = seen.get(("Concat", axis, given[:count]))
                if found is not None:
                    node = changed(node, inputs=(found, *given[count:]))
                    break
            seen.setdefault(("Concat", axis, given), node.outputs[0])
        result.append(node)
    return result
