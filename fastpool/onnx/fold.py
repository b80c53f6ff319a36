"""Passes over a graph at loading, which need no shapes: constants are computed, scales and shifts go into weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from fastpool.dtypes import FLOATS
from fastpool.onnx.errors import ModelError, Unsupported
from fastpool.onnx.execute import compute
from fastpool.onnx.graph import Graph, Node, changed, users_of, without_unused
from fastpool.onnx.ops.normalisation import check_inference, folded
from fastpool.onnx.ops.pooling import has_constant_divisor
from fastpool.onnx.ops.prepared import handed_over
from fastpool.onnx.tensors import empty

#: Bytes of computed constants, as a multiple of those they come from, that are kept rather than computed in each plan.
_GROWTH = 4
_SMALL = 1 << 20


def fold(graph: Graph, may_fall_back: bool) -> None:
    """Run the passes; `graph` is changed."""
    without_unused(graph)
    _compute_constants(graph, may_fall_back)
    _drop_identities(graph)
    _fold_into_weights(graph)
    without_unused(graph)
    _hand_over(graph)


def _hand_over(graph: Graph) -> None:
    """Let convolutions have their weights for themselves, which they need not keep as they are once they are packed."""
    users = users_of(graph.nodes, graph.outputs)
    for node in graph.nodes:
        name = node.inputs[1] if node.op == "Conv" and not node.domain and len(node.inputs) > 1 else ""
        array = graph.constants.get(name)
        # With a bias that is computed they are packed in every run.
        is_prepared = all(not bias or bias in graph.constants for bias in node.inputs[2:3])
        if array is not None and is_prepared and users[name] == 1 and array.dtype in FLOATS and 3 <= array.ndim <= 5:
            graph.constants[name] = handed_over(array)


def _compute_constants(graph: Graph, may_fall_back: bool) -> None:
    kept = []
    for node in graph.nodes:
        if _is_constant(graph, node):
            given = [graph.constants[name] if name else None for name in (*node.inputs, *node.captured)]
            try:
                found = compute(node, given, graph.limit, may_fall_back)
            except ModelError:
                kept.append(node)  # it may never be needed; if it is, the plan says what is wrong
                continue
            size = sum(array.nbytes for array in given if array is not None)
            if all(isinstance(array, np.ndarray) or array is None for array in found) and sum(
                array.nbytes for array in found if array is not None
            ) <= max(_SMALL, _GROWTH * size):
                graph.constants.update({n: a for n, a in zip(node.outputs, found, strict=True) if n})
                continue
        kept.append(node)
    graph.nodes = kept


def _is_constant(graph: Graph, node: Node) -> bool:
    is_random = node.op.startswith(("Random", "Bernoulli", "Multinomial"))
    return not is_random and all(name in graph.constants for name in node.uses)


def _drop_identities(graph: Graph) -> None:
    """Without Identity and Dropout, where what they give is not an output itself."""
    same: dict[str, str] = {}
    captured = {name for node in graph.nodes for name in node.captured}
    kept = []
    for node in graph.nodes:
        node = changed(node, inputs=tuple(same.get(name, name) for name in node.inputs))
        is_idle = node.op == "Identity" or (
            node.op == "Dropout" and len(node.inputs) == 1 and not any(node.outputs[1:]) and node.version >= 7
        )
        names = {node.outputs[0], *graph.outputs} if is_idle else set()
        if is_idle and not node.domain and len(names) > len(graph.outputs) and node.outputs[0] not in captured:
            same[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    graph.nodes = kept


def _fold_into_weights(graph: Graph) -> None:
    """Normalisations, factors and summands of each channel, and zero padding, become part of convolutions."""
    users = users_of(graph.nodes, graph.outputs)
    places: dict[str, int] = {}
    nodes: list[Node | None] = []
    for node in graph.nodes:
        operands = node.inputs[:2] if node.op in ("Mul", "Add") else node.inputs[:1]
        source = next((places[name] for name in operands if name in places), None)
        before = nodes[source] if source is not None else None
        merged = None
        if before is not None and users[before.outputs[0]] == 1 and not node.domain:
            if node.op == "Conv" and before.op == "Pad":
                merged = _padded(graph, before, node)
                if merged is not None:
                    nodes[source] = None  # type: ignore[index]
                    source = None
            elif before.op in ("Conv", "ConvTranspose"):
                merged = _scaled(graph, before, node, users)
            elif before.op == "AveragePool":
                merged = _subsampled(graph, before, node)
        if merged is None:
            merged, source = node, None
        if source is None:
            nodes.append(merged)
            source = len(nodes) - 1
        else:
            nodes[source] = merged
        if merged.op in ("Conv", "ConvTranspose", "Pad", "AveragePool") and not merged.domain:
            places[merged.outputs[0]] = source
    graph.nodes = [node for node in nodes if node is not None]


def _scaled(graph: Graph, conv: Node, node: Node, users: Counter[str]) -> Node | None:
    """A convolution with what a BatchNormalization, Mul or Add does to its channels in its weights."""
    weight = graph.constants.get(conv.inputs[1])
    bias_name = conv.inputs[2] if len(conv.inputs) > 2 else ""
    bias = graph.constants.get(bias_name)
    if weight is None or (bias_name and bias is None) or weight.dtype not in FLOATS or weight.ndim < 3:
        return None
    groups = conv.attributes.integer("group", 1, 1)
    transposed = conv.op == "ConvTranspose"
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    found = _factor_and_summand(graph, node, conv.outputs[0], channels, weight.ndim, weight.dtype)
    if found is None:
        return None
    factor, summand = found
    if transposed:
        parts = weight.reshape(groups, -1, *weight.shape[1:])
        by = factor.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
        scaled = _product(parts, by).reshape(weight.shape)
    else:
        by = factor.reshape(-1, *(1,) * (weight.ndim - 1))
        scaled = _product(weight, by)
    added = summand if bias is None else bias.astype(np.float64) * factor + summand
    names = _fresh(graph, node.outputs[0])
    if np.all(factor == 1):
        names = (conv.inputs[1], names[1])
    else:
        graph.constants[names[0]] = scaled
        users[conv.inputs[1]] -= 1
        if not users[conv.inputs[1]]:
            del graph.constants[conv.inputs[1]]
        users[names[0]] = 1
    graph.constants[names[1]] = added.astype(weight.dtype)
    users[names[1]] = 1
    return changed(
        conv,
        inputs=(conv.inputs[0], *names),
        outputs=(node.outputs[0],),
        merged=(*conv.merged, node.op),
        state={},
    )


def _product(weight: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply in float64, without a whole array of these: only NumPy's small buffers are as wide."""
    out = empty(weight.shape, weight.dtype)
    np.multiply(weight, factor, out=out, dtype=np.float64, casting="unsafe")
    return out


