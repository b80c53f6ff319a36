"""The example that swaps the downsampling of a network: what stands where, and that the outputs keep their shape."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("fastpool.onnx")

from bench.networks.builder import Builder  # noqa: E402
from examples import swap_downsampling as example  # noqa: E402
from examples.digits import FOLDER  # noqa: E402


def tiny(ceil):
    """Return a network of all that is swapped; 17 pixels make the pooling hang over."""
    net = Builder("tiny", (1, 3, 33, 33), 0)
    y = net.max_pool(net.relu(net.conv(net.x, 4, 5, 2, 2)), 2, 2, ceil=ceil)
    return net.model(net.global_average(net.relu(net.conv(y, 5, 3, 2))))


def operators(model):
    """What a model computes, in order."""
    return [node.op_type for node in model.graph.node]


def run(model):
    """Return the shapes and values of a model's results by another runtime."""
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    return session.run(None, {"x": np.random.default_rng(1).standard_normal(shape, np.float32)})[0]


@pytest.mark.parametrize("ceil", [False, True])
def test_swaps(ceil):
    model = tiny(ceil)
    tail = ["Relu", "GlobalAveragePool", "Flatten"]
    assert operators(model) == ["Conv", "Relu", "MaxPool", "Conv", *tail]
    variants = example.variants_of(model)
    assert list(variants) == [
        "as it is",
        "1 max poolings -> strided convolutions",
        "2 strided convolutions -> max pooling",
    ]
    _, convolutions, poolings = variants.values()
    assert operators(convolutions) == ["Conv", "Relu", "Conv", "Relu", "Conv", *tail]
    assert operators(poolings) == ["Conv", "MaxPool", "Relu", "MaxPool", "Conv", "MaxPool", *tail]
    for variant in (convolutions, poolings):
        onnx.checker.check_model(variant, full_check=True)
        assert run(variant).shape == run(model).shape == (1, 5)
        inner = {value.name: value.type.tensor_type.shape for value in variant.graph.value_info}
        for value in model.graph.value_info:
            assert inner[value.name] == value.type.tensor_type.shape
        assert 0.01 < np.abs(run(variant)).mean() < 10


def test_a_file_is_measured(capsys):
    assert example.main([str(FOLDER / "model.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| as it is", "| 2 max poolings -> strided convolutions"]
    assert lines[2].endswith(" 1.00 |")


def test_no_file(capsys):
    with pytest.raises(SystemExit) as stopped:
        example.main(["no/such.onnx"])
    assert stopped.value.code == 2
    assert "'no/such.onnx' is no file" in capsys.readouterr().err
