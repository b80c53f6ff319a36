"""Options of ``pytest bench``."""

from __future__ import annotations

from typing import Any


def pytest_addoption(parser: Any) -> None:
    """Add the element type."""
    parser.addoption("--dtype", choices=("float32", "float64"), default="float32", help="element type of all layers")


def pytest_generate_tests(metafunc: Any) -> None:
    """Hand the option to the tests."""
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", [metafunc.config.getoption("--dtype")])
