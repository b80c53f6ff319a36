"""fastpool's operators as classes for onnx.reference.ReferenceEvaluator."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastpool.onnx.attributes import Attributes
from fastpool.onnx.execute import compute
from fastpool.onnx.graph import Node
from fastpool.onnx.limits import DEFAULT_BYTES
from fastpool.onnx.ops.fallback import provide

#: Operators of convolution, pooling and normalisation.
NAMES = (
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DepthToSpace",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "LRN",
    "LpPool",
    "MaxPool",
    "MaxUnpool",
    "QLinearConv",
    "SpaceToDepth",
)


def reference_ops() -> list[type[Any]]:
    """Give classes for ``onnx.reference.ReferenceEvaluator(model, new_ops=...)``.

    Returns
    -------
    list of classes
        The operators of convolution, pooling and normalisation, in fastpool's kernels: exact where onnx.reference is
        not, and fast.

    Examples
    --------
    >>> import fastpool.onnx
    >>> sorted(op.__name__ for op in fastpool.onnx.reference_ops())[:3]
    ['AveragePool', 'BatchNormalization', 'Conv']
    """
    return list(_classes())


@lru_cache(maxsize=1)
def _classes() -> tuple[type[Any], ...]:
    from onnx.reference.op_run import OpRun

    def run(self: Any, *inputs: Any, **overridden: Any) -> tuple[Any, ...]:
        proto = self.onnx_node
        version = self.run_params["opsets"][proto.domain]
        label = f"{proto.op_type} {proto.name!r}"
        given = (*inputs, *(None,) * (len(proto.input) - len(inputs)))
        names = tuple(name if array is not None else "" for name, array in zip(proto.input, given, strict=False))
        node = Node(
            proto.op_type,
            "",
            label,
            names,
            tuple(proto.output),
            Attributes(proto, label),
            version,
            dict(self.run_params["opsets"]),
            proto,
        )
        return tuple(compute(node, given, DEFAULT_BYTES))

    return tuple(
        type(name, (OpRun,), {"op_domain": "", "_run": run, "__doc__": f"ONNX's {name} in fastpool's kernels."})
        for name in NAMES
    )


provide(reference_ops)
