"""A call of every function of two dimensions that works, and helpers that put something bad in it."""

import re

import numpy as np
import pytest
from conftest import SENTINEL, integers

import fastpool
from fastpool import oracle

X = integers(0, (2, 4, 6, 7), np.float32)
WEIGHT = integers(1, (4, 4, 3, 3), np.float32)
BIAS = integers(2, (4,), np.float32)

POOLING = {"x": X, "kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False}
FORM = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
TRANSPOSED = {"x": X, "stride": 1, "padding": 1, "output_padding": 0, "dilation": 1}
#: Function of two dimensions -> arguments of a call that works.
CALLS = {
    "conv2d": {"x": X, "weight": WEIGHT, "bias": BIAS, **FORM, "activation": None, "algorithm": "auto"},
    "conv_transpose2d": {**TRANSPOSED, "weight": WEIGHT, "bias": BIAS, "groups": 1, "activation": None},
    "subsample2d": {**POOLING, "weight": BIAS, "bias": BIAS},
    "max_pool2d": {**POOLING, "dilation": 1, "return_indices": False},
    "min_pool2d": {**POOLING, "dilation": 1, "return_indices": False},
    "avg_pool2d": {**POOLING, "dilation": 1, "count_include_pad": True, "divisor_override": None},
    "sum_pool2d": {**POOLING, "dilation": 1},
    "lp_pool2d": {**POOLING, "dilation": 1, "norm_type": 2},
    "adaptive_avg_pool2d": {"x": X, "output_size": 3},
    "adaptive_max_pool2d": {"x": X, "output_size": 3, "return_indices": False},
    "global_avg_pool2d": {"x": X},
    "global_max_pool2d": {"x": X},
    "global_lp_pool2d": {"x": X, "norm_type": 2},
}
CALLS["conv2d"]["residual"] = None
for _name in CALLS:
    CALLS[_name]["out"] = None
#: The class takes some of its arguments when it is made, the others when it is called.
CLASSES = {"Conv2d": "conv2d", "ConvTranspose2d": "conv_transpose2d"}
CALLS |= {name: CALLS[function] for name, function in CLASSES.items()}
AT_CALL = ("x", "residual", "out")

#: Arguments that are one integer, or one for each axis, and the smallest that is allowed.
PER_AXIS = {"stride": 1, "padding": 0, "dilation": 1, "kernel_size": 1, "output_size": 1, "output_padding": 0}

NAN = float("nan")
HUGE = (2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 10**5000)


def call(name, arguments):
    """Call a public function, or make and call an object of a class."""
    if name not in CLASSES:
        return getattr(fastpool, name)(**arguments)
    at_call = {key: value for key, value in arguments.items() if key in AT_CALL}
    made = getattr(fastpool, name)(**{key: value for key, value in arguments.items() if key not in AT_CALL})
    return made(at_call.pop("x"), **at_call)


def functions_with(argument):
    """Functions that take an argument of this name."""
    return [name for name, arguments in CALLS.items() if argument in arguments]


def shown(value):
    """Short text of any value, for the name of a test."""
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__}[{','.join(map(str, value.shape))}]{value.dtype}"
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        text = f"10**{value.bit_length() * 3 // 10}" if isinstance(value, int) else f"huge {type(value).__name__}"
    return re.sub(r" at 0x\w+", "", text)[:60]


def refused(name, argument, value, **others):
    """Require that a call with this value is refused, that the message names the argument, and `out` stays as it is."""
    arguments = CALLS[name] | others
    watched = None
    if "out" in arguments and argument != "out" and not others:
        # Shape and dtype of the result of the good call: nothing but the bad argument is wrong.
        result = call(name, arguments)
        watched = arguments["out"] = np.full(result.shape, SENTINEL, result.dtype)
    with pytest.raises((TypeError, ValueError)) as caught:
        call(name, arguments | {argument: value})
    message = str(caught.value)
    assert re.search(rf"\b{argument}\b", message), f"the message does not name {argument}: {message}"
    assert len(message) < 1000
    if watched is not None:
        np.testing.assert_array_equal(watched, np.full_like(watched, SENTINEL))


def reference(name, arguments):
    """Compute a call by the oracle, which has neither `out` nor algorithms."""
    arguments = {key: value for key, value in arguments.items() if key not in ("out", "algorithm")}
    return getattr(oracle, "conv2d" if name == "Conv2d" else name)(**arguments)


IN_ORACLE = [name for name in CALLS if name.lower() in oracle.__all__]
