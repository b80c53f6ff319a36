"""Models as a whole: what is fused, where values stand, what does not depend on it, and what is refused."""

import threading

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_graphs import assert_like, model_of, run_elsewhere

import fastpool
import fastpool.onnx
from fastpool.onnx import ModelError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


RESIDUAL = """(float[N, 3, H, W] x) => (float[N, 5] y, float[N, 8, H, W] inner) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    b = BatchNormalization (a, s, t, m, v)
    r = Relu (b)
    c = Conv <pads = [1, 1, 1, 1]> (r, w2, b2)
    k = Conv (x, w3)
    sum = Add (c, k)
    inner = Relu (sum)
    d = Conv (inner, w4)
    e = Clip (d, low, high)
    f = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (inner)
    joined = Concat <axis = 1> (e, f, inner)
    again = Concat <axis = 1> (e, f, inner, d)
    g = GlobalAveragePool (again)
    h = Flatten (g)
    p = Gemm <transB = 1> (h, w5, b5)
    z = GlobalMaxPool (joined)
    zf = Flatten (z)
    q = MatMul (zf, w6)
    y = Add (p, q)
}"""


def residual_model():
    return model_of(
        RESIDUAL,
        w1=noise(8, 3, 3, 3), s=noise(8), t=noise(8, seed=1), m=noise(8, seed=2), v=abs(noise(8, seed=3)),
        w2=noise(8, 8, 3, 3), b2=noise(8), w3=noise(8, 3, 1, 1), w4=noise(6, 8, 1, 1),
        low=np.array(-0.5, np.float32), high=np.array(6, np.float32),
        w5=noise(5, 28), b5=noise(5), w6=noise(22, 5),
    )  # fmt: skip


@pytest.fixture(scope="module")
def residual():
    # MaxPool has stride 1, so that the concatenation fits.
    return fastpool.onnx.load(residual_model(), fallback=False)


@pytest.mark.parametrize("batch", [1, 2])
def test_network_is_that_of_onnx_runtime(residual, batch):
    x = noise(batch, 3, 12, 11)
    ours = residual.run({"x": x})
    assert tuple(ours) == residual.output_names == ("y", "inner")
    assert_like(list(ours.values()), run_elsewhere(residual_model(), {"x": x}), 1e-5)


def test_nodes_are_merged(residual):
    merged = {row.node: row.merged for row in residual.summary({"x": (1, 3, 12, 11)}).rows}
    assert merged["Conv 1"] == ("BatchNormalization", "Relu")
    # The other convolution comes later: it adds the first one's result.
    assert merged["Conv 3"] == ("Add", "Relu")
    assert "Relu 1" not in merged
    assert "Add 1" not in merged


def test_concatenation_is_written_in_place(residual):
    algorithms = {row.node: row.algorithm for row in residual.summary({"x": (1, 3, 12, 11)}).rows}
    # `inner` is an output, a place of its own; the second one begins with all of the first.
    assert algorithms["Concat 1"] == "copy"
    text = """(float[1, 2, 4, 4] x) => (float[1, 6, 1, 1] y) {
        a = MaxPool <kernel_shape = [1, 1]> (x)
        b = AveragePool <kernel_shape = [1, 1]> (x)
        c = Concat <axis = 1> (a, b)
        d = LpPool <kernel_shape = [1, 1]> (c)
        e = Slice <axes = [1], starts = [0], ends = [2]> (d)
        f = Concat <axis = 1> (c, e)
        y = GlobalMaxPool (f)
    }"""
    model = fastpool.onnx.load(model_of(text, opset=9))
    summary = model.summary()
    assert [row.algorithm for row in summary.rows if row.node.startswith("Concat")] == ["none", "none"]
    x = noise(1, 2, 4, 4)
    joined = np.concatenate([x, x, abs(x)], 1).max((2, 3), keepdims=True)
    np.testing.assert_allclose(model(x), joined, rtol=1e-6)


