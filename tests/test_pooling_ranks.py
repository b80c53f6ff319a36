"""Poolings and subsampling of one, two and three dimensions against the oracle, and against one another."""

import itertools

import numpy as np
import pytest
from conftest import DTYPES, LAYOUTS, assert_close, every_dtype, integers, with_ties_and_nan
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sweeps import examples, sweep

import fastpool
from fastpool import oracle

pytestmark = pytest.mark.usefixtures("rows_alone", "whole_vectors")

RANKS = (1, 2, 3)
SIZES = (5, 6, 19)  #: of depth, height and width
INF = np.inf

#: What windows can be reduced to: name of the function without its rank, and its arguments beside the windows.
REDUCTIONS = {
    "max": ("max_pool", {}),
    "max and where": ("max_pool", {"return_indices": True}),
    "min": ("min_pool", {}),
    "min and where": ("min_pool", {"return_indices": True}),
    "mean": ("avg_pool", {}),
    "mean of valid": ("avg_pool", {"count_include_pad": False}),
    "sum over -3": ("avg_pool", {"divisor_override": -3}),
    "sum": ("sum_pool", {}),
    "L1": ("lp_pool", {"norm_type": 1}),
    "L2": ("lp_pool", {"norm_type": 2}),
    "L3": ("lp_pool", {"norm_type": 3}),
    "Linf": ("lp_pool", {"norm_type": INF}),
}
#: The others: a function of the module, the rank and x.
OTHERS = {
    "adaptive mean": lambda module, n, x: getattr(module, f"adaptive_avg_pool{n}d")(x, (4, None, 7)[-n:]),
    "adaptive max": lambda module, n, x: getattr(module, f"adaptive_max_pool{n}d")(x, (3, 2, 23)[-n:]),
    "adaptive max and where": lambda module, n, x: getattr(module, f"adaptive_max_pool{n}d")(x, 4, True),
    "global mean": lambda module, n, x: getattr(module, f"global_avg_pool{n}d")(x),
    "global max": lambda module, n, x: getattr(module, f"global_max_pool{n}d")(x),
    **{
        f"global L{p}": lambda module, n, x, p=p: getattr(module, f"global_lp_pool{n}d")(x, p) for p in (1, 2, 2.5, INF)
    },
}
every_rank = pytest.mark.parametrize("rank", RANKS)


def reduce(module, rank, reduction, x, **options):
    """Call the function of `fastpool` or `oracle` that computes this reduction."""
    name, others = REDUCTIONS[reduction]
    return getattr(module, f"{name}{rank}d")(x, **others, **options)


def per_axis(values, rank):
    """Give those of three values that belong to the axes of this rank; what is no tuple stays as it is."""
    return values[-rank:] if isinstance(values, tuple) else values


def fits(sizes, kernel_size, dilation=1, padding=0, **_):
    """Whether a window fits into the padded input, whose padding is numbers or pairs."""
    n = len(sizes)
    kernel, spread, pads = (v if isinstance(v, tuple) else (v,) * n for v in (kernel_size, dilation, padding))
    room = [sum(p) if isinstance(p, tuple) else 2 * p for p in pads]
    return all(d * (k - 1) < size + r for size, k, d, r in zip(sizes, kernel, spread, room, strict=True))


STRIDES = (None, 1, 2, (1, 2, 3), (2, 3, 1))
PADDINGS = (0, 3, (2, 0, 1), ((1, 0), (0, 2), (3, 1)), ((0, 4), (1, 1), (0, 5)), "valid", "same", "same_lower")
DILATIONS = (1, (2, 1, 3))


