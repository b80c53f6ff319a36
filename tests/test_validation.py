"""Bad input: a ValueError or TypeError that names the argument, before anything is computed, allocated or written."""

import datetime
import decimal
import fractions
import re
import warnings

import numpy as np
import pytest
from calls import (
    BIAS,
    CALLS,
    CLASSES,
    HUGE,
    IN_ORACLE,
    NAN,
    PER_AXIS,
    WEIGHT,
    X,
    call,
    functions_with,
    reference,
    refused,
    shown,
)
from conftest import DTYPES, assert_close, integers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from processes import run_apart
from sweeps import sweep

import fastpool
from fastpool import oracle_extras


def test_every_function_is_in_the_table():
    others = {*oracle_extras.__all__, "set_num_threads", "get_num_threads", "threads", "info"}
    assert {name.replace("2d", f"{n}d") for name in CALLS for n in (1, 2, 3)} == set(fastpool.__all__) - others


@pytest.mark.parametrize("name", IN_ORACLE)
def test_the_calls_of_the_table_work(name):
    assert_close(call(name, CALLS[name]), reference(name, CALLS[name]))


@pytest.mark.parametrize("name", CALLS)
def test_unknown_and_missing_arguments_are_type_errors(name):
    with pytest.raises(TypeError, match="colour"):
        call(name, CALLS[name] | {"colour": 1})
    for missing in ("weight", "kernel_size", "output_size", "norm_type"):
        if missing in CALLS[name]:
            with pytest.raises(TypeError, match=missing):
                call(name, {key: value for key, value in CALLS[name].items() if key != missing})


# ------------------------------------------------------------------------------------------------------------- arrays

#: Not plain NumPy arrays.
NO_ARRAYS = (
    *(None, 1.0, "x", [[[[1.0]]]], object(), memoryview(np.zeros((1, 1, 4, 4), np.float32)), np.float32(1)),
    *(np.ma.masked, np.ma.array(X, mask=X > 0), np.ma.array(X)),
)
WRONG_DTYPES = (
    *(np.int64, np.int8, np.uint8, np.bool_, np.float16, np.longdouble, np.complex64, np.complex128, object, "U3"),
    *("S3", "M8[s]", "m8[s]", "V8", [("a", np.float32)], np.dtypes.StringDType()),
)


NOT_FOR_IMAGES = (
    *((), (4,), (6, 7), (1, 2, 4, 6, 7), (1, 1, 1, 2, 4, 6, 7)),  # neither 3 nor 4 dimensions
    *((2, 0, 6, 7), (2, 4, 0, 7), (2, 4, 6, 0), (0, 0, 6, 7), (0, 4, 6, 0), (0, 6, 7), (4, 0, 7), (4, 6, 0)),  # empty
)
NOT_FOR_FILTERS = (
    *((), (4,), (4, 4), (4, 4, 3), (1, 4, 4, 3, 3), (0, 4, 3, 3), (4, 0, 3, 3), (4, 4, 0, 3), (4, 4, 3, 0)),
    *((4, 1, 3, 3), (4, 2, 3, 3), (4, 3, 3, 3), (4, 5, 3, 3), (4, 8, 3, 3)),  # other channels than x's
    *((4, 4, 9, 3), (4, 4, 3, 10), (4, 4, 100, 100)),  # larger than the padded x
)
NOT_FOR_CHANNELS = ((), (0,), (1,), (3,), (5,), (1, 4), (4, 1), (1, 4, 1, 1))
NOT_FOR_RESIDUAL = ((), (1,), (4, 6, 7), (1, 4, 6, 7), (2, 1, 1, 1), (2, 4, 6, 8), (2, 4, 7, 7), (1, 2, 4, 6, 7))
#: (function, argument) -> shapes that are refused.
ARRAYS = {(name, "x"): NOT_FOR_IMAGES for name in CALLS} | {
    ("subsample2d", "weight"): NOT_FOR_CHANNELS,
    ("subsample2d", "bias"): NOT_FOR_CHANNELS,
}
for _name in ("conv2d", "Conv2d"):
    ARRAYS[_name, "x"] += tuple((2, channels, 6, 7) for channels in (1, 2, 3, 5, 8))
    ARRAYS |= {(_name, "weight"): NOT_FOR_FILTERS, (_name, "bias"): NOT_FOR_CHANNELS}
    ARRAYS[_name, "residual"] = NOT_FOR_RESIDUAL