def test_results_are_new_arrays(residual):
    x = noise(1, 3, 12, 11)
    first = residual.run({"x": x})
    kept = {name: array.copy() for name, array in first.items()}
    residual.run({"x": x + 1})
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


def test_results_do_not_depend_on_threads(residual):
    x = noise(1, 3, 40, 33)
    with fastpool.threads(1):
        alone = residual.run({"x": x})
    for name, array in residual.run({"x": x}).items():
        np.testing.assert_array_equal(array, alone[name])


def test_runs_of_several_threads(residual):
    xs = [noise(1, 3, 12, 11, seed=seed) for seed in range(4)]
    wanted = [residual.run({"x": x})["y"] for x in xs]
    found = [None] * 4

    def work(index):
        for _ in range(5):
            found[index] = residual.run({"x": xs[index]})["y"]

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for ours, reference in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, reference)


def test_inputs_with_any_strides(residual):
    x = noise(1, 3, 11, 12)
    turned = x.transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(residual.run({"x": turned})["y"], residual.run({"x": turned.copy()})["y"])


def test_outputs_that_are_inputs_constants_or_views():
    text = """(float[2, 3] x) => (float[2, 3] a, float[6] b, float[3, 2] c, float[2] d) {
        a = Identity (x)
        s = Constant <value = int64[1] {-1}> ()
        b = Reshape (x, s)
        t = Constant <value = int64[2] {3, 2}> ()
        u = Neg (x)
        c = Reshape (u, t)
        d = Constant <value = float[2] {1.0, 2.0}> ()
    }"""
    x = noise(2, 3)
    found = fastpool.onnx.load(model_of(text)).run({"x": x})
    np.testing.assert_array_equal(found["a"], x)
    np.testing.assert_array_equal(found["b"], x.ravel())
    np.testing.assert_array_equal(found["c"], -x.reshape(3, 2))
    np.testing.assert_array_equal(found["d"], [1, 2])
    for name in ("a", "b"):
        assert not np.shares_memory(found[name], x)


def test_shapes_that_depend_on_numbers():
    text = """(float[N] x) => (float[M] y) {
        p = Relu (x)
        i = NonZero (p)
        j = Squeeze <axes = [0]> (i)
        g = Gather (x, j)
        y = Mul (g, g)
    }"""
    model = fastpool.onnx.load(model_of(text, opset=11))
    x = np.array([1, -2, 3, 0, 4], np.float32)
    np.testing.assert_array_equal(model(x), [1, 9, 16])
    assert model.summary({"x": (5,)}).fallbacks == ("NonZero 1",)
    assert "in onnx.reference: NonZero 1" in str(model.summary({"x": (5,)}))
    with pytest.raises(ModelError, match=r"NonZero 1 needs onnx\.reference"):
        fastpool.onnx.load(model_of(text, opset=11), fallback=False)(x)


def test_branches():
    text = """(bool c, float[2] x) => (float[2] y) {
        y = If (c) <
            then_branch = g () => (float[2] a) { a = Neg (x) },
            else_branch = h () => (float[2] b) { b = Add (x, x) }
        >
    }"""
    model = fastpool.onnx.load(model_of(text))
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(model.run({"c": np.array(True), "x": x})["y"], -x)
    np.testing.assert_array_equal(model.run({"c": np.array(False), "x": x})["y"], 2 * x)


def test_subsampling_layers_are_pooled_at_once():
    text = """(float[1, 3, 6, 6] x) => (float[1, 3, 3, 3] y) {
        m = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        s = Mul (m, w)
        y = Add (b, s)
    }"""
    w, b = noise(3, 1, 1), noise(1, 3, 1, 1, seed=1)
    model = fastpool.onnx.load(model_of(text, w=w, b=b))
    assert [row.merged for row in model.summary().rows] == [("Mul", "Add")]
    x = noise(1, 3, 6, 6)
    wanted = x.reshape(1, 3, 3, 2, 3, 2).mean((3, 5)) * w + b
    np.testing.assert_allclose(model(x), wanted, atol=1e-6)
    # Factors may also make several channels of one.
    text = text.replace("[1, 3, 6, 6]", "[1, 1, 6, 6]")
    np.testing.assert_allclose(
        fastpool.onnx.load(model_of(text, w=w, b=b))(x[:, :1]), x[:, :1].reshape(1, 1, 3, 2, 3, 2).mean((3, 5)) * w + b, atol=1e-6
    )  # fmt: skip