@every_dtype
@every_rank
@pytest.mark.parametrize("reduction", REDUCTIONS)
@sweep
def test_every_argument(reduction, rank, dtype):
    """Small windows and larger ones, every form of padding, with NaN, ties and infinities, batched or not."""
    grid = list(itertools.product([(2, 2, 3), (3, 4, 6)], STRIDES, PADDINGS, DILATIONS, [False, True]))
    first = list(REDUCTIONS).index(reduction)
    for index, (kernel, stride, padding, dilation, ceil_mode) in list(enumerate(grid))[first::11]:
        kernel, stride, padding, dilation = (per_axis(v, rank) for v in (kernel, stride, padding, dilation))
        if not isinstance(padding, str) and not fits(SIZES[-rank:], kernel, dilation, padding):
            continue
        make = with_ties_and_nan if index % 2 else integers
        x = make(index, ((2, 3) if index % 5 else (3,)) + SIZES[-rank:], dtype)
        windows = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        windows["ceil_mode"] = ceil_mode
        if padding == "valid" and not fits(SIZES[-rank:], kernel, dilation):
            continue
        assert_close(reduce(fastpool, rank, reduction, x, **windows), reduce(oracle, rank, reduction, x, **windows))


@every_dtype
@every_rank
@pytest.mark.parametrize("name", OTHERS)
def test_adaptive_and_global(name, rank, dtype):
    """Of every layout in memory, of one and of many elements, with no images and without a batch."""
    call = OTHERS[name]
    for sizes in [(1, 1, 1), (2, 7, 9), SIZES, (3, 2, 40), (1, 30, 70)]:
        for seed, make in enumerate((integers, with_ties_and_nan)):
            x = make(seed, (2, 3, *sizes[-rank:]), dtype)
            expected = call(oracle, rank, x)
            for layout in ("contiguous", "every second column", "all reversed", "columns first", "channels last"):
                assert_close(call(fastpool, rank, LAYOUTS[layout](x)), expected)
            assert_close(call(fastpool, rank, x[0]), call(oracle, rank, x[0]))
            assert_close(call(fastpool, rank, x[:0]), call(oracle, rank, x[:0]))


@every_dtype
@every_rank
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_alignment_and_byte_order(layout, rank, dtype):
    x = with_ties_and_nan(1, (2, 3, *SIZES[-rank:]), dtype)
    windows = {"kernel_size": per_axis((2, 2, 3), rank), "stride": 1, "padding": 1}
    for reduction in ("max", "min and where", "mean", "L2"):
        expected = reduce(oracle, rank, reduction, x, **windows)
        assert_close(reduce(fastpool, rank, reduction, LAYOUTS[layout](x), **windows), expected)


@every_dtype
@every_rank
def test_subsampling(rank, dtype):
    weight, bias = integers(1, (3,), dtype), integers(2, (3,), dtype)
    for index, (stride, padding, ceil_mode) in enumerate(itertools.product(STRIDES, PADDINGS, [False, True])):
        stride, padding = per_axis(stride, rank), per_axis(padding, rank)
        x = (with_ties_and_nan if index % 2 else integers)(index, (2, 3, *SIZES[-rank:]), dtype)
        arguments = (weight, bias, per_axis((2, 2, 3), rank), stride, padding, ceil_mode)
        expected = getattr(oracle, f"subsample{rank}d")(x, *arguments)
        assert_close(getattr(fastpool, f"subsample{rank}d")(x, *arguments), expected)
        out = np.empty_like(expected)
        assert getattr(fastpool, f"subsample{rank}d")(x[0], *arguments, out=out[0]).base is out
        assert_close(out[0], expected[0])


@every_dtype
@every_rank
@pytest.mark.parametrize("reduction", REDUCTIONS)
@sweep
def test_windows_that_see_padding_only_along_one_axis(reduction, rank, dtype):
    """One element along the axis, before or behind the only window."""
    for axis, size in itertools.product(range(rank), (1, 2)):
        sizes = [4] * rank
        sizes[axis] = size
        x = integers(axis, (2, 3, *sizes), dtype)
        for pads in ((2, 0), (3, 0), (2, 3), (1, 0), (0, 2)):
            padding, stride = [(0, 0)] * rank, [1] * rank
            padding[axis], stride[axis] = pads, 5
            windows = {"kernel_size": 2, "stride": tuple(stride), "padding": tuple(padding)}
            if fits(tuple(sizes), (2,) * rank, padding=windows["padding"]):
                expected = reduce(oracle, rank, reduction, x, **windows)
                assert_close(reduce(fastpool, rank, reduction, x, **windows), expected)


