"""The trained networks: small files, and the same classes and accuracy in ONNX Runtime and here."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from examples.digits import FOLDER, NETWORKS

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

#: Images of 500 that each network has to get right, at least: what chance gives is 50.
RIGHT = 490


@pytest.fixture(scope="module")
def images():
    with np.load(FOLDER / "test.npz") as stored:
        return stored["images"] / np.float32(16), stored["classes"]


def theirs(name, x):
    """Shares of the classes by ONNX Runtime."""
    session = runtime.InferenceSession(FOLDER / f"{name}.onnx", providers=["CPUExecutionProvider"])
    (shares,) = session.run(None, {"x": x})
    return shares


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_are_as_described(name):
    path = FOLDER / f"{name}.onnx"
    assert path.stat().st_size < 200_000
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    found = []
    for node in model.graph.node:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type in ("Conv", "MaxPool"):
            found.append((node.op_type, attributes["kernel_shape"], attributes["strides"], attributes["pads"]))
    kinds = {"conv": "Conv", "max": "MaxPool"}
    assert found == [
        (kinds[kind], [kernel] * 2, [stride] * 2, [kernel // 2] * 4)
        for kind, _, kernel, stride in NETWORKS[name].layers()
    ]


def test_the_twins_have_as_many_parameters():
    from bench.networks.count import parameters

    sizes = {name: parameters(onnx.load(FOLDER / f"{name}.onnx")) for name in NETWORKS}
    assert sizes["all-cnn"] == sizes["convpool-cnn"] > sizes["model"] == sizes["strided-cnn"]


@pytest.mark.parametrize("name", NETWORKS)
def test_they_know_the_digits(name, images):
    x, classes = images
    assert np.sum(theirs(name, x).argmax(axis=1) == classes) >= RIGHT


@pytest.mark.parametrize("name", NETWORKS)
def test_same_classes_as_onnx_runtime(name, images):
    ours = pytest.importorskip("fastpool.onnx")
    x, classes = images
    shares, expected = ours.load(FOLDER / f"{name}.onnx")(x), theirs(name, x)
    np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(shares.argmax(axis=1), expected.argmax(axis=1))
    assert np.mean(shares.argmax(axis=1) == classes) == np.mean(expected.argmax(axis=1) == classes)


def test_the_comparison_is_printed(capsys):
    pytest.importorskip("fastpool.onnx")
    from examples.digits import compare

    assert compare.main() == 0
    printed = capsys.readouterr().out
    for name in NETWORKS:
        assert f"| {name} |" in printed
    assert printed.count("500 of 500") == len(NETWORKS)


@pytest.mark.skipif(not (find_spec("torch") and find_spec("sklearn")), reason="needs PyTorch and scikit-learn")
def test_training(tmp_path):
    """One short training: the files come out, and the network has learned something."""
    command = [sys.executable, "-m", "examples.digits.train", "strided-cnn", "--epochs", "6", "--folder", str(tmp_path)]
    finished = subprocess.run(command, cwd=FOLDER.parent.parent, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strided-cnn.onnx", "test.npz"]
    with np.load(tmp_path / "test.npz") as ours, np.load(FOLDER / "test.npz") as committed:
        for key in ("images", "classes"):
            np.testing.assert_array_equal(ours[key], committed[key])
        x, classes = ours["images"] / np.float32(16), ours["classes"]
    session = runtime.InferenceSession(tmp_path / "strided-cnn.onnx", providers=["CPUExecutionProvider"])
    right = np.sum(session.run(None, {"x": x})[0].argmax(axis=1) == classes)
    assert right > 250
    assert f"in percent: {right / 5:.1f}; mean" in finished.stdout
