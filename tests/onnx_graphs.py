"""Small ONNX models for the tests, written in ONNX's own text form; and their results elsewhere."""

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import checker, helper, numpy_helper, parser

import fastpool.onnx
from fastpool.onnx import backend


def model_of(text, opset=21, **weights):
    """Parse `text`, ``(inputs) => (outputs) { nodes }``; `weights` become initialisers."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def node_model(op, inputs, opset, outputs=1, constant=(), **attributes):
    """A model of one node; inputs in `constant`, by position, are initialisers."""
    names = ["" if array is None else f"i{index}" for index, array in enumerate(inputs)]
    node = helper.make_node(op, names, [f"o{index}" for index in range(outputs)], **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for index, (name, array) in enumerate(zip(names, inputs, strict=True))
        if name and index not in constant
    ]
    made = [helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in node.output]
    for info in made:
        info.ClearField("type")
    weights = [numpy_helper.from_array(inputs[index], f"i{index}") for index in constant]
    graph = helper.make_graph([node], "g", infos, made, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def feeds_of(model, arrays):
    """Arrays by name, of the inputs that are not initialisers."""
    return {info.name: arrays[int(info.name[1:])] for info in model.graph.input}


def run_elsewhere(model, feeds):
    """Results of ONNX Runtime, whose absence skips the test."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = model if isinstance(model, str) else model.SerializeToString()
    return runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def assert_like(ours, theirs, tolerance=2e-5):
    """Require shapes, dtypes and values, floats to a part of the largest."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1e-30, np.abs(b).max(initial=0)))
        else:
            np.testing.assert_array_equal(a, b)


__all__ = ["assert_like", "backend", "checker", "fastpool", "feeds_of", "model_of", "node_model", "run_elsewhere"]
