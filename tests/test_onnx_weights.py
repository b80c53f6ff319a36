"""Weights of models: kept in the forms that plans read, given back from these, and read as they lie."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_graphs import assert_like, model_of

import fastpool
import fastpool.onnx
from fastpool.layer import layer_for
from fastpool.machine.processor import TARGET
from fastpool.onnx.ops.prepared import Packed, Prepared
from fastpool.plans.convolution import unpack_weights
from fastpool.routines.tiles import TILE_SHAPES


def noise(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("tile", TILE_SHAPES[TARGET.registers][:2] + TILE_SHAPES[TARGET.registers][-1:], ids=str)
@pytest.mark.parametrize(("shape", "groups"), [((40, 5, 3, 2), 1), ((6, 3, 1, 1), 2), ((33, 1, 7, 1), 3)], ids=str)
def test_packed_weights_give_back_what_was_packed(tile, shape, groups):
    weight = noise(*shape)
    layer = layer_for(weight, 2, 1, 0, 1, groups, "zeros", None, "auto", True, True)
    found = unpack_weights(layer.pack(weight, tile), tile, shape, groups)
    np.testing.assert_array_equal(found, weight)
    assert found.flags.c_contiguous  # kernels are given its address


CONVOLUTION = """(float[1, 32, H, W] x) => (float[1, 32, H, W] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w) }"""


def test_weights_serve_shapes_that_ask_for_different_forms():
    weight = noise(32, 32, 3, 3)
    model = fastpool.onnx.load(model_of(CONVOLUTION, w=weight), fallback=False)
    algorithms = set()
    for size in (1, 40, 3, 24, 1):
        x = noise(1, 32, size, size, seed=size)
        assert_like([model(x)], [fastpool.conv2d(x, weight, padding=1, algorithm="direct")])
        algorithms.add(model.summary({"x": x.shape}).rows[0].algorithm)
    assert len(algorithms) > 1
    # Winograd's tiles with an infinity are computed from the filters, whatever they were packed for before.
    x = noise(1, 32, 40, 40)
    x[0, 3, 20, 21] = np.inf
    np.testing.assert_array_equal(
        np.isnan(model(x)), np.isnan(fastpool.conv2d(x, weight, padding=1, algorithm="direct"))
    )
    x[0, 3, 20, 21] = np.nan
    assert np.isnan(model(x)).sum() == 32 * 9


def test_weights_that_others_read_are_not_handed_over():
    text = """(float[1, 2, 5, 5] x) => (float[1, 2, 3, 3] y, float[36] z) {
        y = Conv (x, w)
        z = Reshape (w, flat)
    }"""
    weight = noise(2, 2, 3, 3)
    model = fastpool.onnx.load(model_of(text, w=weight, flat=np.array([36])), fallback=False)
    y, z = model.run({"x": noise(1, 2, 5, 5)}).values()
    np.testing.assert_array_equal(z, weight.ravel())
    assert_like([y], [fastpool.conv2d(noise(1, 2, 5, 5), weight)])


def test_only_packed_weights_stay():
    model = fastpool.onnx.load(model_of(CONVOLUTION, w=noise(32, 32, 3, 3)))
    array = model._graph.constants["w"]
    assert isinstance(array, Packed)
    assert array.strides == (0, 0, 0, 0)
    assert np.isnan(array).all()  # who takes it for the weights shall notice
    model(noise(1, 32, 3, 3))
    assert array.weights._given is None


@pytest.mark.parametrize("turned", [0, 1])
def test_one_row_of_gemm_and_matmul(turned):
    text = f"""(float[N, 20] x) => (float[N, 7] y, float[N, 7] z, float[N, 7] scaled) {{
        p = Gemm <transB = {turned}, beta = 2.0> (x, w, b)
        y = Relu (p)
        z = MatMul (x, m)
        scaled = Gemm <transB = {turned}, alpha = 0.5> (x, w)
    }}"""
    weight, bias = noise(7, 20), noise(7)
    model = fastpool.onnx.load(
        model_of(text, w=weight if turned else weight.T.copy(), b=bias, m=weight.T.copy()), fallback=False
    )
    for rows in (1, 3, 1):
        x = noise(rows, 20, seed=rows)
        product = x @ weight.T
        assert_like(model.run({"x": x}).values(), [np.maximum(product + 2 * bias, 0), product, product / 2])
    assert model.summary({"x": (1, 20)}).rows[0].algorithm == "matrix times vector"


@pytest.mark.parametrize(
    ("kernel", "options", "is_product"),
    [
        (3, {}, True),
        (3, {"padding": ((0, 1), (0, 1)), "stride": 2}, True),
        (3, {"padding": 1, "stride": 3}, False),
        (3, {"padding": ((0, 2), (0, 2)), "dilation": 2}, False),
        (1, {"groups": 2}, False),
    ],
    ids=str,
)
def test_one_window_is_a_matrix_times_a_vector(kernel, options, is_product):
    groups = options.get("groups", 1)
    weight, bias, x = noise(9 * groups, 4, kernel, kernel), noise(9 * groups), noise(1, 4 * groups, kernel, kernel)
    arguments = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | options
    prepared = Prepared(weight, bias, *arguments.values(), "zeros", (0.0, None), "auto")
    assert (prepared.algorithm(x.shape, False) == "matrix times vector") is is_product
    out = np.empty(prepared.shape(x.shape), np.float32)
    prepared.task(x, None, out)()
    assert_like([out], [fastpool.conv2d(x, weight, bias, **options, activation="relu")])


def test_rows_in_any_number_have_the_same_weights():
    weight, bias = noise(128, 10), noise(10)
    text = "(float[N, 128] x) => (float[N, 10] y) { y = Gemm (x, w, b) }"
    model = fastpool.onnx.load(model_of(text, w=weight, b=bias), fallback=False)
    for rows in (4, 8, 64, 1, 4, 2):
        x = noise(rows, 128, seed=rows)
        assert_like([model(x)], [x @ weight + bias])


def test_a_computed_bias_is_that_of_each_run():
    weight = noise(4, 2, 3, 3)
    text = "(float[1, 2, H, W] x, float[4] b) => (float[1, 4, H, W] y) { y = Conv <pads = [1, 1, 1, 1]> (x, w, b) }"
    model = fastpool.onnx.load(model_of(text, w=weight), fallback=False)
    of_shapes = fastpool.onnx.load(
        model_of(
            """(float[N, 2, H, W] x) => (float[N, 4, H, W] y) {
                s = Shape (x)
                b = Cast <to = 1> (s)
                y = Conv <pads = [1, 1, 1, 1]> (x, w, b)
            }""",
            w=weight,
        )
    )
    for size in (5, 8, 5):
        x, bias = noise(1, 2, size, 6, seed=size), noise(4, seed=size)
        assert_like([model.run({"x": x, "b": bias})["y"]], [fastpool.conv2d(x, weight, bias, padding=1)])
        bias = np.array(x.shape, np.float32)
        assert_like([of_shapes(x)], [fastpool.conv2d(x, weight, bias, padding=1)])


def test_a_summand_that_does_not_count_is_not_read():
    text = "(float[N, 3] x) => (float[N, 2] y) { y = Gemm <beta = 0.0> (x, w, b) }"
    weight, bias = noise(3, 2), np.array([np.nan, np.inf], np.float32)
    model = fastpool.onnx.load(model_of(text, w=weight, b=bias), fallback=False)
    for rows in (1, 3):
        x = noise(rows, 3)
        assert_like([model(x)], [x @ weight])


@pytest.mark.parametrize(
    "text",
    [
        "(double[1, 4, 3, 3] x) => (double[1, 4, 3, 3] y) { y = PRelu (x, w) }",
        """(double[1, 4, 6, 6] x) => (double[1, 4, 3, 3] y) {
            a = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)
            y = Mul (a, w)
        }""",
    ],
    ids=["slope", "factor"],
)
def test_operands_of_another_type_are_refused(text):
    model = fastpool.onnx.load(model_of(text, w=noise(4, 1, 1)))
    shape = (1, 4, 3, 3) if "PRelu" in text else (1, 4, 6, 6)
    with pytest.raises(fastpool.onnx.ModelError, match="dtype"):
        model(noise(*shape, dtype=np.float64))
