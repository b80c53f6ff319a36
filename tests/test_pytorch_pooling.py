"""PyTorch's own sample inputs of poolings, in every dtype that it has with us, and larger random ones."""

import warnings

import numpy as np
import pytest
from conftest import DTYPES, HALVES, assert_close, draw, integers, noise, with_ties_and_nan
from sweeps import sweep

import fastpool

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
functional = torch.nn.functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

#: Function -> number of PyTorch's samples, at least. More may come; fewer would mean that something is left out.
SAMPLES = {
    "avg_pool1d": 9,
    "avg_pool2d": 7,
    "avg_pool3d": 8,
    "max_pool1d": 864,
    "max_pool2d": 1440,
    "max_pool3d": 576,
    "adaptive_avg_pool1d": 6,
    "adaptive_avg_pool2d": 10,
    "adaptive_avg_pool3d": 12,
    "adaptive_max_pool1d": 8,
    "adaptive_max_pool2d": 24,
    "adaptive_max_pool3d": 20,
}
OPERATORS = {name: [op for op in op_db if op.name == f"nn.functional.{name}"] for name in SAMPLES}
#: Ours that PyTorch has under the same name; some of its functions take fewer.
OURS = [np.dtype(dtype) for dtype in (*DTYPES, *HALVES, np.uint8, np.int8, np.int16, np.int32, np.int64)]
BOTH = [
    (name, dtype)
    for name, operators in OPERATORS.items()
    for dtype in OURS
    if any(getattr(torch, dtype.name) in operator.dtypes for operator in operators)
]

pytestmark = [
    pytest.mark.usefixtures("one_thread_of_pytorch"),
    pytest.mark.filterwarnings("ignore:Note that order of the arguments"),
]


def to_numpy(tensor):
    """Give an array in the same memory, bfloat16 included, which PyTorch does not hand over."""
    if isinstance(tensor, tuple):
        return tuple(map(to_numpy, tensor))
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.int16).numpy().view(HALVES[-1])
    return tensor.detach().numpy()


def to_torch(array):
    """Give a tensor with the values of an array."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def compare(name, x, *arguments, **options):
    """Call both functions with the same arguments and require equal results.

    PyTorch truncates the mean of integers, whose fractions ours has.
    """
    expected = to_numpy(getattr(functional, name)(x, *arguments, **options))
    ours = getattr(fastpool, name)(to_numpy(x), *arguments, **options)
    if "avg" in name and expected.dtype.kind == "i":
        assert ours.dtype == np.float64
        exact = to_numpy(getattr(functional, name)(x.double(), *arguments, **options))
        assert_close(ours, exact)
        # A mean of float64 may fall just below the whole number that it is.
        np.testing.assert_array_equal(np.trunc(ours + np.copysign(1e-9, ours)).astype(expected.dtype), expected)
    else:
        assert_close(ours, expected)


@pytest.mark.parametrize(("name", "dtype"), BOTH, ids=str)
@sweep
def test_samples(name, dtype):
    kind, count = getattr(torch, dtype.name), 0
    for operator in OPERATORS[name]:
        for sample in operator.sample_inputs("cpu", kind, requires_grad=False):
            compare(name, sample.input, *sample.args, **sample.kwargs)
            count += 1
    assert count >= SAMPLES[name]


def test_every_function_has_samples():
    assert {name for name, _ in BOTH} == set(SAMPLES)
    assert len(BOTH) >= len(SAMPLES) * (len(DTYPES) + len(HALVES)) - 1


def values(seed, shape, dtype):
    """Give NaN, ties and infinities, or integers of the whole range."""
    return draw(seed, shape, dtype) if dtype.kind in "iu" else with_ties_and_nan(seed, shape, dtype)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", OURS, ids=str)
@sweep
def test_larger_maxima(dtype, rank):
    """Every function of PyTorch's, at widths beyond its samples."""
    for seed, (size, windows) in enumerate([((9, 40, 70), (3, 2, 1)), ((5, 12, 133), (2,)), ((4, 21, 30), (4, 1, 2))]):
        x = to_torch(values(seed, (2, 3, *size[-rank:]), dtype))
        for ceil_mode in (False, True):
            if dtype.kind in "iu" and rank == 1:
                continue  # PyTorch's has no integers
            compare(f"max_pool{rank}d", x, *windows, ceil_mode=ceil_mode)
            compare(f"max_pool{rank}d", x, *windows, ceil_mode=ceil_mode, return_indices=True)
        if dtype.kind not in "iu":
            compare(f"adaptive_max_pool{rank}d", x, 3, return_indices=True)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.dtype(dtype) for dtype in (*DTYPES, *HALVES)], ids=str)
@sweep
def test_larger_means(dtype, rank):
    for seed, size in enumerate([(9, 40, 70), (5, 12, 133)]):
        x = to_torch(noise(seed, (2, 3, *size[-rank:]), dtype))
        if rank == 3 and dtype not in DTYPES:
            continue  # PyTorch's has no 16 bits
        for windows in [(3, 2, 1), (2,), (4, 1, 2)]:
            for ceil_mode in (False, True):
                compare(f"avg_pool{rank}d", x, *windows, ceil_mode=ceil_mode)
                compare(f"avg_pool{rank}d", x, *windows, ceil_mode=ceil_mode, count_include_pad=False)
        compare(f"adaptive_avg_pool{rank}d", x, 3)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)
def test_norms(dtype, rank):
    """Without ceil mode and for even p, or numbers above zero: there PyTorch's definition is ours."""
    x = torch.from_numpy(noise(10, (2, 3, *(6, 31, 34)[-rank:]), dtype))
    for kernel, stride in [((2, 3, 2), 2), ((2, 5, 2), (1, 2, 3))]:
        windows = kernel[-rank:], stride[-rank:] if isinstance(stride, tuple) else stride
        if rank == 1:  # whose arguments are integers there
            windows = windows[0][0], windows[1][0] if isinstance(windows[1], tuple) else windows[1]
        compare(f"lp_pool{rank}d", x, 2, *windows)
        compare(f"lp_pool{rank}d", x, 4.0, *windows)
        compare(f"lp_pool{rank}d", x.abs(), 3, *windows)
        compare(f"lp_pool{rank}d", x.abs(), 1, *windows)


def test_whole_numbers():
    """Sums are means over one; of integers PyTorch has them in 64 bits only."""
    x = torch.from_numpy(integers(1, (2, 3, 20, 31), np.int64))
    for options in ({}, {"ceil_mode": True, "padding": 1}, {"count_include_pad": False, "padding": 1}):
        compare("avg_pool2d", x, 3, 2, **options)
        compare("avg_pool1d", x[0], 3, 2, **options)
        compare("avg_pool3d", x[None], 3, 2, **options)
    expected = functional.avg_pool2d(x, 3, 2, divisor_override=1).numpy()
    np.testing.assert_array_equal(fastpool.sum_pool2d(x.numpy(), 3, 2), expected)
