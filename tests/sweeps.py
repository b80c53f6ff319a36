"""Which cases of the sweeps run: all with ``--exhaustive``, else so many that every value of every parameter occurs.

Most cases of a sweep differ in a dtype, a tile or a source, each of which has code of its own that has to be compiled.
Whether a kernel is right in every dtype and with every tile is told by far fewer cases than every combination.
"""

import itertools
import os
import zlib

import pytest

EXHAUSTIVE = "FASTPOOL_EXHAUSTIVE"  # in the environment, so that processes that tests start know it too


def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true", help="run every case of the sweeps: twice the time")


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "sweep: without --exhaustive, only cases in which every value of every parameter occurs",
    )
    if config.getoption("--exhaustive"):
        os.environ[EXHAUSTIVE] = "1"


def leave_out(config, items):
    """Take the cases from the items that do not run."""
    if EXHAUSTIVE in os.environ:
        return
    sweeps = {}
    for item in items:
        if item.get_closest_marker("sweep"):
            sweeps.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = set()
    for cases in sweeps.values():
        left_out |= set(cases) - set(covering({case: case.callspec.params for case in cases}))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def covering(cases):
    """Some of the cases (name -> parameters), in which every value of every parameter occurs.

    In an order that is as good as random, and always the same: neighbours in a sweep differ in little.
    """
    found, seen = [], set()
    for case in sorted(cases, key=lambda case: zlib.crc32(getattr(case, "nodeid", str(case)).encode())):
        new = {(name, getattr(value, "__name__", repr(value))) for name, value in cases[case].items()} - seen
        if new:
            seen |= new
            found.append(case)
    return found


def some(cases, step, first=0):
    """All cases with ``--exhaustive``, else one in so many: of sweeps within a test."""
    return iter(cases) if EXHAUSTIVE in os.environ else itertools.islice(cases, first, None, step)


def examples(count):
    """Give so many examples of a property with ``--exhaustive``, else half of them: each may have code of its own."""
    return count if EXHAUSTIVE in os.environ else count // 2


sweep = pytest.mark.sweep