ARRAYS |= {("conv_transpose2d", "weight"): NOT_FOR_FILTERS[:9], ("conv_transpose2d", "bias"): NOT_FOR_CHANNELS}
ARRAYS["conv_transpose2d", "x"] = ARRAYS["conv2d", "x"]


@pytest.mark.parametrize(("name", "argument"), ARRAYS)
def test_arrays(name, argument):
    good = X if argument == "residual" else CALLS[name][argument]
    for value in NO_ARRAYS:
        if value is not None or argument in ("x", "weight"):
            refused(name, argument, value)
    for dtype in WRONG_DTYPES[5:] if "pool" in name else WRONG_DTYPES:  # poolings take the first five
        refused(name, argument, np.zeros(good.shape, dtype))
    for shape in ARRAYS[name, argument]:
        refused(name, argument, np.zeros(shape, np.float32))
    if "weight" in CALLS[name] and (name, argument) != ("subsample2d", "x"):  # a second array to agree with
        refused(name, argument, good.astype(np.float64))


@pytest.mark.parametrize("name", IN_ORACLE)
def test_an_empty_batch_gives_an_empty_result(name):
    arguments = CALLS[name] | {"x": X[:0]}
    assert_close(call(name, arguments), reference(name, arguments))


@pytest.mark.parametrize("argument", ["stride", "padding", "dilation", "kernel_size", "output_size", "ceil_mode"])
def test_an_empty_batch_is_checked_all_the_same(argument):
    for name in functions_with(argument):
        refused(name, argument, -1, x=X[:0])


@pytest.mark.parametrize("name", ["conv2d", "Conv2d"])
def test_groups_and_sizes_that_do_not_go_together(name):
    # Groups that divide the output channels, but not into what x has.
    refused(name, "x", X, weight=np.zeros((4, 2, 3, 3), np.float32), groups=4, bias=None)
    refused(name, "groups", 3, weight=np.zeros((4, 1, 3, 3), np.float32))
    refused(name, "weight", WEIGHT, x=X[..., :2], padding=0)


@pytest.mark.parametrize("name", functions_with("kernel_size"))
def test_a_kernel_larger_than_the_padded_input(name):
    for kernel in (8, (7, 1), (1, 8), 100, 2**31 - 1):
        refused(name, "kernel_size", kernel)
    refused(name, "kernel_size", 9, padding=((1, 1), (0, 0)))
    if "dilation" in CALLS[name]:
        refused(name, "kernel_size", 2, dilation=7)
        refused(name, "kernel_size", (1, 2), dilation=2**31 - 1)


# ----------------------------------------------------------------------------------------------- integers and options


class Index:
    """An object that says it is an integer and is none."""

    def __index__(self):
        return 1.5


