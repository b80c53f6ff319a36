"""Results are the same, bit for bit, for any number of threads and in every process."""

from functools import partial
from hashlib import sha256
from pathlib import Path

from processes import (
    THREADS,
    apart,
    bits,
    check,
    images,
    record_launches,
    serial_results,
    works,
)

import fastpool


def same_bits():
    calls = works()
    wanted = serial_results(calls)
    counts = record_launches()
    for n in range(1, THREADS + 1):
        with fastpool.threads(n):
            for name, call in calls.items():
                counts.clear()
                assert bits(call()) == wanted[name], f"{name} with {n} threads"
                assert max(counts) == n, f"{name} is too small to be shared"
        fastpool.set_num_threads(n)
        check(calls, wanted)


def convolutions():
    """Give convolutions of every algorithm, source and schedule, large enough to be shared."""
    x, small, large = images(0, 2, 40, 61, 59), images(1, 1, 200, 9, 11), images(2, 2, 24, 160, 150)
    weight, wide, fifth = images(3, 70, 40, 3, 3), images(4, 330, 200, 3, 3), images(5, 34, 24, 5, 5)
    point, cube = images(6, 130, 40, 1, 1), images(7, 30, 8, 2, 3, 3)
    calls = {
        "in place": lambda: fastpool.conv2d(x, point),
        "in place, dilated": lambda: fastpool.conv2d(x, weight, dilation=2, algorithm="direct"),
        "packed": lambda: fastpool.conv2d(x, weight, None, 2, 1, algorithm="direct"),
        "more weight than input": lambda: fastpool.conv2d(small, wide, padding=1, algorithm="direct"),
        "packed by each task": lambda: fastpool.conv2d(large, fifth, padding=2, algorithm="direct"),
        "groups": lambda: fastpool.conv2d(x, weight[:, :8], padding=1, groups=5),
        "depthwise": lambda: fastpool.conv2d(large, images(8, 48, 1, 3, 3), padding=1, groups=24),
        "depthwise, few planes": lambda: fastpool.conv2d(large[:1, :2], images(9, 2, 1, 5, 5), None, 2, groups=2),
        "three dimensions": lambda: fastpool.conv3d(x.reshape(2, 8, 5, 61, 59), cube, padding=1),
        "transposed": lambda: fastpool.conv_transpose2d(x, images(10, 40, 30, 4, 4), None, 2, 1),
    }
    # Prepared, as what meets padding is left out where weights are known to be finite.
    prepared = {
        "masked": (images(12, 2, 64, 75, 75), images(13, 64, 8, 3, 3), {"padding": 1, "groups": 8}),
        "masked, or in parts": (images(14, 2, 700, 2, 14), images(15, 32, 700, 3, 3), {"padding": ((1, 1), (0, 2))}),
        "run by run": (images(16, 1, 256, 33, 33), images(17, 64, 256, 3, 3), {"padding": 18, "dilation": 18}),
        "in parts of panels": (
            images(18, 1, 320, 65, 28),
            images(19, 128, 320, 3, 3),
            {"padding": 2, "dilation": 2, "algorithm": "direct"},
        ),
        "depthwise, rows left out": (images(20, 4, 40, 30, 30), images(21, 40, 1, 7, 7), {"padding": 3, "groups": 40}),
    }
    for name, (a, filters, options) in prepared.items():
        calls[f"prepared, {name}"] = partial(fastpool.Conv2d(filters, **options), a)
    for stride, taps in [(1, 3), (1, 5), (2, 3), (2, 5)]:
        for name, a, channels in [("small", small, 200), ("large", large, 24)]:
            filters = images(11, 70, channels, taps, taps)
            calls[f"winograd {taps}s{stride}, {name}"] = partial(
                fastpool.conv2d, a, filters, stride=stride, padding=1, algorithm="winograd"
            )
    return calls


def sums():
    """Give poolings whose results depend on the order of their sums."""
    x = images(0, 6, 8, 120, 112)
    return {
        f"{name} {window}": partial(pooling, x, window, 1, window // 2)
        for name, pooling in (("mean", fastpool.avg_pool2d), ("sum", fastpool.sum_pool2d))
        for window in (3, 11, 31)
    } | {
        "adaptive mean": lambda: fastpool.adaptive_avg_pool2d(x, 7),
        "global mean": lambda: fastpool.global_avg_pool2d(x),
        "few planes": lambda: fastpool.avg_pool2d(x[:1, :1], 31, 1, 15),
        "norm": lambda: fastpool.lp_pool2d(x, 3, 2),
    }


def write_bits(path):
    """Compute every convolution and sum for each number of threads, always the same, and write down what it was."""
    calls = convolutions() | sums()
    wanted = serial_results(calls)
    counts = record_launches()
    for n in range(1, fastpool.get_num_threads() + 1):
        with fastpool.threads(n):
            for name, call in calls.items():
                counts.clear()
                check({name: call}, wanted)
                assert max(counts) == n, f"{name} is too small to be shared"
    Path(path).write_text("".join(f"{name}: {sha256(result).hexdigest()}\n" for name, result in wanted.items()))


# ---------------------------------------------------------------------------------------------------------------- tests


def test_any_number_of_threads():
    apart(same_bits)


def test_results_are_bit_identical_in_every_process(tmp_path):
    # How work is cut into tasks depends on the number of threads.
    written = set()
    for run, threads in enumerate(("1", "2", "5", "5")):
        path = tmp_path / str(run)
        apart(write_bits, str(path), NUMBA_NUM_THREADS=threads)
        written.add(path.read_text())
    assert len(written) == 1
    assert len(written.pop().splitlines()) == len(convolutions() | sums())
