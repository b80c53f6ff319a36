"""asv: what a script waits for before its first result. Each sample is a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

FIRST_CALL = """
    import numpy, fastpool
    x, weight = numpy.ones((1, 3, 32, 32), numpy.float32), numpy.ones((16, 3, 3, 3), numpy.float32)
    fastpool.conv2d(x, weight, stride=2, padding=1)
"""

EMPTY_CACHE = """
    import os, tempfile
    folder = tempfile.TemporaryDirectory()
    os.environ["NUMBA_CACHE_DIR"] = folder.name
"""


@cache
def fill_cache() -> None:
    """Compile in another process what the samples then load from the disk cache."""
    subprocess.run([sys.executable, "-c", "if True:" + FIRST_CALL], check=True)


class Startup:
    """Seconds from the start of a script, without that of the interpreter."""

    timeout = 300.0
    repeat = (3, 5, 10.0)

    def setup(self) -> None:
        """Fill the disk cache."""
        fill_cache()

    def timeraw_import(self) -> str:
        """Import the package, which does not load Numba."""
        return "import fastpool"

    def timeraw_first_convolution(self) -> str:
        """Import, and convolve once from the disk cache."""
        return FIRST_CALL


class ColdStartup:
    """The same with an empty disk cache: what the first script on a new machine compiles."""

    timeout = 300.0
    repeat = (1, 3, 10.0)
    number = 1

    def setup(self) -> None:
        """Nothing is prepared."""

    def timeraw_first_convolution_empty_cache(self) -> str:
        """Import, compile, and convolve once."""
        return EMPTY_CACHE + FIRST_CALL