def _fresh(graph: Graph, name: str) -> tuple[str, str]:
    """Names of constants that nothing has."""
    names = [f"{name}/weight", f"{name}/bias"]
    while any(item in graph.constants for item in names):
        names = [f"{item}'" for item in names]
    return names[0], names[1]


def _factor_and_summand(
    graph: Graph, node: Node, source: str, channels: int, rank: int, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray] | None:
    """What a node multiplies each channel of a value by, and adds to it; None if it does something else."""
    if node.op == "BatchNormalization":
        vectors = [graph.constants.get(name) for name in node.inputs[1:5]]
        try:
            check_inference(node)
        except Unsupported:
            return None
        if len(vectors) < 4 or any(vector is None or vector.shape != (channels,) for vector in vectors):
            return None
        factor, summand = folded(node, *vectors)
        return (factor, summand) if np.isfinite(factor).all() else None
    if node.op not in ("Mul", "Add") or node.version < 7 or len(node.inputs) != 2:
        return None
    value = graph.constants.get(node.inputs[1 if node.inputs[0] == source else 0])
    if value is None or value.dtype != dtype or value.ndim > rank or not np.isfinite(value).all():
        return None
    axes = rank - 2
    if value.size != 1 and (value.size != channels or value.ndim <= axes or value.shape[-axes - 1] != channels):
        return None
    vector = np.broadcast_to(value.reshape(-1), (channels,)).astype(np.float64)
    return (vector, np.zeros(channels)) if node.op == "Mul" else (np.ones(channels), vector)


def _subsampled(graph: Graph, pool: Node, node: Node) -> Node | None:
    """A mean with a factor and a summand of each channel, which is Torch7's subsampling."""
    if node.op not in ("Mul", "Add") or len(node.inputs) != 2:
        return None
    axes = len(pool.attributes.integers("kernel_shape") or ())
    value = graph.constants.get(node.inputs[1 if node.inputs[0] == pool.outputs[0] else 0])
    if value is None or value.dtype not in FLOATS or not has_constant_divisor(pool, axes):
        return None
    channels = value.size
    if pool.merged:
        factor, summand = (graph.constants[name].astype(np.float64) for name in pool.inputs[1:])
    elif channels > 1:
        factor, summand = np.ones(channels), np.zeros(channels)
    else:  # a number for all channels, of which it is not known how many they are
        return None
    found = _factor_and_summand(graph, node, pool.outputs[0], factor.size, axes + 2, value.dtype)
    if found is None or (pool.merged and graph.constants[pool.inputs[1]].dtype != value.dtype):
        return None
    names = _fresh(graph, node.outputs[0])
    graph.constants[names[0]] = (factor * found[0]).astype(value.dtype)
    graph.constants[names[1]] = (summand * found[0] + found[1]).astype(value.dtype)
    return changed(
        pool, inputs=(pool.inputs[0], *names), outputs=node.outputs, merged=(*pool.merged, node.op), state={}
    )


def _padded(graph: Graph, pad: Node, conv: Node) -> Node | None:
    """A convolution that pads itself with zeros."""
    weight = graph.constants.get(conv.inputs[1]) if len(conv.inputs) > 1 else None
    if weight is None or conv.attributes.string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or len(pad.inputs) > 3:
        return None
    if (
        pad.attributes.string("mode", "constant") != "constant"
        or pad.version < 2
        or pad.attributes.number("value", 0.0)
    ):
        return None
    if pad.version < 11:
        pads = pad.attributes.integers("pads")
    else:
        given = graph.constants.get(pad.inputs[1]) if len(pad.inputs) > 1 else None
        pads = None if given is None else [int(item) for item in given.reshape(-1)]
        if len(pad.inputs) > 2 and pad.inputs[2]:
            value = graph.constants.get(pad.inputs[2])
            if value is None or value.any():
                return None
    axes = weight.ndim - 2
    if (
        pads is None
        or len(pads) != 2 * (axes + 2)
        or min(pads) < 0
        or any(pads[i] or pads[axes + 2 + i] for i in (0, 1))
    ):
        return None
    more = pads[2 : axes + 2] + pads[axes + 4 :]
    is_valid = conv.attributes.string("auto_pad", "NOTSET") == "VALID"
    own = None if is_valid else conv.attributes.integers("pads", 2 * axes, 0)
    total = [a + b for a, b in zip(more, own or [0] * (2 * axes), strict=True)]
    return changed(
        conv,
        inputs=(pad.inputs[0], *conv.inputs[1:]),
        attributes=conv.attributes.replaced("pads", total, "auto_pad"),
        merged=("Pad", *conv.merged),
        state={},
    )
