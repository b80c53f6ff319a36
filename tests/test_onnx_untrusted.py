"""Models that are broken or mean harm: one clear error, before anything is allocated."""

import os

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import contextlib

from onnx import TensorProto, helper
from onnx_graphs import model_of, run_elsewhere

import fastpool.onnx
from fastpool.onnx import ModelError

X = np.ones((1, 1, 4, 4), np.float32)
ONE_RELU = "(float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) { y = Relu (x) }"


def large_model(tmp_path, elements=40_000):
    weight = np.arange(elements, dtype=np.float32)
    model = model_of("(float[1] x) => (float[M] y) { y = Add (x, w) }", w=weight)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return path, weight


def test_large_weights_are_read_beside_the_rest(tmp_path):
    path, weight = large_model(tmp_path)
    np.testing.assert_array_equal(fastpool.onnx.load(path)(np.ones(1, np.float32)), weight + 1)
    np.testing.assert_array_equal(fastpool.onnx.load(path.read_bytes())(np.ones(1, np.float32)), weight + 1)


def test_truncated_files(tmp_path):
    path, _ = large_model(tmp_path)
    data = path.read_bytes()
    for length in (0, 1, 10, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            fastpool.onnx.load(path)


def test_flipped_bits_never_do_more_than_raise(tmp_path):
    data = bytearray(
        model_of(ONE_RELU.replace("Relu (x)", "Conv (x, w)"), w=np.ones((1, 1, 1, 1), np.float32)).SerializeToString()
    )
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 2):
            broken[place] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(ValueError, TypeError):
            fastpool.onnx.load(bytes(broken), max_bytes=2**24).run({"x": X})


@pytest.mark.parametrize("source", ["no such file.onnx", ".", b"", b"\x00\x01", b"not a model at all"])
def test_what_is_no_model(source):
    with pytest.raises(ModelError):
        fastpool.onnx.load(source)


def test_wrong_type_of_source():
    with pytest.raises(TypeError, match="source must be a path, bytes or an onnx.ModelProto, got int"):
        fastpool.onnx.load(3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(float[1] x) => (float[1] y) { y = Add (x, z) }", "Add 1 needs the value 'z', which nothing makes"),
        ("(float[1] x) => (float[1] y) { a = Add (x, b) \n b = Relu (a) \n y = Relu (b) }", "cycle"),
        ("(float[1] x) => (float[1] y) { y = Relu (x) \n y = Neg (x) }", "'y' is made twice"),
        ("(float[1] x) => (float[1] x) { x = Relu (x) }", "'x' is made twice"),
        ("(float[1] x) => (float[1] y) { z = Relu (x) }", "output 'y' is made by nothing"),
        ("(float[1] x) => () { y = Relu (x) }", "no outputs"),
        ("(float[1] x) => (float[1] y) { y = no.such.Op (x) }", "operator set 'no.such'"),
    ],
)
def test_malformed_graphs(text, message):
    with pytest.raises(ModelError, match=message):
        fastpool.onnx.load(model_of(text))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("y = MaxPool <kernel_shape = [2]> (x)", "'kernel_shape' must have 2 integers"),
        ("y = MaxPool (x)", "lacks the attribute 'kernel_shape'"),
        ("y = MaxPool <kernel_shape = 2> (x)", "'kernel_shape' must be integers, got an integer"),
        ("y = MaxPool <kernel_shape = [0, 1]> (x)", "'kernel_shape' must have integers from 1 on"),
        ('y = MaxPool <kernel_shape = [1, 1], auto_pad = "OTHER"> (x)', "'auto_pad' must be one of"),
        ("y = MaxPool <kernel_shape = [9, 9]> (x)", "must fit into the padded input"),
        ("y = MaxPool <kernel_shape = [1, 1], pads = [4000000000, 0, 0, 0]> (x)", "padding"),
        ("y = MaxPool <kernel_shape = [1, 1], kernel_shape = [2, 2]> (x)", "twice"),
        ("y = Conv (x)", "lacks its input 1, W"),
        ("y = NoSuchOperator (x)", "has the operator NoSuchOperator"),
        ("y = Concat <axis = 7> (x, x)", r"axis must be in \[-4, 4\), got 7"),
        ("y = SpaceToDepth <blocksize = 3> (x)", "blocksize 3 must divide"),
    ],
)
def test_bad_nodes(node, message):
    model = model_of(f"(float[1, 1, 4, 4] x) => (float[a, b, c, d] y) {{ {node} }}")
    with pytest.raises(ModelError, match=message):
        fastpool.onnx.load(model).run({"x": X})


