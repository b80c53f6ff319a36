"""The whole networks: they are as large as published, valid, and run in another runtime with values of healthy size."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from bench.networks import NETWORKS  # noqa: E402
from bench.networks.__main__ import main  # noqa: E402
from bench.networks.builder import Builder  # noqa: E402
from bench.networks.count import multiply_adds, parameters  # noqa: E402
from bench.networks.lenet import c3_links  # noqa: E402

LARGE = "vgg16"  # half a gigabyte, which a runtime copies several times


def shape_of(value):
    """Extents of a value of a graph."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("name", NETWORKS)
def test_size_validity_and_values(name, monkeypatch):
    network = NETWORKS[name]
    if name == LARGE:  # drawing its numbers takes longer than everything else
        monkeypatch.setattr(Builder, "_normal", lambda self, shape, deviation: np.full(shape, deviation, np.float32))
    model = network.build(1, 0)
    assert 1e-6 * parameters(model) == pytest.approx(network.parameters, rel=0.002)
    assert 1e-6 * multiply_adds(model) == pytest.approx(network.multiply_adds, rel=0.012)
    if name == LARGE:  # its weights become inputs, which have no values to copy
        weights = [(weight.name, weight.data_type, weight.dims) for weight in model.graph.initializer]
        del model.graph.initializer[:]
        model.graph.input.extend(onnx.helper.make_tensor_value_info(*weight) for weight in weights)
        onnx.checker.check_model(model, full_check=True)
        return
    onnx.checker.check_model(model, full_check=True)
    runtime = pytest.importorskip("onnxruntime")
    (wanted,) = model.graph.output
    model.graph.output.extend(model.graph.value_info)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).standard_normal(shape_of(model.graph.input[0]), np.float32)
    results = session.run(None, {"x": x})
    assert results[0].shape == tuple(shape_of(wanted))
    for value, result in zip(model.graph.output, results, strict=True):
        assert list(result.shape) == shape_of(value)
        assert 0.05 < np.sqrt(np.mean(np.square(result, dtype=np.float64))) < 5, value.name
    assert results[0].std() > 0.02


def test_the_seed_decides():
    build = NETWORKS["lenet5"].build
    first, again, other = (build(1, seed).SerializeToString() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_batch():
    model = NETWORKS["squeezenet"].build(3, 0)
    onnx.checker.check_model(model, full_check=True)
    assert shape_of(model.graph.input[0]) == [3, 3, 224, 224]
    assert shape_of(model.graph.output[0]) == [3, 1000]


def test_lenet_has_the_links_of_the_paper():
    links = c3_links()
    assert links.sum() == 60
    assert links.sum(axis=1).tolist() == [3] * 6 + [4] * 9 + [6]
    assert links.sum(axis=0).tolist() == [10] * 6
    assert len({tuple(row) for row in links.tolist()}) == 16


def test_files(tmp_path, capsys):
    assert main(["lenet5", "model-c", "--folder", str(tmp_path / "new"), "--batch", "2"]) == 0
    assert sorted(path.name for path in tmp_path.glob("new/*")) == ["lenet5.onnx", "model-c.onnx"]
    model = onnx.load(tmp_path / "new" / "lenet5.onnx")
    assert shape_of(model.graph.input[0]) == [2, 1, 32, 32]
    assert "3.82 MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["lenet6"], "'lenet6' is none of"), (["--batch", "0"], "--batch: 0"), (["--seed", "-1"], "--seed: -1")],
)
def test_bad_arguments(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--folder", str(tmp_path)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
