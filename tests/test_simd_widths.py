"""Every vector width computes the oracle's results, in processes that Numba limits to narrower processors."""

import os
import platform
import subprocess
import sys

import llvmlite.binding as llvm
import pytest

WIDTHS = {
    "avx2 with fma": ("haswell", "+avx2,+avx,+fma,+sse4.2,+sse2,+bmi,+bmi2,+popcnt", "avx2 256 True"),
    "avx2 without fma": ("haswell", "+avx2,+avx,+sse4.2,+sse2,+popcnt,-fma", "avx2 256 False"),
    "sse2": ("generic", "", "sse 128 False"),
}

CHECK = """
import numpy as np
import fastpool
from fastpool import oracle

info = fastpool.info()
print(info["instructions"], info["vector_bits"], info["fma"])
rng = np.random.default_rng(0)


def compare(name, *arguments, algorithm=None, tolerance, **options):
    ours = getattr(fastpool, name)(*arguments, **options, **({"algorithm": algorithm} if algorithm else {}))
    expected = getattr(oracle, name)(*arguments, **options)
    if not isinstance(ours, tuple):
        ours, expected = (ours,), (expected,)
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), (name, options)


for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
    x = rng.standard_normal((2, 20, 13, 17)).astype(dtype)
    filters = rng.standard_normal((21, 20, 3, 3)).astype(dtype)
    for algorithm in ("direct", "winograd"):
        for stride in (1, 2):
            compare("conv2d", x, filters, stride=stride, padding=1, algorithm=algorithm, tolerance=tolerance)
    compare("conv2d", x, filters, stride=2, padding=2, dilation=2, tolerance=tolerance)
    compare("conv2d", x, filters, stride=3, tolerance=tolerance)
    compare("conv2d", x, filters[:7, :, :1, :1], tolerance=tolerance)
    for stride in (1, 2):
        compare("conv2d", x, filters[:20, :1], None, stride, 1, 1, 20, tolerance=tolerance)
    for kernel, stride, padding in ((2, 2, 0), (3, 1, 1), (5, 1, 2), (4, 3, 0)):
        for name in ("max_pool2d", "avg_pool2d"):
            compare(name, x, kernel, stride, padding, tolerance=tolerance)
    compare("max_pool2d", x, 3, 2, return_indices=True, tolerance=0)
    for p in (2, 3):
        compare("lp_pool2d", x, p, 3, tolerance=tolerance)
    compare("global_avg_pool2d", x, tolerance=tolerance)
    compare("global_max_pool2d", x, tolerance=0)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="narrower processors of the x86 family")
@pytest.mark.parametrize("width", WIDTHS)
def test_narrower_vectors_equal_the_oracle(width, tmp_path):
    cpu, features, expected = WIDTHS[width]
    if cpu == "haswell" and not {"avx2", "fma"} <= {f for f, there in llvm.get_host_cpu_features().items() if there}:
        pytest.skip("this processor has no AVX2 or FMA")
    environment = os.environ | {
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == expected