@pytest.mark.parametrize(
    "nodes",
    [
        "s = Constant <value = int64[2] {1000000, 1000000}> () \n y = ConstantOfShape (s)",
        "s = Constant <value = int64[4] {1000000, 1000000, 4, 4}> () \n y = Expand (x, s)",
        "s = Constant <value = int64[4] {1, 1, 1000000, 1000000}> () \n y = Tile (x, s)",
        "s = Constant <value = int64[8] {0, 0, 0, 0, 0, 0, 1000000, 1000000}> () \n y = Pad (x, s)",
        "s = Constant <value = int64[4] {1, 1, 1000000, 1000000}> () \n y = Resize (x, , , s)",
        "a = Constant <value = int64 {0}> () \n b = Constant <value = int64 {1000000000000}> () \n"
        "c = Constant <value = int64 {1}> () \n y = Range (a, b, c)",
        "y = MaxPool <kernel_shape = [1, 1], pads = [1000000000, 1000000000, 0, 0]> (x)",
        "w = Constant <value = float[1, 1, 1, 1] {1.0}> () \n y = ConvTranspose <output_shape = [1000000, 1000000]> (x, w)",
        "d = Constant <value = int64 {1000000000000}> () \n i = Constant <value = int64[1] {1}> () \n"
        "v = Constant <value = float[2] {0.0, 1.0}> () \n y = OneHot (i, d, v)",
    ],
)
def test_sizes_are_checked_before_memory_is_taken(nodes):
    model = model_of(f"(float[1, 1, 4, 4] x) => (float[a, b, c, d] y) {{ {nodes} }}")
    with pytest.raises(ModelError, match="more than the limit|must not ask for a result of"):
        fastpool.onnx.load(model).run({"x": X})


def test_limit_of_the_user():
    with pytest.raises(ModelError, match="the limit of 1.00 kB"):
        fastpool.onnx.load(model_of("(float[N] x) => (float[N] y) { y = Relu (x) }"), max_bytes=1000).run(
            {"x": np.zeros(300, np.float32)}
        )


@pytest.mark.parametrize(
    ("dims", "data", "message"),
    [
        ([2, 2], 12, "needs 16 bytes, it has 12"),
        ([-1], 4, "negative"),
        ([2**40, 2**40], 4, "limit"),
        ([1] * 50, 4, "50 dim"),
    ],
)
def test_initialisers_of_the_wrong_size(dims, data, message):
    model = model_of("(float[1] x) => (float[n] y) { y = Add (x, w) }")
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, raw_data=bytes(data))
    tensor.dims.extend(dims)
    with pytest.raises(ModelError, match=message):
        fastpool.onnx.load(model)


def external_model(path, location, **entries):
    model = model_of("(float[1] x) => (float[3] y) { y = Add (x, w) }")
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


def test_external_data(tmp_path):
    weights = np.arange(5, dtype=np.float32)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights.bin").write_bytes(weights.tobytes())
    path = tmp_path / "m.onnx"
    external_model(path, "sub/weights.bin", offset=8, length=12)
    x = np.ones(1, np.float32)
    np.testing.assert_array_equal(fastpool.onnx.load(path)(x), weights[2:] + 1)
    np.testing.assert_array_equal(fastpool.onnx.load(str(path))(x), run_elsewhere(str(path), {"x": x})[0])
    with pytest.raises(ModelError, match="load the model by its path"):
        fastpool.onnx.load(path.read_bytes())


def test_external_data_stay_in_the_folder(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(12))
    os.symlink(secret, home / "link.bin")
    os.symlink(tmp_path, home / "up")
    (home / "folder").mkdir()
    for location in (
        "../secret.bin",
        str(secret),
        "link.bin",
        "up/secret.bin",
        "folder",
        "missing",
        "",
        "a/../../secret.bin",
        "x\0y",
    ):
        external_model(home / "m.onnx", location)
        with pytest.raises(ModelError):
            fastpool.onnx.load(home / "m.onnx")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"offset": 4}, "beyond the end"),
        ({"offset": -4}, "bad offset"),
        ({"length": 8}, "its length is 8"),
        ({"length": "x"}, "bad length"),
    ],
)
def test_external_data_of_the_wrong_size(tmp_path, entries, message):
    (tmp_path / "w.bin").write_bytes(bytes(12))
    external_model(tmp_path / "m.onnx", "w.bin", **entries)
    with pytest.raises(ModelError, match=message):
        fastpool.onnx.load(tmp_path / "m.onnx")


def test_indices_out_of_range():
    text = "(float[1, 1, 2, 2] x, int64[1, 1, 2, 2] i) => (float[1, 1, 4, 4] y) { y = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (x, i) }"
    model = fastpool.onnx.load(model_of(text))
    for index in (-1, 16, 2**40):
        with pytest.raises(ModelError, match="indices must be in"):
            model.run({"x": np.ones((1, 1, 2, 2), np.float32), "i": np.full((1, 1, 2, 2), index)})


def test_newer_operator_sets_are_refused():
    model = model_of(ONE_RELU)
    model.opset_import[0].version = 9999
    with pytest.raises(ModelError, match="version 9999"):
        fastpool.onnx.load(model)


def test_two_versions_of_an_operator_set():
    model = model_of(ONE_RELU)
    model.opset_import.append(helper.make_opsetid("ai.onnx", 9))
    with pytest.raises(ModelError, match="two versions"):
        fastpool.onnx.load(model)
