"""A matrix times a vector, with the weights of an output side by side or those of an input."""

import numpy as np
import pytest

import fastpool
from fastpool.arrays import address
from fastpool.dtypes import FLOATS
from fastpool.plans.linear import plan_gemv


def noise(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


GEMV_SIZES = [(1, 1), (3, 5), (10, 84), (33, 70), (130, 257), (1000, 48)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("by_rows", [True, False])
def test_a_matrix_times_a_vector(dtype, by_rows):
    for outputs, inputs in GEMV_SIZES:
        weight, x, bias = (
            noise(outputs, inputs, dtype=dtype),
            noise(inputs, dtype=dtype, seed=1),
            noise(outputs, dtype=dtype),
        )
        around = np.full(outputs + 2, 7, dtype)
        out = around[1:-1]
        lying = np.ascontiguousarray(weight if by_rows else weight.T)
        plan = plan_gemv(FLOATS[dtype], outputs, inputs, by_rows, -1.0, 6.0)
        results = []
        for count in (1, fastpool.get_num_threads()):
            with fastpool.threads(count):
                plan.run(address(x), address(lying), address(bias), 0, address(out))
            results.append(out.copy())
        expected = np.clip(weight.astype(float) @ x + bias, -1, 6)
        scale = (abs(weight).astype(float) @ abs(x) + abs(bias)).max()
        np.testing.assert_allclose(results[0], expected, rtol=0, atol=4 * np.finfo(dtype).eps * scale)
        np.testing.assert_array_equal(results[0], results[-1])
        assert around[0] == around[-1] == 7
