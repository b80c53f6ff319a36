"""Convolutions of random shapes, attributes and memory layouts, against PyTorch in float64."""

from math import prod

import numpy as np
import pytest
from conftest import LAYOUTS, noise
from sweeps import some

import fastpool

torch = pytest.importorskip("torch")
functional = torch.nn.functional

pytestmark = pytest.mark.usefixtures("one_thread_of_pytorch")

#: Largest error in float32, as a part of the largest result.
TOLERANCE = 3e-5
#: Multiply-adds of the largest case.
MOST = 3e7
#: Function -> number of cases.
CASES = {
    "conv1d": 100,
    "conv2d": 300,
    "conv3d": 150,
    "conv_transpose1d": 80,
    "conv_transpose2d": 100,
    "conv_transpose3d": 40,
}
#: Depthwise kernels are compiled for each size of the filter.
DEPTHWISE_FILTERS = [1, 3, 5, 7]


def broadcast(a, axis):
    """Repeat the first element of an axis, in no memory of its own."""
    return np.broadcast_to(a.take([0], axis), a.shape)


def transposed(a, order):
    """Give equal values whose axes lie in memory in that order."""
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


def laid_out(rng, x):
    """Give `x` in some layout; a broadcast one has other values."""
    kind = rng.choice(["contiguous", "any", "broadcast", "transposed"], p=[0.4, 0.3, 0.1, 0.2])
    if kind == "broadcast":
        return broadcast(x, rng.integers(x.ndim)), kind
    if kind == "transposed":
        return transposed(x, rng.permutation(x.ndim)), kind
    name = rng.choice(list(LAYOUTS)) if kind == "any" else kind
    return LAYOUTS[name](x), name


def channels_of(rng):
    """Draw groups, and the channels that a group has of x and of the result."""
    kind = rng.choice(["one group", "groups", "depthwise"], p=[0.6, 0.2, 0.2])
    small = [1, 2, 3, 5, 7, 8, 16, 17]
    if kind == "depthwise":
        return kind, int(rng.integers(1, 71)), 1, int(rng.choice([1, 1, 2, 3]))
    if kind == "groups":
        return kind, int(rng.integers(2, 9)), int(rng.choice(small)), int(rng.choice(small))
    return kind, 1, int(rng.integers(1, 71)), int(rng.choice([rng.integers(1, 71), 32, 64]))


def attributes(rng, axes, kind):
    """Draw kernel, stride and dilation: sometimes those of most networks, else often the same along all axes."""
    if rng.random() < 0.4:
        return [int(rng.choice([1, 3, 3, 5]))] * axes, [int(rng.choice([1, 1, 2]))] * axes, [1] * axes

    def per_axis(values):
        return [int(rng.choice(values))] * axes if rng.random() < 0.6 else [int(n) for n in rng.choice(values, axes)]

    kernel = per_axis(DEPTHWISE_FILTERS if kind == "depthwise" else range(1, 8))
    stride, dilation = per_axis([1, 1, 2, 3, 4]), per_axis([1, 1, 1, 2, 3])
    return kernel, stride, dilation


def within_budget(rng, images, groups, group_in, group_out, sizes, work):
    """Halve one or the other until ``work(...)`` multiply-adds are few enough."""
    numbers = [images, groups, group_in, group_out, *sizes]
    budget = MOST * rng.random() ** 2
    while work(*numbers) > budget and max(numbers) > 1:
        one = rng.choice([i for i, number in enumerate(numbers) if number > 1])
        numbers[one] = -(-numbers[one] // 2)
    return numbers


def convolution(rng, axes):
    """Draw arguments of a convolution: shapes of x and weight, and options."""
    kind, groups, group_in, group_out = channels_of(rng)
    kernel, stride, dilation = attributes(rng, axes, kind)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = [int(rng.integers(0, e // 2 + 2)) if rng.random() < 0.7 else 0 for e in extent]

    def work(images, groups, group_in, group_out, *sizes):
        outs = [max(1, (n + 2 * p - e) // s + 1) for n, p, e, s in zip(sizes, padding, extent, stride, strict=True)]
        return images * groups * group_in * group_out * prod(kernel) * prod(outs)

    sizes = rng.integers(1, 71, axes).tolist()
    images, groups, group_in, group_out, *sizes = within_budget(
        rng, int(rng.integers(1, 5)), groups, group_in, group_out, sizes, work
    )
    sizes = [max(n, e - 2 * p) for n, p, e in zip(sizes, padding, extent, strict=True)]
    options = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation), "groups": groups}
    if rng.random() < 0.1:
        options["padding"] = "same"
        options["stride"] = 1
    return (images, groups * group_in, *sizes), (groups * group_out, group_in, *kernel), options


def transposed_convolution(rng, axes):
    """Draw arguments of a transposed convolution."""
    kind, groups, group_in, group_out = channels_of(rng)
    kernel, stride, dilation = attributes(rng, axes, kind)

    def work(images, groups, group_in, group_out, *sizes):
        return images * groups * group_in * group_out * prod(kernel) * prod(sizes)

    sizes = rng.integers(1, 71, axes).tolist()
    images, groups, group_in, group_out, *sizes = within_budget(
        rng, int(rng.integers(1, 5)), groups, group_in, group_out, sizes, work
    )
    full = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(sizes, stride, dilation, kernel, strict=True)]
    options = {
        "stride": tuple(stride),
        "padding": tuple(int(rng.integers(0, min(4, (n - 1) // 2) + 1)) for n in full),
        "output_padding": tuple(int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True)),
        "groups": groups,
        "dilation": tuple(dilation),
    }
    return (images, groups * group_in, *sizes), (groups * group_in, group_out, *kernel), options


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", CASES)
def test_random_shapes(name):
    draw = transposed_convolution if "transpose" in name else convolution
    for number in some(range(CASES[name]), 5):
        rng = np.random.default_rng([number, *name.encode()])
        shape, weight_shape, options = draw(rng, int(name[-2]))
        x, layout = laid_out(rng, noise(rng, shape, np.float32))
        weight = noise(rng, weight_shape, np.float32)
        channels = weight_shape[1] * options["groups"] if "transpose" in name else weight_shape[0]
        bias = noise(rng, channels, np.float32) if rng.random() < 0.7 else None
        if rng.random() < 0.2:
            x = x[0]

        def double(a):
            return None if a is None else torch.from_numpy(a.astype(np.float64, order="C"))

        expected = getattr(functional, name)(double(x), double(weight), double(bias), **options).numpy()
        ours = getattr(fastpool, name)(x, weight, bias, **options)
        case = f"case {number}: x {x.shape} {layout}, weight {weight_shape}, {options}"
        assert ours.shape == expected.shape, case
        assert ours.dtype == np.float32, case
        error, largest = np.abs(ours - expected).max(), np.abs(expected).max()
        assert error <= TOLERANCE * largest, f"error {error:.2e} beside {largest:.2e} in {case}"
