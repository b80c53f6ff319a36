"""Layers that `bench.other_layers` measures: their models, and the command."""

import numpy as np
import pytest
from sweeps import sweep

pytest.importorskip("onnx")

from onnx import checker, load_from_string, shape_inference
from onnx_graphs import model_of

from bench import other_layers
from bench.engines import ENGINES
from bench.layers import UnsupportedError


def test_models_are_valid_and_of_the_shapes_that_are_said():
    layers = other_layers.layers()
    assert len({layer.id for layer in layers}) == len(layers)
    assert {layer.transposed for layer in layers} == {True, False}
    assert {len(layer.size) for layer in layers} == {1, 2, 3}
    for layer in layers:
        model = load_from_string(layer.model(0))
        checker.check_model(model)
        model.graph.output[0].type.tensor_type.ClearField("shape")
        inferred = shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim
        assert [dim.dim_value for dim in inferred] == [1, layer.out_channels, *layer.out]
        assert layer.flops > 0


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
@pytest.mark.parametrize("only", ["dcgan/4x4s2 64-3", "tcn", "r3d18/3x3x3 256"])
@sweep
def test_engines_agree(engine, only, capsys, tmp_path):
    if not ENGINES[engine].available():
        pytest.skip(f"no {engine}")
    target = tmp_path / "layers.md"
    options = ["--only", only, "--engines", f"fastpool,{engine}", "--threads", "1", "--rounds", "1"]
    options += ["--warm", "0", "--span", "0.001", "--patience", "0", "--markdown", str(target)]
    assert other_layers.main(options) == 0
    assert only in capsys.readouterr().out
    text = target.read_text(encoding="utf-8")
    assert text.startswith("# Other layers")
    assert only.split("/")[-1] in text


def test_other_networks_are_no_layers(tmp_path):
    if not ENGINES["torch"].available():
        pytest.skip("no torch")
    path = tmp_path / "network.onnx"
    model = model_of("(float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) { y = Relu (x) }")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="a single convolution"):
        ENGINES["torch"].layer_opener()(str(path), np.zeros((1, 1, 4, 4), np.float32), 1)
