"""Functions of each element: the kernel's against NumPy's in float64, at all its operands, ends and special numbers."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx_graphs import assert_like, model_of, run_elsewhere

import fastpool
import fastpool.onnx
from fastpool.arrays import address
from fastpool.dtypes import FLOATS
from fastpool.onnx.ops.pointwise import operands_of
from fastpool.plans.elementwise import Function, Operands, plan_elementwise
from fastpool.routines.elementwise import BINARY, SMOOTH, UNARY

FLOAT32 = np.dtype(np.float32)
ALPHA, BETA = 0.25, 0.5


def hard(x):
    return np.clip(ALPHA * x + BETA, 0, 1)


EXPECTED = {
    "clip": lambda x: x,
    "leaky": lambda x: np.where(x < 0, ALPHA * x, x),
    "hardsigmoid": hard,
    "hardswish": lambda x: x * hard(x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "prelu": lambda x, y: np.where(x < 0, x * y, x),
}


def run(name, x, y=None, operands=None, bounds=(-np.inf, np.inf), out=None):
    plan = plan_elementwise(
        FLOATS[x.dtype], Function(name, ALPHA, BETA, *bounds), Operands(1, x.size) if operands is None else operands
    )
    out = np.empty_like(x) if out is None else out
    plan.run(address(x), 0 if y is None else address(y), out=address(out))
    return out


def test_all_functions_have_something_to_be_compared_with():
    assert set(EXPECTED) == {*UNARY, *SMOOTH, *BINARY}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in (*UNARY, *SMOOTH) for dtype in FLOATS if dtype == FLOAT32 or name in UNARY],
    ids=str,
)
def test_functions_of_one_element(name, dtype):
    near = np.linspace(-12, 12, 4001)
    special = [0.0, -0.0, 1e-30, -1e-30, 87.0, 88.5, 90.0, -87.0, -90.0, -103.5, -200.0, 3e38, -3e38, np.inf, -np.inf]
    x = np.concatenate([near, special, 10.0 ** np.arange(-8, 2)]).astype(dtype)
    with np.errstate(all="ignore"):
        expected = EXPECTED[name](x.astype(float))
        if name == "swish":  # as a product it would be no number at -infinity, and is none here
            expected[x == -np.inf] = np.nan
        expected = expected.astype(dtype)
    got = run(name, x)
    # Where exp(-x) is beyond the largest float32, what it divides is 0.
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=100 / np.finfo(dtype).max)
    assert np.isnan(run(name, np.full(37, np.nan, dtype))).all()
    np.testing.assert_array_equal(run(name, x, out=x), got)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_elements(name, dtype):
    generator = np.random.default_rng(0)
    for planes, length in ((1, 5), (6, 49), (3, 7000), (40, 1), (70, 160)):
        x = generator.standard_normal((planes, length)).astype(dtype)
        cases = {
            (planes, length): Operands(1, x.size, "array", 1, x.size),
            (planes, 1): Operands(planes, length, "plane", planes),
            (1, length): Operands(planes, length, "array"),
            (1, 1): Operands(planes, length, "plane"),
        }
        for shape, operands in cases.items():
            y = generator.uniform(0.5, 2, shape).astype(dtype)
            results = []
            for count in (1, fastpool.get_num_threads()):
                around = np.full(x.size + 2, 7, dtype)
                with fastpool.threads(count):
                    run(name, x, y, operands, (-1.5, 2.0), around[1:-1])
                assert around[0] == around[-1] == 7
                results.append(around[1:-1].reshape(x.shape))
            expected = np.clip(EXPECTED[name](x, y), -1.5, 2).astype(dtype)
            np.testing.assert_allclose(results[0], expected, rtol=2 * np.finfo(dtype).eps)
            np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("shape", "second", "expected"),
    [
        ((2, 3, 4, 5), (3, 1, 1), Operands(6, 20, "plane", 3)),
        ((2, 3, 4, 5), (2, 3, 1, 1), Operands(6, 20, "plane", 6)),
        ((2, 3, 4, 5), (2, 3, 4, 5), Operands(1, 120, "array", 1, 120)),
        ((2, 3, 4, 5), (4, 5), Operands(6, 20, "array", 1, 0)),
        ((2, 3, 4, 5), (5,), Operands(24, 5, "array", 1, 0)),
        ((2, 3, 4, 5), (), Operands(1, 120, "plane", 1)),
        ((2, 1, 4, 5), (2, 1, 4, 1), Operands(8, 5, "plane", 8)),
        ((2, 3, 4, 5), (2, 1, 4, 5), None),
        ((2, 1, 4, 5), (2, 3, 4, 5), None),
        ((5,), (2, 5), None),
    ],
    ids=str,
)
def test_operands_that_are_broadcast(shape, second, expected):
    assert operands_of(shape, second) == expected


def test_fused_activations_equal_those_of_others():
    text = """(float[N, 3, 9, 9] x) => (float[N, 8, 9, 9] y, float[N, 8, 9, 9] z, float[N, 8, 9, 9] u) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        s = Sigmoid (a)
        b = Mul (a, s)
        p = GlobalAveragePool (b)
        c = Conv (p, v)
        h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (c)
        y = Mul (h, b)
        g = HardSigmoid <alpha = 0.16666667, beta = 0.5> (y)
        z = Mul (g, y)
        k = HardSigmoid <alpha = 0.25, beta = 0.5> (y)
        l = Mul (k, y)
        t = Tanh (l)
        d = Sub (one, t)
        u = PRelu (d, q)
    }"""
    generator = np.random.default_rng(0)
    model = model_of(
        text,
        w=generator.standard_normal((8, 3, 3, 3), np.float32),
        v=generator.standard_normal((8, 8, 1, 1), np.float32),
        q=generator.standard_normal((8, 1, 1), np.float32),
        one=np.ones(1, np.float32),
    )
    ours = fastpool.onnx.load(model, fallback=False)
    for batch in (1, 2):
        feeds = {"x": generator.standard_normal((batch, 3, 9, 9), np.float32)}
        assert_like(ours.run(feeds).values(), run_elsewhere(model, feeds))
    merged = [row.node.split()[0] + " " + "+".join(row.merged) for row in ours.summary().rows if row.merged]
    assert merged == ["Sigmoid Mul", "HardSigmoid Mul"]