#: Neither an integer nor some of them, whatever the argument.
NO_INTEGERS = (
    *(True, False, 1.5, 2.0, float("nan"), float("inf"), np.float64(2), np.float32(2), np.bool_(True), 2j, "2"),
    *("1,1", "", b"2", b"\x02\x02", bytearray(b"\x02\x02"), memoryview(b"\x02\x02")),
    *(memoryview(np.zeros((2, 2), np.int64)), object(), int, {}, {1, 2}, {1: 2}, iter([1, 2]), slice(1, 2), Ellipsis),
    *(NotImplemented, fractions.Fraction(2), decimal.Decimal(2), datetime.timedelta(2), np.datetime64("2020-01-01")),
    *(Index(), np.ma.masked, np.array(1.5), np.array(True), np.array("2"), np.array(None), np.array([1.0, 2.0])),
    *(np.array([True, True]), np.array(["1", "2"]), np.array([object(), object()]), np.array([], np.int64)),
    *(np.zeros((0, 2), np.int64), np.zeros((2, 0), np.int64), np.ones((2, 2, 2), np.int64)),
    np.ma.array([1, 2], mask=[False, True]),
)
#: Sequences of the wrong length or with something wrong inside.
NO_PAIRS = (
    *((1, 2, 3), [1, 2, 3, 4], (1, 1.5), [1.0, 1], (True, 1), (1, "1"), ("1", "1"), (1, [1]), ([1, 1], 1)),
    *(((1, 1), 1), (1, (1, 1)), (object(), 1), (1, np.float64(1)), (np.array(1.5), 1), (1, np.array([1, 2]))),
    *((1, -1), (-1, 1), (((1,),), 1), [[[[]]]], range(3), [{}], (1, 10**5000), (10**5000, 1, 1)),
)
#: Argument -> values that are wrong, for every function that has it.
REFUSED = {
    "dilation": (None, (None, 1), "same"),
    "kernel_size": (None, (None, 1), "same"),
    "stride": ("same", (None, None), b""),  # an empty sequence means the default; text is no sequence of numbers
    "padding": (
        *(None, "SAME", "full", "same ", "zeros", b"same", ("same", "same"), (None, None), (1, None), ((1, 1),)),
        *(((1, 1), (1, 1), (1, 1)), ((1, 1), (1,)), ((1, 1), (1, 1, 1)), ((1, 1), 1), ((1, 1), None)),
        *(((1, 1.0), (1, 1)), ((1, True), (1, 1)), ((-1, 1), (1, 1)), ((1, 1), (1, -1)), (("a", "b"), ("c", "d"))),
        *(("ab", "cd"), (b"ab", b"cd"), (((1, 1), (1, 1)), ((1, 1), (1, 1))), ({1, 2}, {1, 2})),
        *(np.array([[1, 1], [1, -1]]), np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([[1, 1]])),
        *(((huge, 0), (0, 0)) for huge in HUGE),
        *([[0, huge], [huge, huge]] for huge in HUGE),
        2**30 - 4,  # allowed for each axis; together they are no array
    ),
    "output_size": (
        *((), [], (1, 2, 3), "3", (None, None, None), (None, 0), (0, None), (-1, None), (True, None), ((3, 3), 1)),
        (2**31 - 1, 2**31 - 1),  # each is allowed; together they are no array
    ),
    **dict.fromkeys(
        ("ceil_mode", "return_indices", "count_include_pad"),
        (None, 0, 1, 1.0, "True", "", [], [True], np.array([True]), np.array(True), object(), 10**5000),
    ),
    "groups": (
        *(0, -1, -4, 3, 5, 8, 2.0, 1.5, True, "2", None, [1], (1,), np.float64(1), np.array([1, 2]), object(), *HUGE),
        *(-huge for huge in HUGE),
    ),
    "padding_mode": (None, 0, True, "", "ZEROS", "edge", "wrap", "same", b"zeros", ["zeros"], np.array("x"), 10**5000),
    "algorithm": (None, 0, True, "", "AUTO", "fft", b"auto", ["auto"], np.array("auto"), 10**5000),
    "activation": (
        *("ReLU", "sigmoid", "", b"relu", 0, 6.0, True, object(), len, {}, {0, 6}),
        *((), (0,), (0, 1, 2), [0, 1, 2], [None], ((0, 1),), "06", np.array([0.0, 6.0]), range(2)),
        *((NAN, 1), (0, NAN), (NAN, NAN), (NAN, None), (None, NAN), (1, 0), (6.0, -6.0), (float("inf"), 0)),
        *(("0", "6"), ("a", None), (0, "6"), (True, 6), (0, False), (0j, 1), (0, [6]), (None, object())),
        *((np.array([0.0, 1.0]), None), (None, np.bool_(True)), (fractions.Fraction(1, 2), None)),
        *((10**400, None), (None, -(10**400)), (0, 10**5000), (-(10**5000), None)),
    ),
    "norm_type": (
        *(0, 0.0, -0.0, -1, -2.5, NAN, -float("inf"), np.float32(0), np.float64(NAN), None, "2", b"2", True, 2j, [2]),
        *((2,), np.array([2.0]), object(), fractions.Fraction(2), decimal.Decimal(2), 10**400, -(10**400), 10**5000),
    ),
    "divisor_override": (
        *(0, np.int64(0), True, False, 1.5, 2.0, NAN, "2", [2], (2,), 2j, object(), np.array([1, 2]), np.float64(2)),
        *HUGE,
        *(-huge for huge in HUGE),
    ),
}


