"""Operators against ONNX Runtime, in their versions and forms."""

import itertools

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_graphs import assert_like, feeds_of, model_of, node_model, run_elsewhere

import fastpool.onnx


def noise(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def integers(*values, dtype=np.int64):
    return np.array(values, dtype)


X = noise(2, 4, 9, 8)
IMAGE = noise(1, 3, 6, 5)

#: operator, inputs, version, attributes, [number of outputs], [constant inputs]
CASES = [
    *(
        ("MaxPool", [X], opset, {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": pad}, 1)
        for opset in (1, 8, 12, 21)
        for pad in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    ),
    ("MaxPool", [X], 12, {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "ceil_mode": 1, "strides": [2, 3]}, 2),
    ("MaxPool", [X], 12, {"kernel_shape": [2, 3], "dilations": [2, 1], "storage_order": 1}, 2),
    ("MaxPool", [noise(1, 2, 4, 5, 6)], 12, {"kernel_shape": [2, 2, 2], "storage_order": 1}, 2),
    ("MaxPool", [noise(2, 3, 7)], 12, {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, 2),
    ("MaxPool", [(noise(1, 2, 5, 5) * 50).astype(np.int8)], 12, {"kernel_shape": [3, 3]}, 1),
    ("AveragePool", [X], 7, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, 1),
    *(
        ("AveragePool", [X], 19, {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": i, "ceil_mode": c, "strides": [2, 2], "dilations": [1, d]}, 1)
        for i, c, d in itertools.product((0, 1), (0, 1), (1, 2))
    ),
    ("LpPool", [X], 18, {"kernel_shape": [2, 3], "p": 3, "strides": [2, 2]}, 1),
    ("GlobalAveragePool", [X], 1, {}, 1),
    ("GlobalMaxPool", [noise(2, 3, 11)], 1, {}, 1),
    ("GlobalLpPool", [X], 2, {"p": 2}, 1),
    ("Conv", [X, noise(6, 4, 3, 3), noise(6)], 1, {"auto_pad": "SAME_UPPER", "strides": [2, 1]}, 1),
    ("Conv", [X, noise(6, 2, 3, 2)], 11, {"group": 2, "pads": [1, 0, 2, 1], "dilations": [1, 2]}, 1, (1,)),
    ("Conv", [noise(2, 3, 9), noise(4, 3, 3), noise(4)], 11, {"auto_pad": "SAME_LOWER"}, 1, (1, 2)),
    ("ConvTranspose", [X, noise(4, 3, 3, 3), noise(6)], 11, {"group": 2, "strides": [2, 3], "output_padding": [1, 2], "pads": [1, 1, 0, 2]}, 1),
    ("ConvTranspose", [X, noise(4, 3, 3, 3)], 11, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 1),
    ("ConvTranspose", [X, noise(4, 3, 3, 3)], 11, {"strides": [2, 2], "output_shape": [20, 17]}, 1),
    ("ConvTranspose", [X, noise(4, 3, 3, 3), noise(6)], 11, {"group": 2, "strides": [2, 3], "pads": [1, 1, 0, 2]}, 1, (1, 2)),
    ("ConvTranspose", [X, noise(4, 3, 4, 4), noise(3)], 11, {"strides": [2, 2], "output_shape": [20, 17]}, 1, (1, 2)),
    ("ConvTranspose", [noise(2, 4, 9), noise(4, 2, 5)], 11, {"strides": [2], "dilations": [3], "pads": [2, 1]}, 1, (1,)),
    ("MatMul", [noise(2, 3, 4, 5), noise(5, 6)], 13, {}, 1, (1,)),
    ("MatMul", [noise(1, 4), noise(2, 4, 3)], 13, {}, 1),
    ("Gemm", [noise(3, 4), noise(4, 5), noise(5)], 13, {"alpha": 0.5, "beta": 2.0}, 1, (1, 2)),
    ("Gemm", [noise(4, 1), noise(5, 4), noise(1, 5)], 11, {"transA": 1, "transB": 1}, 1),
    ("BatchNormalization", [X, noise(4), noise(4), noise(4), abs(noise(4))], 9, {"epsilon": 1e-3}, 1, (1, 2, 3, 4)),
    ("BatchNormalization", [X, noise(4), noise(4), noise(4), abs(noise(4))], 15, {}, 1),
    ("InstanceNormalization", [X, noise(4), noise(4)], 6, {}, 1),
    ("LayerNormalization", [noise(2, 3, 8), noise(8), noise(8)], 17, {}, 1),
    ("LRN", [noise(1, 7, 4, 5)], 13, {"size": 5, "alpha": 0.5, "beta": 0.75}, 1),
    ("LRN", [noise(1, 7, 4, 5)], 13, {"size": 3, "beta": 0.6}, 1),
    ("Softmax", [noise(2, 3, 4)], 11, {"axis": 1}, 1),
    ("Softmax", [noise(2, 3, 4)], 13, {"axis": 1}, 1),
    ("LogSoftmax", [noise(2, 3, 4)], 13, {}, 1),
    ("Clip", [X], 6, {"min": -0.5, "max": 0.75}, 1),
    ("Clip", [X, np.array(-0.5, np.float32), None], 13, {}, 1, (1,)),
    ("Clip", [noise(7), np.array(-0.5, np.float32), np.array(1, np.float32)], 13, {}, 1),
    *((op, [X], 14, {}, 1) for op in ("Relu", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "Elu", "Softplus")),
    ("PRelu", [X, noise(4, 1, 1)], 16, {}, 1),
    ("Mul", [X, noise(4, 1, 1)], 14, {}, 1),
    ("Div", [integers(-7, 7, 8), integers(2, -2, 3)], 14, {}, 1),
    ("Sum", [noise(3, 4), noise(4), noise(3, 1)], 13, {}, 1),
    ("Concat", [noise(2, 3), noise(2, 1)], 13, {"axis": -1}, 1),
    ("Flatten", [X], 13, {"axis": -2}, 1),
    ("Reshape", [X, integers(0, -1, 4)], 13, {}, 1, (1,)),
    ("Squeeze", [noise(1, 3, 1)], 11, {"axes": [0]}, 1),
    ("Unsqueeze", [noise(3), integers(0, -1)], 13, {}, 1, (1,)),
    ("Transpose", [X], 13, {"perm": [0, 2, 3, 1]}, 1),
    ("Slice", [X, integers(8, -3), integers(-100, 100), integers(2, 3), integers(-2, 2)], 13, {}, 1, (1, 2, 3, 4)),
    ("Slice", [X], 1, {"starts": [1, -3], "ends": [3, 100], "axes": [1, 3]}, 1),
    ("Split", [X], 11, {"axis": 1, "split": [1, 3]}, 2),
    ("Gather", [X, integers(1, -1)], 13, {"axis": 2}, 1),
    ("Expand", [noise(3, 1), integers(2, 1, 4)], 13, {}, 1, (1,)),
    ("Tile", [noise(2, 3), integers(2, 2)], 13, {}, 1, (1,)),
    ("Pad", [X, integers(0, 0, 1, -1, 0, 0, 2, 1), np.array(2, np.float32)], 13, {}, 1, (1, 2)),
    ("Pad", [X], 2, {"pads": [0, 0, 1, 2, 0, 0, 2, 1], "mode": "reflect"}, 1),
    ("ReduceMean", [X], 13, {"axes": [2, 3], "keepdims": 0}, 1),
    ("ReduceSum", [X, integers(-1)], 13, {}, 1, (1,)),
    ("ArgMax", [X], 13, {"axis": 1}, 1),
    ("SpaceToDepth", [noise(1, 3, 4, 6)], 13, {"blocksize": 2}, 1),
    ("DepthToSpace", [noise(1, 8, 2, 3)], 13, {"blocksize": 2, "mode": "CRD"}, 1),
    ("Upsample", [IMAGE], 7, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}, 1),
    ("Upsample", [IMAGE, np.array([1, 1, 2, 1.5], np.float32)], 9, {"mode": "linear"}, 1, (1,)),
    ("Resize", [IMAGE, np.array([1, 1, 2, 0.6], np.float32)], 10, {"mode": "nearest"}, 1, (1,)),
    *(
        ("Resize", [IMAGE, None, None, integers(1, 3, 9, 4)], 13, {"mode": mode, "coordinate_transformation_mode": rule, **more}, 1, (3,))
        for mode, more in (("linear", {}), ("nearest", {"nearest_mode": "floor"}), ("nearest", {"nearest_mode": "round_prefer_ceil"}))
        for rule in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    ),
    ("QuantizeLinear", [X, np.array(0.02, np.float32), np.array(100, np.uint8)], 13, {}, 1),
    ("DequantizeLinear", [np.arange(12, dtype=np.int8).reshape(1, 3, 4), abs(noise(3)), integers(1, 2, 3, dtype=np.int8)], 13, {"axis": 1}, 1),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(CASES)), ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)])
def test_operator(index):
    op, arrays, opset, attributes, outputs, *constant = CASES[index]
    model = node_model(op, arrays, opset, outputs, *constant, **attributes)
    feeds = feeds_of(model, arrays)
    ours = fastpool.onnx.load(model, fallback=False).run(feeds)
    assert_like(list(ours.values()), run_elsewhere(model, feeds))


def _bytes(seed, shape, dtype):
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


@pytest.mark.parametrize(("x_type", "w_type"), [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)])
def test_qlinear_conv(x_type, w_type):
    scale = np.array(0.25, np.float32)  # powers of two: halves are exact, and rounded to even
    arrays = [
        _bytes(0, (1, 4, 7, 6), x_type), scale, np.array(3, x_type), _bytes(1, (5, 4, 3, 3), w_type),
        2.0 ** -np.arange(7, 12).astype(np.float32), np.zeros(5, w_type), np.array(0.5, np.float32),
        np.array(7, x_type), integers(-900, 0, 3, 100, 2000, dtype=np.int32),
    ]  # fmt: skip
    model = node_model("QLinearConv", arrays, 10, pads=[1, 1, 0, 1], strides=[2, 1], constant=range(1, 9))
    feeds = feeds_of(model, arrays)
    ours = fastpool.onnx.load(model, fallback=False).run(feeds)["o0"]
    # By the definition, in wide integers and floats.
    padded = np.full((1, 4, 8, 8), 3, np.int64)
    padded[:, :, 1:, 1:7] = arrays[0]
    windows = np.lib.stride_tricks.sliding_window_view(padded - 3, (3, 3), (2, 3))[:, :, ::2]
    sums = np.einsum("nchwij,ocij->nohw", windows, arrays[3].astype(np.int64)) + arrays[8].reshape(-1, 1, 1)
    factor = (scale * arrays[4] / arrays[6]).reshape(-1, 1, 1)
    info = np.iinfo(x_type)
    wanted = np.clip(np.rint(sums * factor) + 7, info.min, info.max)
    assert ours.dtype == x_type
    np.testing.assert_array_equal(ours, wanted)


def test_layers_of_a_decoder_become_one_chain():
    """Transposed convolutions take activations and scales, and run between others in one launch."""
    weights = {"w": noise(4, 6, 4, 4), "v": noise(6, 3, 3, 3), "b": noise(6), "s": abs(noise(6)), "t": noise(6)}
    weights |= {"m": noise(6), "n": abs(noise(6)), "u": noise(3)}
    model = model_of(
        """(float[2, 4, 7, 6] x) => (float[2, 3, 28, 24] y) {
        a = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)
        c = BatchNormalization (a, s, t, m, n)
        d = Relu (c)
        e = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (d, v, u)
        y = Clip (e, low, high)
    }""",
        **weights,
        low=np.array(-0.5, np.float32),
        high=np.array(0.75, np.float32),
    )
    ours = fastpool.onnx.load(model, fallback=False)
    for seed in range(2):
        x = np.random.default_rng(seed).standard_normal((2, 4, 7, 6)).astype(np.float32)
        assert_like([ours(x)], run_elsewhere(model, {"x": x}))
    merged = {row.node: row.merged for row in ours.summary().rows}
    assert merged == {"ConvTranspose 1": ("BatchNormalization", "Relu"), "ConvTranspose 2": ("Clip",)}


def test_half_precision_convolution():
    x, weight = noise(1, 3, 6, 6, dtype=np.float16), noise(4, 3, 3, 3, dtype=np.float16)
    model = node_model("Conv", [x, weight], 11, constant=(1,))
    ours = fastpool.onnx.load(model, fallback=False).run({"i0": x})["o0"]
    wide = node_model("Conv", [x.astype(np.float32), weight.astype(np.float32)], 11, constant=(1,))
    theirs = fastpool.onnx.load(wide).run({"i0": x.astype(np.float32)})["o0"]
    np.testing.assert_array_equal(ours, theirs.astype(np.float16))


def test_addition_along_an_axis_before_version_7():
    x, y = noise(2, 4, 3), noise(4)
    model = node_model("Add", [x, y], 6, broadcast=1, axis=1)
    ours = fastpool.onnx.load(model, fallback=False).run({"i0": x, "i1": y})["o0"]
    np.testing.assert_array_equal(ours, x + y[:, np.newaxis])


def test_max_unpool_inverts_max_pool():
    x = noise(2, 3, 6, 4)
    model = model_of(
        """(float[2, 3, 6, 4] x) => (float[2, 3, 6, 4] y) {
        p, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (p, i)
    }"""
    )
    y = fastpool.onnx.load(model, fallback=False)(x)
    blocks = x.reshape(2, 3, 3, 2, 2, 2)
    np.testing.assert_array_equal(y, np.where(blocks == blocks.max((3, 5), keepdims=True), blocks, 0).reshape(x.shape))
