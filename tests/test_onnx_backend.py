"""ONNX's own tests of the operators, through the Backend interface; and the operators handed to onnx.reference."""

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_graphs import assert_like, feeds_of, node_model

import fastpool.onnx
from fastpool.onnx import backend

#: Beginnings of the names of the node tests of convolution and pooling.
REQUIRED = (
    *("basic_conv", "conv_", "convtranspose", "convinteger", "qlinearconv", "maxpool", "averagepool", "lppool"),
    *("globalaveragepool", "globalmaxpool", "maxunpool", "spacetodepth", "depthtospace"),
)
#: And those of further operators that fastpool has.
PREFIXES = (
    *REQUIRED,
    *("batchnorm", "clip_", "concat_", "flatten_", "gemm_", "hardswish", "leakyrelu", "lrn", "matmul_", "prelu"),
    *("relu", "reshape_", "resize_upsample", "sigmoid", "softmax_", "mul", "identity", "globallppool", "instancenorm"),
    *("group_normalization", "pad", "slice", "split", "squeeze", "unsqueeze", "transpose", "where", "gather_"),
)


def _cases(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return load_model_tests(kind=kind)


def _stored(folder, prefix):
    files = sorted(folder.glob(f"{prefix}_*.pb"), key=lambda path: int(path.stem.rpartition("_")[2]))
    return [numpy_helper.to_array(onnx.load_tensor(path)) for path in files]


def _plain(item):
    return numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item


def _check(case, model, data):
    prepared = backend.prepare(model)
    for inputs, outputs in data:
        found = prepared.run([_plain(item) for item in inputs])
        assert len(found) == len(outputs)
        for ours, wanted in zip(found, map(_plain, outputs), strict=True):
            assert ours.dtype == wanted.dtype
            np.testing.assert_allclose(
                ours.astype(np.float64), wanted.astype(np.float64), rtol=case.rtol, atol=case.atol, strict=True
            )


def test_node_tests_of_onnx():
    wrong, count = {}, 0
    for case in _cases("node"):
        if case.model is None or not case.name.removeprefix("test_").startswith(PREFIXES):
            continue
        if any(not isinstance(item, np.ndarray | np.generic | onnx.TensorProto) for item in case.data_sets[0][1]):
            continue  # of sequences
        count += case.name.removeprefix("test_").startswith(REQUIRED)
        try:
            _check(case, case.model, case.data_sets)
        except Exception as error:
            wrong[case.name] = error
    assert not wrong
    assert count >= 70


def test_tests_converted_from_pytorch():
    wrong, count = {}, 0
    for case in _cases("pytorch-converted"):
        if not any(part in case.name for part in ("AvgPool", "Conv", "MaxPool", "BatchNorm", "ReLU", "Linear")):
            continue
        count += 1
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        data = [(_stored(part, "input"), _stored(part, "output")) for part in folder.glob("test_data_set*")]
        assert data
        try:
            _check(case, model, data)
        except Exception as error:
            wrong[case.name] = error
    assert not wrong
    assert count >= 40


def test_one_node():
    node = helper.make_node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2], storage_order=1)
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    values, where = backend.run_node(node, [x])
    np.testing.assert_array_equal(values, [[[[5, 6, 7], [9, 10, 11]]]])
    # Column-major: row + 3 * column.
    np.testing.assert_array_equal(where, [[[[4, 7, 10], [5, 8, 11]]]])


def test_devices():
    assert backend.supports_device("CPU")
    assert backend.supports_device("CPU:0")
    assert not backend.supports_device("CUDA")
    with pytest.raises(ValueError, match="device must be 'CPU', got 'CUDA'"):
        backend.prepare(node_model("Relu", [np.zeros(1, np.float32)], 21), "CUDA")


def test_wrong_number_of_inputs():
    prepared = backend.prepare(node_model("Relu", [np.zeros(1, np.float32)], 21))
    with pytest.raises(ValueError, match="must be 1 arrays"):
        prepared.run([np.zeros(1, np.float32)] * 2)


def test_reference_ops():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 4, 9, 8), (6, 2, 3, 3), (6,))]
    model = node_model("Conv", arrays, 21, group=2, strides=[2, 1], pads=[0, 1, 2, 1])
    feeds = feeds_of(model, arrays)
    ours = ReferenceEvaluator(model, new_ops=fastpool.onnx.reference_ops()).run(None, feeds)
    assert_like(ours, list(fastpool.onnx.load(model).run(feeds).values()), 0)


def test_reference_ops_are_right_where_the_reference_is_not():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    model = node_model("MaxPool", [x], 21, kernel_shape=[2, 2], pads=[1, 0, 0, 0], strides=[1, 1])
    (ours,) = ReferenceEvaluator(model, new_ops=fastpool.onnx.reference_ops()).run(None, {"i0": x})
    np.testing.assert_array_equal(ours[0, 0], [[1, 2, 3], [5, 6, 7], [9, 10, 11], [13, 14, 15]])
