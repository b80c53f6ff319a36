"""`out`: only what a result can be written to, and nothing that is read meanwhile."""

import numpy as np
import pytest
from calls import CALLS, CLASSES, WEIGHT, X, call, functions_with, refused
from conftest import SENTINEL, assert_close
from numpy.lib.stride_tricks import as_strided


@pytest.mark.parametrize("name", functions_with("out"))
def test_out_is_a_plain_array_of_the_results_shape_and_dtype(name):
    wanted = call(name, CALLS[name])
    shape, dtype = wanted.shape, wanted.dtype
    for value in (1, "out", [0.0], object(), (wanted,), memoryview(wanted), np.ma.array(wanted), np.float32(0)):
        refused(name, "out", value)
    for other in (np.float64, np.int32, np.float16, np.complex64, object, dtype.newbyteorder()):
        refused(name, "out", np.zeros(shape, other))
    for other in ((), (0,), shape[1:], (1, *shape), (*shape[:3], shape[3] + 1), (3, *shape[1:]), shape[::-1]):
        refused(name, "out", np.zeros(other, dtype))


@pytest.mark.parametrize("name", functions_with("out"))
def test_out_is_writeable(name):
    wanted = call(name, CALLS[name])
    out = np.full(wanted.shape, SENTINEL, wanted.dtype)
    out.flags.writeable = False
    refused(name, "out", out)
    refused(name, "out", np.broadcast_to(np.float32(SENTINEL), wanted.shape))
    np.testing.assert_array_equal(out, np.full_like(out, SENTINEL))


@pytest.mark.parametrize("name", [name for name in functions_with("out") if "global" not in name])
def test_out_does_not_overlap_itself(name):
    shape = call(name, CALLS[name]).shape
    memory = np.full(4 * np.prod(shape), SENTINEL, np.float32)
    size = memory.itemsize
    whole = [step * size for step in (np.prod(shape[1:]), np.prod(shape[2:]), shape[3], 1)]
    for axis in range(4):
        if shape[axis] > 1:
            overlapping = whole.copy()
            overlapping[axis] = 0
            refused(name, "out", as_strided(memory, shape, overlapping))
    refused(name, "out", as_strided(memory, shape, [whole[0], whole[1], size, size]))
    refused(name, "out", as_strided(memory, shape, [size, size, size, size]))
    refused(name, "out", as_strided(memory, shape, [*whole[:3], 1]))  # elements that share bytes
    np.testing.assert_array_equal(memory, np.full_like(memory, SENTINEL))


#: Calls whose result has x's shape, so that `out` may lie on x in every way.
SAME_SHAPE = {name: {"kernel_size": 3, "stride": 1, "padding": 1} for name in functions_with("kernel_size")}
SAME_SHAPE |= {name: {"output_size": None} for name in functions_with("output_size")}
SAME_SHAPE |= {"conv2d": {}, "conv_transpose2d": {}, **{name: {} for name in CLASSES}}


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_out_does_not_overlap_x(name):
    memory = np.zeros(4 * X.size, np.float32)
    size = X.size
    x = memory[size : 2 * size].reshape(X.shape)
    x[...] = X
    kept = memory.copy()
    for first in (1, size // 2, size - 1, size, size + 1, 2 * size - 1):
        refused(name, "out", memory[first : first + size].reshape(X.shape), x=x, **SAME_SHAPE[name])
    refused(name, "out", x[..., ::-1], x=x, **SAME_SHAPE[name])
    refused(name, "out", x[:1], x=x[:1], **SAME_SHAPE[name])
    refused(name, "out", x[0], x=x[0], **SAME_SHAPE[name])
    np.testing.assert_array_equal(memory, kept)


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_out_beside_x_or_between_its_elements_is_accepted(name):
    wanted = call(name, CALLS[name] | SAME_SHAPE[name])
    memory = np.zeros(3 * X.size, np.float32)
    for x, out in (
        (memory[: X.size].reshape(X.shape), memory[X.size : 2 * X.size].reshape(X.shape)),
        (memory[: 2 * X.size : 2].reshape(X.shape), memory[1 : 2 * X.size : 2].reshape(X.shape)),
    ):
        assert np.shares_memory(x, memory)
        x[...] = X
        result = call(name, CALLS[name] | SAME_SHAPE[name] | {"x": x, "out": out})
        assert result is out
        assert_close(out.copy(), wanted)
        np.testing.assert_array_equal(x, X)


def test_out_does_not_overlap_the_other_inputs():
    memory = np.full(X.size + 200, SENTINEL, np.float32)
    out = memory[: X.size].reshape(X.shape)
    weight, bias = as_strided(memory[X.size - 1 :], WEIGHT.shape, WEIGHT.strides), memory[X.size - 4 : X.size]
    memory[...] = SENTINEL
    refused("conv2d", "out", out, weight=weight)
    refused("conv2d", "out", out, bias=bias)
    refused("conv2d", "out", out, residual=out)
    refused("Conv2d", "out", out, residual=out[..., ::-1])
    refused("subsample2d", "out", out, weight=bias, **SAME_SHAPE["subsample2d"])
    refused("subsample2d", "out", out, bias=bias, **SAME_SHAPE["subsample2d"])
    np.testing.assert_array_equal(memory, np.full_like(memory, SENTINEL))
