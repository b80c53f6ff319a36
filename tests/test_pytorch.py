"""PyTorch's own sample inputs, and larger random ones, through the convolutions that it shares with us.

Arguments are passed on as they are: same order, same names.
"""

import warnings

import numpy as np
import pytest
from conftest import assert_close

import fastpool

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
functional = torch.nn.functional

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

#: Function -> number of PyTorch's samples, at least. More may come; fewer would mean that something is left out.
SAMPLES = {
    "conv1d": 10,
    "conv2d": 30,
    "conv3d": 20,
    "conv_transpose1d": 10,
    "conv_transpose2d": 12,
    "conv_transpose3d": 10,
}
DTYPES = {"float32": (torch.float32, np.float32), "float64": (torch.float64, np.float64)}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

pytestmark = [
    pytest.mark.usefixtures("one_thread_of_pytorch"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]


def to_numpy(value):
    """Tensors, also within tuples, as arrays that share their memory and strides; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, tuple) and any(isinstance(item, torch.Tensor) for item in value):
        return tuple(map(to_numpy, value))
    return value


def compare(name, x, *arguments, **options):
    """Call both functions with the same arguments and require equal results."""
    expected = to_numpy(getattr(functional, name)(x, *arguments, **options))
    ours = getattr(fastpool, name)(
        to_numpy(x), *map(to_numpy, arguments), **{key: to_numpy(value) for key, value in options.items()}
    )
    assert_close(ours, expected)


@every_dtype
@pytest.mark.parametrize("name", SAMPLES)
def test_samples(name, dtype):
    operators = [op for op in op_db if op.name == f"nn.functional.{name}"]
    assert operators
    count = 0
    for operator in operators:
        for sample in operator.sample_inputs("cpu", DTYPES[dtype][0], requires_grad=False):
            compare(name, sample.input, *sample.args, **sample.kwargs)
            count += 1
    assert count >= SAMPLES[name]


def tensor(seed, shape, dtype):
    """Give normally distributed numbers."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(DTYPES[dtype][1]))


@every_dtype
@pytest.mark.parametrize(
    ("shape", "weight_shape", "options"),
    [
        ((2, 3, 112, 96), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
        ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
        ((2, 48, 28, 30), (96, 48, 3, 3), {"stride": 2, "padding": "valid"}),
        ((3, 96, 14, 14), (200, 96, 1, 1), {}),
        ((2, 60, 33, 35), (60, 1, 5, 5), {"groups": 60, "padding": 2}),
        ((2, 40, 33, 35), (80, 10, 3, 3), {"groups": 4, "dilation": (2, 3), "stride": (1, 2)}),
        ((1, 24, 50, 41), (24, 24, 1, 9), {"padding": (0, 4)}),
    ],
)
def test_layers(shape, weight_shape, options, dtype):
    x, weight, bias = tensor(1, shape, dtype), tensor(2, weight_shape, dtype), tensor(3, weight_shape[:1], dtype)
    compare("conv2d", x, weight, bias, **options)
    compare("conv2d", x.contiguous(memory_format=torch.channels_last), weight, **options)


@every_dtype
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes(mode, dtype):
    """PyTorch pads in a step of its own; symmetric padding it does not have."""
    x, weight = tensor(4, (2, 8, 21, 23), dtype), tensor(5, (12, 8, 3, 5), dtype)
    for pads in [(1, 1, 2, 2), (0, 3, 4, 1), (20, 20, 5, 0)]:  # left, right, top, bottom
        for stride in (1, 2):
            expected = functional.conv2d(functional.pad(x, pads, mode=mode), weight, stride=stride)
            padding = (pads[2:], pads[:2])
            ours = fastpool.conv2d(x.numpy(), weight.numpy(), None, stride, padding, padding_mode=mode)
            assert_close(ours, expected.numpy())
