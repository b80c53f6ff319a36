"""The measurement of whole networks: it runs, compares, and reports what it found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench import latency
from bench.latency import Measured, input_shape, markdown

ROOT = Path(bench.__file__).resolve().parent.parent


def load(seconds, memory):
    """Costs of loading, as a worker tells them."""
    return {"load": seconds, "first_run": seconds, "memory_before": 50e6, "memory": memory}


def test_report_of_known_figures():
    engines = ["fastpool", "onnxruntime", "openvino"]
    loads = dict(zip(engines, (load(0.5, 150e6), load(0.25, 60e6), load(1.0, 90e6)), strict=True))
    rows = [
        Measured(name, dict(zip(engines, seconds, strict=True)), dict(zip(engines[1:], ratios, strict=True)), loads)
        for name, seconds, ratios in (("one", (0.01, 0.02, 0.03), (2.0, 3.0)), ("two", (0.01, 0.01, 0.005), (1.0, 0.5)))
    ]
    text = markdown(rows, engines, 2, ["A footnote."])
    assert "| one | 10.0 | 20.0 | 2.00 | 30.0 | 3.00 | **2.00** |" in text
    assert "| two | 10.0 | 10.0 | 1.00 | 5.00 | 0.500 | **0.500** |" in text
    assert "geometric mean of the ratios is **1.00**, the lowest **0.500**" in text
    assert "| one | 1.00 | 150 | 100 | 0.500 | 60.0 | 10.0 | 2.00 | 90.0 | 40.0 |" in text
    assert text.endswith("- A footnote.\n")


def test_peak_memory_counts_what_was_touched():
    code = "from bench.machine import peak_memory; a = peak_memory(); b = bytes([1]) * 2**26; print(a, peak_memory())"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before, after = map(int, printed.split())
    assert 2**20 < before < after - 2**26 + 2**20 < 2**28


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engines", "abacus"], "'abacus' is none of fastpool, onnxruntime, openvino"),
        (["--engines", "numpy"], "'numpy' is none of"),
        (["lenet6"], "'lenet6' is none of resnet50"),
        (["--rounds", "0"], "at least 1"),
        (["--file", "no/such.onnx"], "no/such.onnx is no file"),
    ],
)
def test_the_command_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        latency.parse(["--engines", "fastpool", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_measures(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    model = latency.NETWORKS["lenet5"].build(1, 1)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    onnx.save(model, tmp_path / "mine.onnx")
    assert input_shape(tmp_path / "mine.onnx") == [1, 1, 32, 32]
    arguments = ["lenet5", "--file", str(tmp_path / "mine.onnx"), "--engines", "onnxruntime,openvino", "--rounds", "2"]
    arguments += ["--warm", "0.01", "--span", "0.01", "--patience", "0", "--threads", "1"]
    arguments += ["--json", str(tmp_path / "l.json"), "--markdown", str(tmp_path / "l.md")]
    assert latency.main(arguments) == 0
    measured = json.loads((tmp_path / "l.json").read_text(encoding="utf-8"))
    assert [row["network"] for row in measured["rows"]] == ["lenet5", "mine"]
    for row in measured["rows"]:
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert row["lowest"] == row["ratios"]["openvino"] > 0
        for costs in row["loads"].values():
            assert costs["memory"] > costs["memory_before"] > 1e7
            assert costs["load"] > 0 < costs["first_run"]
    assert (tmp_path / "l.md").read_text(encoding="utf-8") in capsys.readouterr().out