@pytest.mark.parametrize("value", [*NO_INTEGERS, *NO_PAIRS], ids=shown)
@pytest.mark.parametrize("argument", PER_AXIS)
def test_integers_of_each_axis(argument, value):
    for name in functions_with(argument):
        refused(name, argument, value)


@pytest.mark.parametrize("argument", PER_AXIS)
def test_integers_out_of_range(argument):
    low = PER_AXIS[argument] - 1
    below = (low, -1, -7, -(2**31), -(2**63), -(10**30), np.int64(-1), np.int64(-(2**63)))
    for name in functions_with(argument):
        for value in (*below, *HUGE, *(-huge for huge in HUGE)):
            refused(name, argument, value)
            refused(name, argument, (value, 1))
            refused(name, argument, [1, value])


@pytest.mark.parametrize(("argument", "value"), [(a, value) for a in REFUSED for value in REFUSED[a]], ids=shown)
def test_values_of_each_argument(argument, value):
    for name in functions_with(argument):
        refused(name, argument, value)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d", *CLASSES])
def test_a_convolution_has_no_default_for_none(name):
    refused(name, "stride", None)
    refused(name, "stride", ())


NO_COUNTS = (0, -1, True, False, 1.0, 1.5, NAN, None, "1", [1], (1,), np.float64(1), np.array([1, 1]), -(10**30))


@pytest.mark.parametrize("n", [*NO_COUNTS, *HUGE], ids=shown)
@pytest.mark.parametrize("function", [fastpool.set_num_threads, fastpool.threads])
def test_numbers_of_threads(function, n):
    before = fastpool.get_num_threads()
    with pytest.raises((TypeError, ValueError), match=r"\bn\b"):
        function(n).__enter__()
    assert fastpool.get_num_threads() == before


@pytest.mark.parametrize(
    ("name", "argument", "good", "bad"),
    [
        ("conv2d", "stride", 1, (True, 1.0, np.float64(1), fractions.Fraction(1), decimal.Decimal(1), np.bool_(True))),
        ("conv2d", "stride", (1, 1), ((1, True), (1.0, 1), (True, True))),
        ("conv2d", "dilation", 1, (True, 1.0)),
        ("conv2d", "padding", 1, (True, 1.0)),
        ("conv2d", "padding", ((1, 1), (1, 1)), (((1, True), (1, 1)), ((1.0, 1), (1, 1)))),
        ("conv2d", "groups", 1, (True, 1.0, np.float32(1))),
        ("conv2d", "activation", (0, 1), ((False, True), (False, 1))),
        ("max_pool2d", "kernel_size", 1, (True, 1.0)),
        ("max_pool2d", "stride", 1, (True, 1.0)),
        ("max_pool2d", "ceil_mode", False, (0, 0.0)),
        ("max_pool2d", "return_indices", False, (0, 0.0)),
        ("avg_pool2d", "divisor_override", 1, (True, 1.0)),
        ("avg_pool2d", "count_include_pad", True, (1, 1.0)),
        ("lp_pool2d", "norm_type", 1, (True,)),
        ("adaptive_avg_pool2d", "output_size", 1, (True, 1.0)),
    ],
)
def test_what_equals_an_accepted_value_is_not_taken_for_it(name, argument, good, bad):
    # A memory of earlier calls must not be fooled by 1 == 1.0 == True.
    call(name, CALLS[name] | {argument: good})
    for value in bad:
        refused(name, argument, value)


TWOS = (np.int64(2), np.uint8(2), np.array(2), [2], (2,), (2, 2), [2, 2], np.array([2, 2]), range(2, 4, 9))


@pytest.mark.parametrize("value", [*TWOS, (np.int64(2), 2), [np.array(2), 2]], ids=shown)
@pytest.mark.parametrize("argument", sorted(set(PER_AXIS) - {"output_padding"}))
def test_integers_of_any_kind_are_accepted(argument, value):
    for name in functions_with(argument):
        arguments = CALLS[name] | ({"padding": 1} if "padding" in CALLS[name] else {})
        assert_close(call(name, arguments | {argument: value}), call(name, arguments | {argument: 2}))


