"""A model's graph, checked: nodes in an order in which they can run, inputs, outputs and constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from fastpool.onnx.attributes import Attributes
from fastpool.onnx.errors import ModelError
from fastpool.onnx.reading import Source
from fastpool.onnx.tensors import array_of, dtype_of

#: Two names of ONNX's own domain.
_OWN = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """An operator at work. Passes over the graph make new nodes; `state` goes along with what was prepared for it."""

    op: str
    domain: str  #: empty for ONNX's own
    label: str
    inputs: tuple[str, ...]  #: empty where an optional one is missing
    outputs: tuple[str, ...]
    attributes: Attributes
    version: int  #: of the operator set of its domain
    opsets: dict[str, int]  #: of all domains
    proto: NodeProto
    captured: tuple[str, ...] = ()  #: what its subgraphs take from around them
    bounds: tuple[float | None, float | None] | None = None  #: of an activation that is part of it
    has_residual: bool = False  #: whether its last input is added to its result before the activation
    merged: tuple[str, ...] = ()  #: operators that are now part of it
    state: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def uses(self) -> tuple[str, ...]:
        """All values that it needs."""
        return tuple(name for name in self.inputs + self.captured if name)


@dataclass(frozen=True)
class Input:
    """What may be given to a model."""

    name: str
    dtype: np.dtype[Any] | None  #: None for what is no tensor
    shape: tuple[int | str | None, ...] | None  #: names and None stand for any size


@dataclass
class Graph:
    """A checked graph."""

    name: str
    nodes: list[Node]
    inputs: dict[str, Input]
    outputs: tuple[str, ...]
    constants: dict[str, np.ndarray]
    opsets: dict[str, int]
    ir_version: int
    limit: int


def graph_of(source: Source, limit: int) -> Graph:
    """Check a model and take it apart."""
    proto = _inlined(source.proto)
    opsets = _opsets(proto)
    body = proto.graph
    if body.sparse_initializer:
        raise ModelError("sparse initialisers are not supported")
    constants = {}
    for index, tensor in enumerate(body.initializer):
        if not tensor.name or tensor.name in constants:
            raise ModelError(f"two initialisers have the name {tensor.name!r}, or it is empty")
        found = source.weights.get(index)
        what = f"initialiser {tensor.name!r}"
        constants[tensor.name] = array_of(tensor, source.folder, limit, what) if found is None else found
    inputs: dict[str, Input] = {}
    for info in body.input:
        if not info.name or info.name in inputs:
            raise ModelError(f"two inputs have the name {info.name!r}, or it is empty")
        inputs[info.name] = _input(info)
    inputs = {name: item for name, item in inputs.items() if name not in constants}
    outputs = tuple(info.name for info in body.output)
    if not outputs:
        raise ModelError("the graph has no outputs")
    if len(set(outputs)) < len(outputs):
        raise ModelError(f"two outputs have the same name: {_twice(outputs)}")
    nodes = _nodes(body.node, opsets)
    produced = [name for node in nodes for name in node.outputs if name]
    doubled = _twice([*produced, *inputs, *constants])
    if doubled:
        raise ModelError(f"the value {doubled!r} is made twice")
    known = {*produced, *inputs, *constants}
    for node in nodes:
        for name in node.uses:
            if name not in known:
                raise ModelError(f"{node.label} needs the value {name!r}, which nothing makes")
    for name in outputs:
        if name not in known:
            raise ModelError(f"the output {name!r} is made by nothing")
    ordered = _in_order(nodes, {*inputs, *constants})
    return Graph(body.name, ordered, inputs, outputs, constants, opsets, proto.ir_version, limit)


def _inlined(proto: ModelProto) -> ModelProto:
    if not proto.functions:
        return proto
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:
        raise ModelError(f"the model's functions cannot be inlined: {error}") from None


def _opsets(proto: ModelProto) -> dict[str, int]:
    opsets: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain in _OWN else entry.domain
        if opsets.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"two versions of the operator set {domain or 'ai.onnx'!r}")
    if not opsets and proto.ir_version < 3:
        opsets[""] = 1
    for domain, version in opsets.items():
        newest = onnx.defs.onnx_opset_version() if domain == "" else None
        if version < 1 or (newest is not None and version > newest):
            raise ModelError(f"the operator set {domain or 'ai.onnx'!r} has version {version}, known are 1 to {newest}")
    return opsets


def _input(info: ValueInfoProto) -> Input:
    what = f"input {info.name!r}"
    if not info.type.HasField("tensor_type"):
        return Input(info.name, None, None)
    tensor = info.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        sizes: list[int | str | None] = []
        for dim in tensor.shape.dim:
            if dim.HasField("dim_value"):
                if dim.dim_value < 0:
                    raise ModelError(f"{what} has a negative size: {dim.dim_value}")
                sizes.append(dim.dim_value)
            else:
                sizes.append(dim.dim_param or None)
        shape = tuple(sizes)
    return Input(info.name, dtype_of(tensor.elem_type, what), shape)


def _nodes(protos: Iterable[NodeProto], opsets: dict[str, int]) -> list[Node]:
    counts: Counter[str] = Counter()
    nodes = []
    for proto in protos:
        counts[proto.op_type] += 1
        label = f"{proto.op_type} {proto.name!r}" if proto.name else f"{proto.op_type} {counts[proto.op_type]}"
        domain = "" if proto.domain in _OWN else proto.domain
        if domain not in opsets:
            raise ModelError(f"{label} is of the operator set {domain or 'ai.onnx'!r}, which the model does not import")
        nodes.append(
            Node(
                proto.op_type,
                domain,
                label,
                tuple(proto.input),
                tuple(proto.output),
                Attributes(proto, label),
                opsets[domain],
                opsets,
                proto,
                tuple(sorted(_captured(proto))),
            )
        )
    return nodes


def _captured(proto: NodeProto) -> set[str]:
    found: set[str] = set()
    for attribute in proto.attribute:
        graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
        for graph in graphs:
            found |= _free(graph)
    return found


def _free(graph: GraphProto) -> set[str]:
    """Names that a subgraph uses and does not make."""
    made = {item.name for item in (*graph.input, *graph.initializer)}
    made |= {name for node in graph.node for name in node.output}
    used = {name for node in graph.node for name in node.input if name} | {item.name for item in graph.output}
    for node in graph.node:
        used |= _captured(node)
    return used - made


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _in_order(nodes: list[Node], known: set[str]) -> list[Node]:
    """Nodes so that each comes after what it needs; as they are, if they already do."""
    waiting = {index: {name for name in node.uses if name not in known} for index, node in enumerate(nodes)}
    users: dict[str, list[int]] = {}
    for index, names in waiting.items():
        for name in names:
            users.setdefault(name, []).append(index)
    # The smallest position first keeps an order that is right.
    ready = [index for index, names in waiting.items() if not names]
    heapify(ready)
    ordered = []
    while ready:
        index = heappop(ready)
        ordered.append(nodes[index])
        for name in nodes[index].outputs:
            for user in users.get(name, ()):
                waiting[user].discard(name)
                if not waiting[user]:
                    heappush(ready, user)
            users.pop(name, None)
    if len(ordered) < len(nodes):
        stuck = next(node for index, node in enumerate(nodes) if waiting[index])
        raise ModelError(f"the graph has a cycle: {stuck.label} needs what comes of it")
    return ordered


def without_unused(graph: Graph) -> None:
    """Drop nodes and constants of which no output comes."""
    needed = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.uses)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = {name: array for name, array in graph.constants.items() if name in needed}


def users_of(nodes: Iterable[Node], outputs: Iterable[str]) -> Counter[str]:
    """How often each value is used; an output of the graph once more."""
    return Counter([name for node in nodes for name in node.uses] + list(outputs))


def changed(node: Node, **fields: Any) -> Node:
    """A node with other fields, and with its state."""
    return replace(node, **fields)
