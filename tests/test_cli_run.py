"""`fastpool run` as a user meets it."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_graphs import model_of

from fastpool.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    weight = np.random.default_rng(0).standard_normal((7, 3, 3, 3), dtype=np.float32)
    text = """(float[N, 3, 16, 16] x) => (float[N, 7, 1, 1] y) {
        a = Conv (x, w)
        b = Relu (a)
        y = GlobalAveragePool (b)
    }"""
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    onnx.save(model_of(text, w=weight), path)
    return path


def fails(capsys, *arguments):
    """The one line of a command that cannot start."""
    assert main(["run", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastpool: error: ")
    assert err.count("\n") == 1
    return err


def test_random_numbers(model, capsys):
    assert main(["run", str(model)]) == 0
    out = capsys.readouterr().out
    assert "small.onnx: random numbers as x float32 (1, 3, 16, 16)" in out
    assert "output y: float32 (1, 7, 1, 1)" in out
    assert "class" not in out


def test_array_and_top_classes(model, tmp_path, capsys):
    x = np.random.default_rng(1).standard_normal((2, 3, 16, 16), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    assert main(["run", str(model), str(tmp_path / "x.npy"), "--top", "2", "--repeat", "3"]) == 0
    out = capsys.readouterr().out
    scores = __import__("fastpool.onnx").onnx.load(model)(x).reshape(2, 7)
    first = np.argsort(-scores[1])[:2]
    assert f"image 1: class {first[0]} {scores[1, first[0]]:.4g}, class {first[1]}" in out
    assert "median of 3 runs" in out


def test_picture(model, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "red.png")
    assert main(["run", str(model), str(tmp_path / "red.png")]) == 0
    assert capsys.readouterr().out.count("class ") == 5


def test_archive_and_profile(model, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 3, 16, 16), np.float32))
    picture = tmp_path / "profile.png"
    assert main(["run", str(model), str(tmp_path / "x.npz"), "--profile", "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "GFLOP/s" in out
    assert "GlobalAveragePool 1" in out
    assert picture.stat().st_size > 1000


def test_what_is_no_model(tmp_path, capsys):
    assert "no such file" in fails(capsys, tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07broken")
    assert "is not an ONNX model" in fails(capsys, tmp_path / "broken.onnx")


def test_inputs_that_do_not_fit(model, tmp_path, capsys):
    assert "no such file" in fails(capsys, model, tmp_path / "none.npy")
    (tmp_path / "broken.npy").write_bytes(b"broken")
    assert "cannot read the array" in fails(capsys, model, tmp_path / "broken.npy")
    np.save(tmp_path / "wrong.npy", np.zeros((1, 3, 8, 8), np.float32))
    assert "must have shape (N, 3, 16, 16)" in fails(capsys, model, tmp_path / "wrong.npy")
    np.save(tmp_path / "double.npy", np.zeros((1, 3, 16, 16)))
    assert "must have dtype float32, got float64" in fails(capsys, model, tmp_path / "double.npy")
    np.savez(tmp_path / "other.npz", z=np.zeros(1))
    assert "no input 'z'" in fails(capsys, model, tmp_path / "other.npz")
    (tmp_path / "text.txt").write_text("no picture")
    assert "not a picture" in fails(capsys, model, tmp_path / "text.txt")


def test_bad_arguments(model, tmp_path, capsys):
    assert "--repeat" in fails(capsys, model, "--repeat", "0")
    assert "--top" in fails(capsys, model, "--top", "x")
    assert "must end in .png" in fails(capsys, model, "--picture", tmp_path / "a.txt")


def test_no_picture_for_models_of_other_inputs(tmp_path, capsys):
    onnx.save(model_of("(float[4] x) => (float[4] y) { y = Relu (x) }"), tmp_path / "m.onnx")
    (tmp_path / "a.png").write_bytes(b"")
    assert "takes no picture" in fails(capsys, tmp_path / "m.onnx", tmp_path / "a.png")