@pytest.mark.parametrize(
    "pairs",
    [[[1, 0], [2, 1]], ([1, 0], (2, 1)), np.array([[1, 0], [2, 1]]), [np.array([1, 0]), np.array([2, 1], np.uint8)]],
    ids=shown,
)
def test_pairs_of_padding_of_any_kind_are_accepted(pairs):
    for name in functions_with("padding"):
        wanted = call(name, CALLS[name] | {"padding": ((1, 0), (2, 1))})
        assert_close(call(name, CALLS[name] | {"padding": pairs}), wanted)


# ------------------------------------------------------------------------------------------------------ other ranks

OTHER_RANKS = {n: (f"conv{n}d", f"Conv{n}d", f"conv_transpose{n}d", f"ConvTranspose{n}d") for n in (1, 3)}


@pytest.mark.parametrize(("axes", "name"), [(axes, name) for axes, names in OTHER_RANKS.items() for name in names])
def test_functions_of_other_ranks(axes, name):
    x, weight = (np.ones((*first, *(size,) * axes), np.float32) for first, size in (((2, 4), 6), ((4, 4), 3)))
    others = [n for n in range(1, 5) if n != axes]  # lengths that are not one for each axis
    steps = (0, -1, 1.5, True, "1", None, 10**30, *((2,) * n for n in others if n > 1))
    bad = {
        "x": (None, x[0, 0], x[None], x[:, :3], x[:, :0], x[..., :0], x.astype(np.float64), x.astype(int)),
        "weight": (None, weight[0], weight[None], weight[:0], weight[..., :0], weight.astype(np.float64)),
        "bias": (1.0, BIAS[:3], BIAS[None], BIAS.astype(np.float64)),
        "out": (1, x[0], x[:1], x.astype(np.float64), x[..., ::-1]),
        "groups": (0, -1, 3, True, 1.0, None, 10**30),
        **dict.fromkeys(("stride", "dilation"), steps),
        "padding": (-1, 1.5, True, "full", None, 10**30, *(((1, 1),) * n for n in others), ((1, -1),) * axes),
    }
    call = {"x": x, "weight": weight, "padding": 1}
    function = getattr(fastpool, name)

    def run(x, out=None, **options):
        return function(**options)(x, out=out) if name.startswith("Conv") else function(x=x, out=out, **options)

    assert run(**call).shape == x.shape
    for argument, values in bad.items():
        for value in values:
            with pytest.raises((TypeError, ValueError), match=rf"\b{argument}\b"):
                run(**call | {argument: value})


# ---------------------------------------------------------------------------------------- large numbers that are legal

_LARGE = 2**31 - 1
#: Calls with the largest integers, whose results are small: neither time nor memory may grow with the integers.
LARGE_CALLS = (
    *(("max_pool2d", {"kernel_size": 1, "stride": stride}) for stride in (_LARGE, (1, _LARGE), (_LARGE, 1), 10**7)),
    ("max_pool2d", {"kernel_size": (1, 2), "stride": _LARGE, "return_indices": True}),
    ("max_pool2d", {"kernel_size": 3, "stride": 10**8, "padding": 1}),
    ("max_pool2d", {"kernel_size": 1, "dilation": _LARGE}),
    *(("avg_pool2d", {"kernel_size": 2, "divisor_override": divisor}) for divisor in (_LARGE, -_LARGE)),
    ("avg_pool2d", {"kernel_size": 2, "stride": 10**8, "ceil_mode": True}),
    ("sum_pool2d", {"kernel_size": 5, "stride": _LARGE, "padding": "same"}),
    ("lp_pool2d", {"kernel_size": 2, "stride": _LARGE}),
    *(("conv2d", {"stride": stride}) for stride in (_LARGE, (1, _LARGE), (_LARGE, 1), 10**7)),
    *(("conv2d", {"stride": 10**8, "padding": padding, "padding_mode": "circular"}) for padding in (1, "same")),
)