#: Modules of the poolings that exist in every rank and dtype.
FAMILY = {"max_pooling", "sum_pooling", "adaptive", "global_pooling", "subsampling"}


@every_rank
def test_arrays_of_other_ranks_are_refused(rank):
    """By every function, which names the layout that it takes."""
    names = [name for name, home in fastpool._HOMES.items() if name.endswith(f"{rank}d") and home in FAMILY]
    assert len(names) == 11
    ones = np.ones(3)
    for name in names:
        others = {"subsample": (ones, ones, 2), "lp": (2, 2), "global_lp": (2,), "global_avg": (), "global_max": ()}
        arguments = others.get(name.removesuffix(f"{rank}d").removesuffix("_pool"), (2,))
        for n in (rank, rank + 3):
            with pytest.raises(ValueError, match=rf"^x must have shape \(N, C, {', '.join('DHW'[-rank:])}\)"):
                getattr(fastpool, name)(np.ones((3,) * n), *arguments)
        if "pool" in name and not name.startswith(("global", "adaptive")):
            for bad in ((1,) * (rank + 1), 0, True, 1.5, (2,) * rank + (2,)):
                with pytest.raises((TypeError, ValueError), match="kernel_size"):
                    getattr(fastpool, name)(np.ones((3,) * (rank + 1)), *arguments[:-1], bad)


@settings(deadline=None, max_examples=examples(150))
@given(st.data(), st.sampled_from(RANKS), st.sampled_from(DTYPES), st.sampled_from(sorted(REDUCTIONS)))
def test_anything_equals_the_oracle(data, rank, dtype, reduction):
    def draw(low, high):
        return tuple(data.draw(st.tuples(*[st.integers(low, high)] * rank)))

    sizes = tuple(data.draw(st.integers(1, n)) for n in (4, 7, 40)[-rank:])
    kernel = data.draw(st.sampled_from([2, (2, 2, 3), (3, 1, 4), (2, 3, 5)]))
    pads = tuple(zip(draw(0, 4), draw(0, 4), strict=True))
    windows = {"kernel_size": per_axis(kernel, rank), "dilation": draw(1, 3), "padding": pads}
    assume(fits(sizes, **windows))
    windows |= {"stride": draw(1, 4), "ceil_mode": data.draw(st.booleans())}
    make = data.draw(st.sampled_from([integers, with_ties_and_nan]))
    x = make(data.draw(st.integers(0, 2**32 - 1)), (2, 2, *sizes), dtype)
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    assert_close(reduce(fastpool, rank, reduction, layout(x), **windows), reduce(oracle, rank, reduction, x, **windows))


@every_dtype
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_pooling_is_that_of_more_dimensions_with_windows_of_one(reduction, dtype):
    x = with_ties_and_nan(3, (2, 3, 6, 19), dtype)
    windows = {"kernel_size": 3, "stride": 2, "padding": 2}
    rows = x.reshape(2, 18, 19)
    flat = reduce(fastpool, 1, reduction, rows, **windows)
    spread = {key: (1 if key != "padding" else 0, value) for key, value in windows.items()}
    planes = reduce(fastpool, 2, reduction, rows[:, :, None], **spread)
    thick = reduce(fastpool, 3, reduction, rows[:, :, None, None], **{key: (v[0], *v) for key, v in spread.items()})
    for one, two, three in zip(*(r if isinstance(r, tuple) else (r,) for r in (flat, planes, thick)), strict=True):
        np.testing.assert_array_equal(one, two[:, :, 0])
        np.testing.assert_array_equal(one, three[:, :, 0, 0])