def test_padding_becomes_part_of_a_convolution():
    text = """(float[1, 2, 5, 5] x) => (float[1, 3, 4, 3] y) {
        p = Pad (x, ends)
        y = Conv <strides = [2, 2], pads = [0, 0, 1, 0]> (p, w)
    }"""
    ends = np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64)
    model = fastpool.onnx.load(model_of(text, ends=ends, w=noise(3, 2, 3, 3)))
    assert [(row.node, row.merged) for row in model.summary().rows] == [("Conv 1", ("Pad",))]
    x = noise(1, 2, 5, 5)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 3), (2, 1)))
    np.testing.assert_allclose(model(x), fastpool.conv2d(padded, noise(3, 2, 3, 3), stride=2), atol=1e-5)


def test_names_and_calls(residual):
    assert residual.input_names == ("x",)
    with pytest.raises(TypeError, match="one input and one output, this one has 1 and 2"):
        residual(noise(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        ({}, ValueError, "input 'x' is missing"),
        ({"x": noise(1, 3, 8, 8), "z": noise(1)}, ValueError, "no input 'z'"),
        ({"x": noise(1, 4, 8, 8)}, ValueError, r"must have shape \(N, 3, H, W\).*got \(1, 4, 8, 8\)"),
        ({"x": noise(3, 8, 8)}, ValueError, r"got \(3, 8, 8\)"),
        ({"x": np.zeros((1, 3, 8, 8))}, TypeError, "must have dtype float32, got float64"),
        ({"x": [1.0]}, TypeError, "must be a plain NumPy array, got list"),
        ([noise(1, 3, 8, 8)], TypeError, "inputs must be a dict"),
    ],
)
def test_bad_inputs(residual, inputs, error, text):
    with pytest.raises(error, match=text):
        residual.run(inputs)


def test_symbolic_sizes_agree():
    model = fastpool.onnx.load(model_of("(float[N] a, float[N] b) => (float[N] c) { c = Add (a, b) }"))
    with pytest.raises(ValueError, match=r"input 'b' must have shape \(N\), where N = 2, got \(1,\)"):
        model.run({"a": noise(2), "b": noise(1)})


def test_summary_needs_shapes(residual):
    with pytest.raises(ValueError, match=r"the shape of input 'x' is \(N, 3, H, W\): give one"):
        residual.summary()
    with pytest.raises(ValueError, match="no input 'z'"):
        residual.summary({"z": (1,)})


def test_summary_counts(residual):
    summary = residual.summary({"x": (1, 3, 10, 10)})
    first = summary.rows[0]
    assert (first.node, first.shape, first.multiply_adds) == ("Conv 1", (1, 8, 10, 10), 100 * 8 * 27)
    assert first.parameters == 8 * 27 + 8
    assert summary.multiply_adds == sum(row.multiply_adds for row in summary.rows)
    assert summary.fallbacks == ()
    lines = str(summary).splitlines()
    assert lines[2].startswith("Conv 1 + BatchNormalization + Relu")


def test_profile(residual, tmp_path):
    profile = residual.profile({"x": noise(1, 3, 16, 16)}, repeat=2)
    assert profile.timings[0].op == "Conv"
    assert all(timing.seconds > 0 for timing in profile.timings)
    first = profile.timings[0]
    assert first.gflops == pytest.approx(2 * 256 * 8 * 27 / first.seconds * 1e-9)
    assert "GFLOP/s" in str(profile)
    target = tmp_path / "profile.png"
    profile.picture(target)
    assert target.read_bytes()[:4] == b"\x89PNG"


