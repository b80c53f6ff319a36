"""What kernels are compiled for: numbers, tuples and ranges, beside Numba's own target and not in its way."""

import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from conftest import assert_close, noise
from numba.core.registry import cpu_target
from processes import run_apart

import fastpool
from fastpool import oracle
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.kernels._jit import compile_routine, device
from fastpool.kernels._target import Device, target
from fastpool.routines.layout import Layout
from fastpool.routines.routine import entries, kernel, spec_for

FLOAT = ELEMENT_TYPES[np.dtype(np.float32)]
NOTHING = Layout("nothing", {})
MODULE = Path(__file__).stem


def compile_and_look():
    """Compile a convolution and a pooling, and see what was loaded for it."""
    x = np.ones((1, 16, 16, 16), np.float32)
    fastpool.conv2d(x, np.ones((16, 16, 3, 3), np.float32))
    fastpool.max_pool2d(x, 2)
    assert not any(compiled.cached for compiled in entries.values())
    assert "fastpool.kernels._jit" in sys.modules
    assert not {"numba.np.arraymath", "scipy.linalg"} & set(sys.modules)


def compile_both(is_theirs_first):
    """Compile a function of arrays, lists and dictionaries beside kernels."""

    @numba.njit
    def total(a):
        found = {}
        for number, row in enumerate(a):
            found[number] = np.sum(np.sqrt(row)) + 2
        sums = 0.0
        for key in found:
            sums += found[key]
        return sums

    a = np.arange(12.0).reshape(3, 4)
    wanted = np.sqrt(a).sum() + 6
    if is_theirs_first:
        np.testing.assert_allclose(total(a), wanted)
    np.testing.assert_array_equal(fastpool.max_pool2d(a[None], 2), [[[5, 7]]])
    np.testing.assert_allclose(total(a.astype(np.float32)), wanted, 1e-6)
    np.testing.assert_allclose(total(a), wanted)
    np.testing.assert_array_equal(fastpool.avg_pool2d(a[None], 3), [[[5]]])
    assert not any(compiled.cached for compiled in entries.values())


def test_compiling_loads_nothing_of_arrays(tmp_path):
    run_apart(MODULE, "compile_and_look", environment={"NUMBA_CACHE_DIR": str(tmp_path)})


@pytest.mark.parametrize("is_theirs_first", [True, False])
def test_other_functions_compile_beside_kernels(tmp_path, is_theirs_first):
    run_apart(MODULE, "compile_both", is_theirs_first, environment={"NUMBA_CACHE_DIR": str(tmp_path)})


def test_unoptimised_code_runs(tmp_path):
    """It still has what Numba writes for errors, which no kernel raises: what that calls has to be there."""
    run_apart(MODULE, "compile_and_look", environment={"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "0"})


def test_contexts_are_their_own():
    assert target.target_context is not cpu_target.target_context
    assert target.typing_context is not cpu_target.typing_context
    assert target.target_context.target_name == "fastpool"


def test_kernels_compile_after_a_function_that_knows_arrays():
    """Numba then knows more ways to add and to index than kernels need, and must not take them."""

    @numba.njit
    def mean(a):
        return np.mean(a) + np.linalg.norm(a)

    mean(np.ones(3))
    x, weight = noise(0, (1, 5, 9, 9), np.float64), noise(1, (7, 5, 3, 3), np.float64)
    assert_close(fastpool.conv2d(x, weight), oracle.conv2d(x, weight))


@device
def _doubled(number):
    """Twice the number."""
    return 2 * number


def _calls_with_numbers(call, task, thread):
    total = 0
    for _ in range(task):
        total += _doubled(3) + _doubled(4) + _doubled(thread)


def test_a_device_is_compiled_once_for_all_numbers_in_calls():
    assert isinstance(_doubled, Device)
    before = len(_doubled.overloads)
    assert compile_routine(kernel(_calls_with_numbers, NOTHING), spec_for(FLOAT, "", 1, 1), on_disk=False).load()
    assert before == 0
    assert len(_doubled.overloads) == 1