def compute_large_calls(name):
    """Compute the `LARGE_CALLS` of a function, each within 4 GB of memory and all within 20 s of processor time."""
    import resource

    x, weight = integers(0, (1, 2, 6, 7), np.float32), integers(1, (2, 2, 3, 3), np.float32)
    arguments = {"x": x, "weight": weight} if name == "conv2d" else {"x": x}
    if name == "lp_pool2d":
        arguments["norm_type"] = 2
    cases = [options for function, options in LARGE_CALLS if function == name]
    for options in cases:  # compiled without the limits
        call(name, arguments | options | {"stride": 3, "dilation": 1})
    resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
    spent = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(spent.ru_utime + spent.ru_stime) + 20
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    for options in cases:
        try:
            assert_close(call(name, arguments | options), reference(name, arguments | options))
        except BaseException as error:
            raise AssertionError(f"{name} with {options}") from error


@pytest.mark.parametrize("name", sorted({name for name, _ in LARGE_CALLS}))
def test_large_integers_cost_nothing(name):
    pytest.importorskip("resource", reason="limits of a process are POSIX")
    environment = {"NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run_apart("test_validation", "compute_large_calls", name, environment=environment)


# --------------------------------------------------------------------------------------------------------------- fuzz

RECURSIVE = [1]
RECURSIVE.append(RECURSIVE)
#: Anything that a caller may pass by mistake. Integers are small or far out of range: a padding of a million is legal,
#: and computing what it asks for takes its time.
JUNK = (
    *(*NO_INTEGERS, *NO_PAIRS, *NO_ARRAYS, *HUGE, *(-huge for huge in HUGE), None, "same"),
    *(0, 1, 2, 3, -1, (1, 2), [2, 1], ((1, 0), (0, 2)), [[0, 1], [2, 0]], np.int64(2), np.array([1, 2]), np.array(1)),
    *("valid", "same_upper", "same_lower", "reflect", "circular", "relu", (0, 6), (None, 1.0), (None, None), "\0"),
    *(RECURSIVE, (RECURSIVE, RECURSIVE), [[]], ((), ()), [None], lambda: 1, type("Odd", (), {})(), Exception("odd")),
    *(np.zeros(shape, dtype) for shape in ((), (4,), (2, 4, 6, 7), (4, 6, 7), (4, 4, 3, 3)) for dtype in DTYPES),
    *(np.zeros(X.shape, dtype) for dtype in WRONG_DTYPES),
    *(np.zeros(shape, np.float32) for shape in ((0,), (0, 4, 6, 7), (4, 0, 7), (1,) * 5, (4, 1, 3, 3), (4, 2, 3, 3))),
    *(X[..., ::-1], np.broadcast_to(np.float32(1), X.shape), as_strided(X, X.shape, (4, 4, 4, 4))),
    *(X.astype(X.dtype.newbyteorder()), np.arange(4.0).view(np.matrix)),
)


def call_with_junk(name, junk):
    """Call with some arguments replaced: it works, or raises a ValueError or TypeError that names an argument."""
    good = CALLS[name]
    before = {argument: value.copy() for argument, value in good.items() if isinstance(value, np.ndarray)}
    message = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # NumPy's own, for the odd values
            call(name, good | junk)
    except (TypeError, ValueError) as error:
        message = str(error)
    named = [argument for argument in good if message is not None and re.search(rf"\b{argument}\b", message)]
    assert named or message is None, f"names no argument: {message}"
    for argument, value in before.items():
        np.testing.assert_array_equal(good[argument], value)


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in CALLS for argument in CALLS[name]])
@sweep
def test_each_junk_value_alone(name, argument):
    for value in JUNK:
        try:
            call_with_junk(name, {argument: value})
        except Exception as error:
            raise AssertionError(f"{argument} = {shown(value)}") from error


@given(data=st.data())
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_junk_raises_nothing_but_value_and_type_errors(name, data):
    chosen = data.draw(st.sets(st.sampled_from(sorted(CALLS[name])), min_size=1, max_size=4))
    junk = {argument: JUNK[data.draw(st.integers(0, len(JUNK) - 1), label=argument)] for argument in sorted(chosen)}
    call_with_junk(name, junk)
