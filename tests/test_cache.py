"""Compiled kernels on disk: found by the next process, missed by an edited package, never in the way of a right result."""

import importlib
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import run_apart

import fastpool

PACKAGE = Path(fastpool.__file__).parent
MODULE = Path(__file__).stem

# ---------------------------------------------------------------------------- what runs in a process of its own


def compute():
    """Compute a convolution and poolings, one of them on several threads, and compare with the oracle."""
    from fastpool import oracle

    rng = np.random.default_rng(0)
    x, weight = rng.integers(-9, 10, (1, 3, 9, 11)).astype(np.float32), np.ones((5, 3, 3, 2), np.float32)
    np.testing.assert_array_equal(fastpool.conv2d(x, weight, stride=2, padding=1), oracle.conv2d(x, weight, None, 2, 1))
    np.testing.assert_array_equal(fastpool.global_max_pool2d(x), oracle.global_max_pool2d(x))
    np.testing.assert_array_equal(fastpool.min_pool2d(x, 4, 1), oracle.min_pool2d(x, 4, 1))
    large = np.ones((16, 64, 64, 64), np.float32)
    np.testing.assert_array_equal(fastpool.global_max_pool2d(large), np.ones((16, 64, 1, 1), np.float32))


def origins():
    """Name of everything that was compiled or loaded -> whether it came from disk."""
    from fastpool import runtime
    from fastpool.kernels._jit import Routine

    found = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("fastpool.kernels"):
            routines = [value for value in vars(module).values() if isinstance(value, Routine)]
            found |= {f"{r.body.__name__} {spec}": c.cached for r in routines for spec, c in r.compiled.items()}
    for name in ("serial", "parallel", "address"):
        function = getattr(runtime.engine(), name)
        assert function.signatures, f"{name} was not used"
        found[name] = bool(function.stats.cache_hits) and not function.stats.cache_misses
    assert len(found) > 6
    return found


def use(cached, package):
    """Compute; require that all code comes from disk (True), none of it (False), or do not ask (None)."""
    assert Path(fastpool.__file__).parent == Path(package), "another copy of the package was imported"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compute()
    found = origins()
    if cached is not None:
        assert found == dict.fromkeys(found, cached)


def use_without_a_folder(package):
    """Compute where no folder can be written: one warning for all kernels, and no second one later."""
    assert Path(fastpool.__file__).parent == Path(package)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
        compute()
        assert fastpool.info()["cache"] is None
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert "NUMBA_CACHE_DIR" in str(caught[0].message)
    found = origins()
    assert found == dict.fromkeys(found, False)


def use_on_a_full_disk():
    """Compute where files can be made, but nothing can be written to them."""
    import resource

    importlib.import_module("fastpool.pooling")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        compute()


