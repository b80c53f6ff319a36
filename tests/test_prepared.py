"""Prepared convolutions called again on a shape that they know: errors and results are those of the first call."""

import copy
import pickle
import threading

import numpy as np
import pytest
from conftest import DTYPES, LAYOUTS, Frame, assert_close, every_dtype, integers, noise
from sweeps import sweep

import fastpool
from fastpool import layer, oracle

#: Options under which a depthwise, a Winograd and a direct plan is taken.
OPTIONS = {
    "direct": {"algorithm": "direct", "padding": 1, "stride": 2},
    "winograd": {"algorithm": "winograd", "padding": 1},
    "depthwise": {"groups": 4, "stride": 2},
}
every_algorithm = pytest.mark.parametrize("algorithm", OPTIONS)


def prepared(dtype, algorithm="direct", **options):
    """Give a convolution of 4 channels, and what computes the same without it."""
    options = OPTIONS[algorithm] | options
    weight, bias = integers(1, (8, 4 // options.get("groups", 1), 3, 3), dtype, 4), integers(2, (8,), dtype)
    known = {key: value for key, value in options.items() if key != "algorithm"}
    return fastpool.Conv2d(weight, bias, **options), lambda x: oracle.conv2d(x, weight, bias, **known)


@pytest.fixture
def quick(monkeypatch):
    """Count the calls that take the short way, all the way: a list of results."""
    taken, run = [], layer.Ready.run

    def counted(ready, x, out):
        result = run(ready, x, out)
        if result is not None:
            taken.append(result)
        return result

    monkeypatch.setattr(layer.Ready, "run", counted)
    return taken


def _overlapping_out(x, y):
    buffer = np.zeros(x.nbytes + y.nbytes, np.uint8)
    inside = buffer[: x.nbytes].view(x.dtype).reshape(x.shape)
    inside[...] = x
    start = x.nbytes - x.itemsize
    return inside, buffer[start : start + y.nbytes].view(y.dtype).reshape(y.shape)


def _within_one(x, y):
    buffer = np.zeros(max(x.size, y.size), x.dtype)
    return tuple(buffer[: a.size].reshape(a.shape) for a in (x, y))


class Images(np.ndarray):
    """An array of a type of its own."""


#: What is refused: name -> function of x and a fitting `out` that gives the two arguments.
REFUSED = {
    "dtype": lambda x, y: (x, y.astype(np.float32 if y.dtype == np.float64 else np.float64)),
    "integers": lambda x, y: (x, y.astype(np.int64)),
    "byte order": lambda x, y: (x, y.astype(y.dtype.newbyteorder())),
    "shape": lambda x, y: (x, np.zeros((*y.shape[:-1], y.shape[-1] + 1), y.dtype)),
    "transposed": lambda x, y: (x, np.zeros(y.shape[::-1], y.dtype)),
    "no batch": lambda x, y: (x, y[0]),
    "read-only": lambda x, y: (x, LAYOUTS["read-only"](y)),
    "list": lambda x, y: (x, y.tolist()),
    "masked": lambda x, y: (x, np.ma.masked_array(y)),
    "broadcast": lambda x, y: (x, np.lib.stride_tricks.as_strided(y, y.shape, (0,) * y.ndim)),
    "x itself": _within_one,
    "behind x": _overlapping_out,
    "before x": lambda x, y: _overlapping_out(y, x)[::-1],
}


@every_dtype
@every_algorithm
@pytest.mark.parametrize("wrong", REFUSED)
def test_a_wrong_out_is_refused_as_at_the_first_call(quick, wrong, algorithm, dtype):
    (conv, _), (fresh, _) = prepared(dtype, algorithm), prepared(dtype, algorithm)
    x = integers(3, (8, 4, 13, 14), dtype)
    y = conv(x)
    before = y.copy()
    given, out = REFUSED[wrong](x, y)
    contents = np.array(out, copy=True)
    with pytest.raises((TypeError, ValueError), match=r"^out must") as first:
        fresh(given, out=out)
    for _ in range(2):
        conv(x)
        with pytest.raises(first.type) as again:
            conv(given, out=out)
        assert str(again.value) == str(first.value)
    np.testing.assert_array_equal(np.asarray(out), contents)
    np.testing.assert_array_equal(y, before)
    assert len(quick) == 2


@every_dtype
@every_algorithm
def test_out_of_any_layout(quick, algorithm, dtype):
    """Contiguous ones at once, others by way of a copy; nothing is written beside them."""
    conv, expected_of = prepared(dtype, algorithm)
    x = integers(4, (2, 4, 13, 14), dtype)
    expected = expected_of(x)
    assert_close(conv(x), expected)
    for name, change in LAYOUTS.items():
        if "byte" in name or name == "read-only":
            continue
        out = change(np.full_like(expected, np.nan))
        assert conv(x, out=out) is out
        assert_close(np.ascontiguousarray(out), expected)
    for contiguous in (True, False):
        frame = Frame(expected.shape, dtype, contiguous)
        count = len(quick)
        assert conv(x, out=frame.array) is frame.array
        assert len(quick) == count + contiguous
        assert_close(np.ascontiguousarray(frame.array), expected)
        frame.assert_kept()
    out = np.full_like(expected, np.nan).view(Images)
    assert conv(x, out=out) is out
    assert_close(np.asarray(out), expected)


@every_dtype
@every_algorithm
def test_out_may_touch_x(quick, algorithm, dtype):
    """Right before and right behind it, in the same memory."""
    conv, expected_of = prepared(dtype, algorithm)
    plain = integers(5, (2, 4, 13, 14), dtype)
    expected = expected_of(plain)
    for x_first in (True, False):
        buffer = np.zeros(plain.size + expected.size, dtype)
        x, out = (buffer[: plain.size], buffer[plain.size :]) if x_first else (buffer[expected.size :], buffer)
        x, out = x.reshape(plain.shape), out[: expected.size].reshape(expected.shape)
        x[...] = plain
        for _ in range(2):
            assert conv(x, out=out) is out
            assert_close(out, expected)
            np.testing.assert_array_equal(x, plain)
    assert len(quick) == 3


@every_dtype
@every_algorithm
def test_x_of_any_layout(quick, algorithm, dtype):
    """The same shape, one layout after the other, twice."""
    conv, expected_of = prepared(dtype, algorithm)
    x = integers(6, (2, 4, 13, 14), dtype)
    expected = expected_of(x)
    for name in [*LAYOUTS, *LAYOUTS]:
        assert_close(conv(LAYOUTS[name](x)), expected)
        assert_close(conv(x), expected)
        assert type(conv(x.view(Images))) is np.ndarray
        assert_close(conv(x.view(Images)), expected)
    # All but the first are known; so is the read-only copy, and misaligned ones are seen not to be fit.
    assert len(quick) == 2 * len(LAYOUTS) + 3
    assert_close(conv(np.broadcast_to(x[:1], x.shape)), np.broadcast_to(expected[:1], expected.shape))
    with pytest.raises(TypeError, match=r"^x must"):
        conv(np.ma.masked_array(x))


@every_dtype
@every_algorithm
def test_alternating_shapes(quick, algorithm, dtype):
    """Each with its own plan; the third axis of two of them is that of the batch of another."""
    conv, expected_of = prepared(dtype, algorithm)
    shapes = [(2, 4, 13, 14), (4, 13, 14), (1, 4, 13, 14), (3, 4, 4, 5), (2, 4, 14, 13), (4, 4, 13)]
    arrays = [integers(seed, shape, dtype) for seed, shape in enumerate(shapes)]
    for turn in range(3):
        for x in arrays[:: 1 - 2 * (turn % 2)]:
            y = conv(x)
            assert_close(y, expected_of(x))
            assert y.base is None
    assert len(quick) == 2 * len(shapes)
    for shape in [(2, 3, 13, 14), (2, 4, 0, 14), (4, 13), (0,)]:
        with pytest.raises(ValueError, match="must"):
            conv(np.zeros(shape, dtype))
    assert conv(np.zeros((0, 4, 13, 14), dtype)).shape == (0, *expected_of(arrays[0]).shape[1:])


@every_dtype
@every_algorithm
def test_residual_and_none_in_turn(quick, algorithm, dtype):
    conv, expected_of = prepared(dtype, algorithm)
    x = integers(7, (2, 4, 13, 14), dtype)
    expected = expected_of(x)
    residual = integers(8, expected.shape, dtype)
    for _ in range(2):
        assert_close(conv(x), expected)
        assert_close(conv(x, residual=residual), expected + residual)
        with pytest.raises(ValueError, match=r"^residual must"):
            conv(x, residual=residual[..., :-1])
    assert len(quick) == 1
    only = prepared(dtype, algorithm)[0]
    assert_close(only(x, residual=residual), expected + residual)
    assert_close(only(x), expected)
    assert_close(only(x), expected)


@every_dtype
@every_algorithm
def test_x_that_changes_between_calls(quick, algorithm, dtype):
    """Only its address is read again; nothing is remembered of its contents, nor of the result."""
    conv, expected_of = prepared(dtype, algorithm)
    x, results = integers(9, (2, 4, 13, 14), dtype), []
    for seed in range(4):
        x[...] = integers(10 + seed, x.shape, dtype)
        results.append((conv(x), expected_of(x)))
    for result, expected in results:
        assert_close(result, expected)
    assert len(quick) == 3


@every_dtype
@every_algorithm
def test_weights_are_its_own(quick, algorithm, dtype):
    """Changing or freeing what it was made from changes nothing, after one call or two."""
    options = OPTIONS[algorithm]
    weight, bias = integers(1, (8, 4 // options.get("groups", 1), 3, 3), dtype, 4), integers(2, (8,), dtype)
    conv, x = fastpool.Conv2d(weight, bias, **options), integers(3, (2, 4, 13, 14), dtype)
    expected = prepared(dtype, algorithm)[1](x)
    assert_close(conv(x), expected)
    weight[...] = bias[...] = np.nan
    assert_close(conv(x), expected)
    del weight, bias
    others = [np.full(size, np.nan, dtype) for size in (8, 72, 288, 1024)]
    assert_close(conv(x), expected)
    assert len(quick) == 2
    assert all(np.isnan(other).all() for other in others)


def test_dtypes_are_refused_as_at_the_first_call(quick):
    conv = prepared(np.float32)[0]
    x = integers(11, (2, 4, 13, 14), np.float32)
    conv(x)
    for dtype in (np.float64, np.int32, np.float16, np.complex64, object):
        with pytest.raises(TypeError, match=r"^x must"):
            conv(x.astype(dtype))
    with pytest.raises(TypeError, match=r"^x must"):
        conv(x.tolist())
    noted = np.dtype(np.float32, metadata={"unit": "K"})
    assert_close(conv(x.astype(noted)), conv(x))
    assert len(quick) == 1


def test_strides_of_axes_of_one_element(quick):
    """They mean nothing, and may be anything, not even whole elements."""
    conv, expected_of = prepared(np.float32)
    x = integers(12, (1, 4, 13, 14), np.float32)
    expected = expected_of(x)
    for step in (0, 1, 3, -7, x.nbytes, 2**40 + 2):
        strange = np.lib.stride_tricks.as_strided(x, x.shape, (step, *x.strides[1:]))
        for _ in range(2):
            assert_close(conv(strange), expected)
    assert len(quick) >= 6


@pytest.mark.parametrize("axes", [1, 3])
@every_dtype
def test_other_ranks(quick, axes, dtype):
    sizes = (9, 10, 11)[-axes:]
    weight, x = integers(13, (6, 4, *(3,) * axes), dtype, 4), integers(14, (2, 4, *sizes), dtype)
    conv = getattr(fastpool, f"Conv{axes}d")(weight, None, 2, 1)
    expected = getattr(fastpool, f"conv{axes}d")(x, weight, None, 2, 1)
    frame = Frame(expected.shape, dtype)
    for _ in range(3):
        assert_close(conv(x), expected)
        assert conv(x, out=frame.array) is frame.array
        assert_close(frame.array, expected)
        assert_close(conv(x[0]), expected[0])
    assert len(quick) == 3 * 3 - 2
    frame.assert_kept()


@pytest.mark.parametrize("algorithm", [*OPTIONS, "auto"])
def test_first_calls_of_several_threads(algorithm):
    """Which all find nothing prepared, pack for themselves, and leave one copy that fits."""
    options = OPTIONS.get(algorithm, {"padding": 1})
    weight = noise(15, (48, 1 if "groups" in options else 48, 3, 3), np.float32)
    options = options | ({"groups": 48} if "groups" in options else {})
    arrays = [noise(16 + n, (1 + n % 2, 48, 20 + n % 3, 22), np.float32) for n in range(8)]
    expected = [fastpool.Conv2d(weight, **options)(x).tobytes() for x in arrays]
    for _ in range(10):
        conv, begin, wrong = fastpool.Conv2d(weight, **options), threading.Barrier(len(arrays)), []

        def call(n, conv=conv, begin=begin, wrong=wrong):
            try:
                begin.wait()
                for _ in range(3):
                    for m in (n, (n + 1) % len(arrays)):
                        if conv(arrays[m]).tobytes() != expected[m]:
                            wrong.append(m)
            except BaseException as error:  # told by the thread that waits
                wrong.append(error)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(len(arrays))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert [conv(x).tobytes() for x in arrays] == expected


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda conv: pickle.loads(pickle.dumps(conv))])
@pytest.mark.parametrize("dtype", [*DTYPES, np.int8])
@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "Conv3d"])
@sweep
def test_copies(kind, dtype, again):
    """Made before or after the first call, and independent of what they were made of."""
    axes = int(kind[-2])
    x, weight = integers(1, (2, 4, *(9,) * axes), dtype), integers(2, (6, 2, *(3,) * axes), dtype)
    stride, bias = [2] * axes, integers(3, (6,), dtype)
    options = {"padding_mode": "reflect", "activation": (0, 5), "algorithm": "direct"}
    conv = getattr(fastpool, kind)(weight, bias, stride, 1, 1, 2, **options)
    early = again(conv)
    stride[0] = 1
    expected = conv(x)
    assert expected.any()
    for made in (early, again(conv), again(again(conv))):
        assert repr(made) == repr(conv)
        for _ in range(2):
            np.testing.assert_array_equal(made(x), expected)
    del conv
    np.testing.assert_array_equal(early(x), expected)