def test_buffers_are_used_again():
    nodes = "\n".join(f"a{i + 1} = Conv (a{i}, w)" for i in range(20))
    text = f"(float[1, 4, 32, 32] a0) => (float[1, 4, 32, 32] y) {{ {nodes}\n y = Relu (a20) }}"
    model = fastpool.onnx.load(model_of(text, w=noise(4, 4, 1, 1)))
    assert model.summary().buffer_bytes <= 2 * 4 * 4 * 32 * 32


def test_import_of_the_package_does_not_import_onnx():
    import subprocess
    import sys

    code = "import fastpool, sys; fastpool.conv2d; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_layers_that_follow_one_another_go_in_one_launch():
    from fastpool.onnx.program import _Linked

    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape, dtype=np.float32) for shape in [(8, 3, 3, 3), (4, 8, 1, 1), (5, 4)]]
    model = fastpool.onnx.load(
        model_of(
            """(float[1, 3, 8, 8] x) => (float[1, 5] y) {
                a = Conv <pads = [1, 1, 1, 1]> (x, first)
                b = Relu (a)
                c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
                d = Conv (c, second)
                e = GlobalAveragePool (d)
                f = Flatten (e)
                y = Gemm <transB = 1> (f, third)
            }""",
            first=weights[0],
            second=weights[1],
            third=weights[2],
        )
    )
    for seed in range(3):  # each run with other arrays
        x = np.random.default_rng(seed).standard_normal((1, 3, 8, 8), dtype=np.float32)
        a = fastpool.max_pool2d(fastpool.conv2d(x, weights[0], padding=1, activation="relu"), 2)
        wanted = fastpool.conv2d(a, weights[1]).mean((2, 3)) @ weights[2].T
        np.testing.assert_allclose(model(x), wanted, rtol=1e-4, atol=1e-4)
    (part,) = model._plan({"x": x})._program
    assert isinstance(part, _Linked)


def test_results_of_the_tail_are_new_arrays():
    text = """(float[2, 3] x, int64[2] s) => (float[A, B] y, float[A, B] z) {
        y = Reshape (x, s)
        z = Reshape (w, s)
    }"""
    weight = noise(2, 3)
    model = fastpool.onnx.load(model_of(text, w=weight))
    x = noise(2, 3, seed=1)
    for _ in range(2):
        found = model.run({"x": x, "s": np.array([3, 2])})
        np.testing.assert_array_equal(found["y"], x.reshape(3, 2))
        np.testing.assert_array_equal(found["z"], weight.reshape(3, 2))
        assert not np.shares_memory(found["y"], x)
        found["z"][...] = 0  # the caller's own


def test_pooling_of_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    text = """(bfloat16[1, 2, 4, 4] x) => (bfloat16[1, 2, 2, 2] y) {
        y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
    }"""
    x = noise(1, 2, 4, 4).astype(bfloat16)
    y = fastpool.onnx.load(model_of(text, opset=22), fallback=False)(x)
    np.testing.assert_array_equal(y, x.reshape(1, 2, 2, 2, 2, 2).astype(np.float32).max((3, 5)).astype(bfloat16))


def test_a_masked_array_is_refused_whatever_was_run_before(residual):
    x = noise(1, 3, 12, 11)
    residual.run({"x": x})
    with pytest.raises(TypeError, match="plain NumPy array"):
        residual.run({"x": np.ma.masked_less(x, 0)})


def fork_while_a_model_runs():
    import os
    import signal

    text = """(float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y) {
        y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
    }"""
    model = fastpool.onnx.load(model_of(text))
    x = noise(1, 2, 4, 4)
    model(x)
    with model._lock, model._plan({"x": x})._lock:  # as if another thread were inside
        child = os.fork()
        if not child:
            signal.alarm(60)
            model(x)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_a_forked_child_finds_models_open():
    from processes import run_apart

    run_apart("test_onnx_model", "fork_while_a_model_runs")
