"""Any other operator: by onnx.reference, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from fastpool.onnx.errors import ModelError
from fastpool.onnx.graph import Node
from fastpool.onnx.ops.operator import Arrays, Inputs, Kernel, Task, Value
from fastpool.onnx.ops.prepared import Packed
from fastpool.onnx.tensors import dtype_of, element_of

ALGORITHM = "onnx.reference"
#: Elements of an input from which shape inference need not know its contents.
_LARGEST_KNOWN = 1024


_provider: Callable[[], list[type[Any]]] | None = None


def provide(classes: Callable[[], list[type[Any]]]) -> None:
    """Say what gives the operators that nodes of subgraphs are to be computed by."""
    global _provider
    _provider = classes


def evaluator(node: Node, feeds: Mapping[str, Any]) -> Any:
    """Give onnx.reference's evaluator of a model that is this node alone; made once for each set of input types."""
    kinds = {name: array.dtype for name, array in feeds.items() if isinstance(array, np.ndarray)}
    key = (ALGORITHM, tuple(kinds.items()))
    found = node.state.get(key)
    if found is None:
        from onnx.reference import ReferenceEvaluator

        names = list(dict.fromkeys(node.uses))
        graph = helper.make_graph(
            [_proto(node)],
            "node",
            [
                helper.make_tensor_value_info(name, element_of(kinds[name]), None)
                if name in kinds
                else helper.make_value_info(name, onnx.TypeProto())
                for name in names
            ],
            [helper.make_value_info(name, onnx.TypeProto()) for name in node.outputs if name],
        )
        imports = [helper.make_opsetid(node.domain, node.version)]
        has_subgraph = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.proto.attribute)
        own: list[Any] = []
        if has_subgraph:
            # Their nodes may be of other operator sets than the node itself.
            imports = [helper.make_opsetid(domain, version) for domain, version in node.opsets.items()]
            own = [] if _provider is None else _provider()
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        try:
            found = ReferenceEvaluator(model, new_ops=own or None)
        except Exception as error:
            raise ModelError(
                f"{node.label}: neither fastpool nor onnx.reference has the operator {node.op} of the operator set "
                f"{node.domain or 'ai.onnx'!r}, version {node.version}: {_first_line(error)}"
            ) from None
        node.state[key] = found
    return found


def _proto(node: Node) -> NodeProto:
    """The node with the names that passes over the graph gave to its values."""
    if tuple(node.proto.input) == node.inputs and tuple(node.proto.output) == node.outputs:
        return node.proto
    proto = NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:], proto.output[:]
    proto.input.extend(node.inputs)
    proto.output.extend(node.outputs)
    return proto


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def evaluate(node: Node, feeds: dict[str, Any]) -> list[Any]:
    """Compute a node's outputs."""
    if any(isinstance(array, Packed) for array in feeds.values()):
        raise ModelError(f"{node.label} needs weights that only fastpool's own convolutions can read")
    try:
        found = evaluator(node, feeds).run(None, feeds)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{node.label} fails in onnx.reference: {_first_line(error)}") from error
    results = iter(found)
    return [next(results) if name else None for name in node.outputs]


def infer(node: Node, inputs: Inputs) -> list[Value] | None:
    """Shapes and types of a node's outputs as far as ONNX knows them; None if one of them is open."""
    infos, known = [], []
    for name, value in dict(zip(node.inputs, inputs, strict=False)).items():
        if not name or value is None:
            continue
        element = element_of(value.dtype)
        infos.append(helper.make_tensor_value_info(name, element, value.shape))
        if value.data is not None and value.size <= _LARGEST_KNOWN and element != TensorProto.STRING:
            known.append(numpy_helper.from_array(np.asarray(value.data, order="C"), name))
    wanted = [helper.make_value_info(name, onnx.TypeProto()) for name in node.outputs if name]
    graph = helper.make_graph([_proto(node)], "node", infos, wanted, known)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, node.version)], ir_version=10)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception:  # what is wrong shows when the node is computed
        return None
    found = {info.name: info.type for info in inferred.graph.output}
    values = []
    for name in node.outputs:
        if not name:
            values.append(Value((0,), np.dtype(np.float32)))
            continue
        kind = found[name]
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            return None
        sizes = kind.tensor_type.shape.dim
        dtype = dtype_of(kind.tensor_type.elem_type, node.label) if kind.tensor_type.elem_type else np.dtype(object)
        if dtype.kind in "OUS" or not all(dim.HasField("dim_value") for dim in sizes):
            return None
        values.append(Value(tuple(dim.dim_value for dim in sizes), dtype))
    return values


def fallback(node: Node, inputs: Inputs) -> Kernel | None:
    """A kernel of onnx.reference; None where the shape of its result cannot be told beforehand."""
    outputs = None if node.captured else infer(node, inputs)
    if outputs is None:
        return None

    def make(arrays: Arrays, results: Arrays) -> Task:
        feeds = {name: array for name, array in zip(node.inputs, arrays, strict=False) if name}

        def task() -> None:
            for name, result, array in zip(node.outputs, results, evaluate(node, feeds), strict=False):
                if not name:
                    continue
                array = np.asarray(array)
                if array.shape != result.shape:
                    raise ModelError(f"{node.label}: {name} has shape {array.shape}, inferred was {result.shape}")
                result[...] = array

        return task

    return Kernel(outputs, make, ALGORITHM)