def use_damaged():
    """Compute with damaged files; one warning is allowed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
    assert len(caught) <= 1
    assert all(issubclass(warning.category, RuntimeWarning) for warning in caught)


# ------------------------------------------------------------------------------------------------------------- helpers


def apart(function, *arguments, package=PACKAGE, cache=None, **environment):
    """Run a function of this file in a fresh interpreter, with a copy of the package and a folder for the cache."""
    settings = {"PYTHONPATH": str(Path(package).parent), "NUMBA_NUM_THREADS": "2", "PYTHONDONTWRITEBYTECODE": "1"}
    if cache is not None:
        settings["NUMBA_CACHE_DIR"] = str(cache)
    run_apart(MODULE, function.__name__, *arguments, environment=settings | environment)


def copy_of_package(folder):
    """Copy the package, without anything compiled, into a folder; where the copy is."""
    return shutil.copytree(PACKAGE, folder / "fastpool", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder with the cache entries of one run; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("warm")
    apart(use, False, str(PACKAGE), cache=folder)
    return folder


@pytest.fixture
def cache(warm, tmp_path):
    """A copy of the warm folder, to be damaged."""
    return shutil.copytree(warm, tmp_path / "cache")


def entries(folder, kind):
    """Index (nbi) or data (nbc) files of a cache folder."""
    found = sorted(folder.rglob(f"*.{kind}"))
    assert found
    return found


# --------------------------------------------------------------------------------------------------------------- tests


def test_a_second_process_compiles_nothing(warm):
    before = {path: path.stat().st_mtime_ns for path in warm.rglob("*.nb?")}
    assert before
    apart(use, True, str(PACKAGE), cache=warm)
    assert {path: path.stat().st_mtime_ns for path in warm.rglob("*.nb?")} == before


def test_another_installation_keeps_its_code_beside_the_kernels(tmp_path):
    package = copy_of_package(tmp_path)
    apart(use, False, str(package), package=package)
    assert entries(package / "kernels" / "__pycache__", "nbi")
    apart(use, True, str(package), package=package)


def test_without_a_folder_that_can_be_written(tmp_path):
    # Permissions do not bind a superuser, but a path below a file can be made by nobody.
    package = copy_of_package(tmp_path)
    (package / "kernels" / "__pycache__").write_text("in the way")
    file = tmp_path / "file"
    file.write_text("in the way")
    nowhere = {name: str(file / name) for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    apart(use_without_a_folder, str(package), package=package, **nowhere)


def test_on_a_full_disk(tmp_path):
    pytest.importorskip("resource", reason="limits of a process are POSIX")
    apart(use_on_a_full_disk, cache=tmp_path)


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\x00garbage" * 1000,
    "another pickle": lambda content: pickle.dumps("something else"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kinds", [["nbi"], ["nbc"], ["nbi", "nbc"]], ids=" and ".join)
def test_damaged_files(damage, kinds, cache):
    for kind in kinds:
        for path in entries(cache, kind):
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
    apart(use_damaged, cache=cache)
    # What was damaged has been replaced: one bad file does not slow down every process from then on.
    apart(use, True, str(PACKAGE), cache=cache)


def test_missing_data_files(cache):
    for path in entries(cache, "nbc"):
        path.unlink()
    apart(use, False, str(PACKAGE), cache=cache)
    apart(use, True, str(PACKAGE), cache=cache)


def test_an_entry_that_names_the_code_of_another(cache):
    # Two processes that save different code of one function at the same moment may both take the same file name, and a
    # process that ends between writing the index and the data leaves the name of an older file: an index then leads to
    # code for other arguments. It must not be run.
    mixed = 0
    for path in entries(cache, "nbi"):
        with path.open("rb") as file:
            version, content = pickle.load(file), file.read()
        stamp, overloads = pickle.loads(content)
        if len(overloads) > 1:
            names = list(overloads.values())
            overloads = dict(zip(overloads, names[1:] + names[:1], strict=True))
            path.write_bytes(pickle.dumps(version, -1) + pickle.dumps((stamp, overloads)))
            mixed += 1
    assert mixed, "no function was compiled twice, so that nothing can be mixed up"
    apart(use_damaged, cache=cache)


@pytest.mark.parametrize("file", ["simd.py", "calls.py", "pool.py", "tiles.py"])
def test_an_edited_file_changes_the_fingerprint(file, tmp_path):
    # Numba looks at the file of the function alone, but a kernel is made of several files.
    package = copy_of_package(tmp_path)
    apart(use, False, str(package), package=package)
    path = package / "kernels" / file
    path.write_text(path.read_text(encoding="utf-8") + "\n# a change\n", encoding="utf-8")
    apart(use, False, str(package), package=package)
    apart(use, True, str(package), package=package)


def test_two_processes_that_compile_at_once(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    code = f"import {MODULE}; {MODULE}.use(None, {str(PACKAGE)!r})"
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, cwd=Path(__file__).parent, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    apart(use, None, str(PACKAGE), cache=tmp_path)
    apart(use, True, str(PACKAGE), cache=tmp_path)
