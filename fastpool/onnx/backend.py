"""ONNX's Backend interface: `prepare`, `run_model`, `run_node`, `supports_device`.

>>> import numpy as np
>>> from onnx import helper
>>> from fastpool.onnx import backend
>>> node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2])
>>> backend.run_node(node, [np.array([[[1.0, 3.0, 2.0]]], np.float32)])[0]
array([[[3., 3.]]], dtype=float32)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper
from onnx.backend.base import Backend, BackendRep, namedtupledict

from fastpool.onnx.model import Model, load
from fastpool.onnx.tensors import element_of


class PreparedModel(BackendRep):
    """A model that was loaded, to be run on lists of arrays."""

    def __init__(self, model: Model):
        self.model = model

    def run(self, inputs: Any, **_: Any) -> tuple[Any, ...]:
        """Compute the outputs from arrays in the order of the inputs, or by name."""
        names = self.model.input_names
        if not isinstance(inputs, Mapping):
            arrays = list(inputs) if isinstance(inputs, Sequence) else [inputs]
            if len(arrays) != len(names):
                raise ValueError(f"inputs must be {len(names)} arrays, for {names}, got {len(arrays)}")
            inputs = dict(zip(names, arrays, strict=True))
        ready = {name: np.asarray(array) if isinstance(array, np.generic) else array for name, array in inputs.items()}
        found = self.model.run(ready)
        return namedtupledict("Outputs", list(found))(*found.values())


class FastpoolBackend(Backend):
    """Backend that runs models in fastpool."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a device is there: only the CPU is."""
        return device.split(":")[0] == "CPU"

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """Load a model.

        Parameters
        ----------
        model : onnx.ModelProto
            The model.
        device : str
            "CPU".
        **kwargs
            Options of `fastpool.onnx.load`.

        Returns
        -------
        PreparedModel
            Whose method `run` takes a list of arrays.
        """
        if not cls.supports_device(device):
            raise ValueError(f"device must be 'CPU', got {device!r}")
        options = {name: kwargs[name] for name in ("max_bytes", "fallback") if name in kwargs}
        return PreparedModel(load(model, **options))

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Load a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run one operator, of the newest operator set unless `opset_version` says another."""
        names = list(dict.fromkeys(name for name in node.input if name))
        given = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=True))
        infos = [
            helper.make_tensor_value_info(name, element_of(np.asarray(array).dtype), np.asarray(array).shape)
            for name, array in given.items()
        ]
        outputs = [helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name]
        version = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        opsets = [helper.make_opsetid("", version)]
        if node.domain not in ("", "ai.onnx"):
            opsets.append(helper.make_opsetid(node.domain, 1))
        model = helper.make_model(helper.make_graph([node], "node", infos, outputs), opset_imports=opsets)
        return cls.run_model(model, {name: np.asarray(array) for name, array in given.items()}, device, **kwargs)


prepare = FastpoolBackend.prepare
run_model = FastpoolBackend.run_model
run_node = FastpoolBackend.run_node
supports_device = FastpoolBackend.supports_device
