"""Compiled kernels on disk: found by the next process, not by an edited package, and never in a right result's way."""

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


def pool():
    """Compute global poolings of both dtypes, of few elements and on several threads: little to compile."""
    for dtype in (np.float32, np.float64):
        for shape in ((1, 3, 9, 11), (16, 64, 64, 64)):
            x = np.ones(shape, dtype)
            x[..., 5, 7] = 3
            np.testing.assert_array_equal(fastpool.global_max_pool2d(x), np.full((*shape[:2], 1, 1), 3, dtype))


def convolve_and_pool():
    """Compute a convolution and poolings, and compare with the oracle."""
    from fastpool import oracle

    pool()
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-9, 10, (1, 3, 9, 11)).astype(np.float32), np.ones((5, 3, 3, 2), np.float32)
    np.testing.assert_array_equal(fastpool.conv2d(x, weight, stride=2, padding=1), oracle.conv2d(x, weight, None, 2, 1))
    np.testing.assert_array_equal(fastpool.min_pool2d(x, 4, 1), oracle.min_pool2d(x, 4, 1))


WORK = {"pool": pool, "convolve and pool": convolve_and_pool}


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
    assert len(found) > 3
    return found


def use(work, cached, package=PACKAGE):
    """Compute; require that all code comes from disk (True), none of it (False), or do not ask (None)."""
    assert Path(fastpool.__file__).parent == Path(package), "another copy of the package was imported"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WORK[work]()
    found = origins()
    if cached is not None:
        assert found == dict.fromkeys(found, cached)


def use_without_a_folder(package):
    """Compute where no folder can be written: one warning for all kernels, and no second one later."""
    assert Path(fastpool.__file__).parent == Path(package)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convolve_and_pool()
        convolve_and_pool()
        assert fastpool.info()["cache"] is None
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert "NUMBA_CACHE_DIR" in str(caught[0].message)
    found = origins()
    assert found == dict.fromkeys(found, False)


def use_with_warnings():
    """Compute where the cache is damaged; one warning is allowed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool()
    assert [warning.category for warning in caught] in ([], [RuntimeWarning]), list(map(str, caught))


def use_on_a_full_disk():
    """Compute where files can be made, but nothing can be written to them."""
    import resource

    fastpool.info()  # starts Numba's threads, which makes files of its own
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    use_with_warnings()


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
    """A folder with the cache entries of `pool`; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("warm")
    apart(use, "pool", False, cache=folder)
    return folder


@pytest.fixture
def cache(warm, tmp_path):
    """A copy of the warm folder, to be damaged."""
    return shutil.copytree(warm, tmp_path / "cache")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A copy of the package that has run `pool`, and keeps its code beside the kernels."""
    package = copy_of_package(tmp_path_factory.mktemp("installed"))
    apart(use, "pool", False, str(package), package=package)
    return package


def entries(folder, kind):
    """Index (nbi) or data (nbc) files of a cache folder."""
    found = sorted(folder.rglob(f"*.{kind}"))
    assert found
    return found


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("work", WORK)
def test_a_second_process_compiles_nothing(work, cache):
    apart(use, work, None, cache=cache)
    before = {path: path.stat().st_mtime_ns for kind in ("nbi", "nbc") for path in entries(cache, kind)}
    apart(use, work, True, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_code_is_kept_beside_the_kernels(installed):
    assert entries(installed / "kernels" / "__pycache__", "nbi")
    apart(use, "pool", True, str(installed), package=installed)


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


SINGLE = (("nbi",), ("nbc",))


@pytest.mark.parametrize(
    ("kinds", "damage"),
    [*((("nbi", "nbc"), damage) for damage in DAMAGES if damage != "cut off"), *((kind, "cut off") for kind in SINGLE)],
    ids=str,
)
def test_damaged_files(kinds, damage, cache):
    for kind in kinds:
        for path in entries(cache, kind):
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
    apart(use_with_warnings, cache=cache)
    # What was damaged has been replaced: one bad file does not slow down every process from then on.
    apart(use, "pool", True, cache=cache)


def test_missing_data_files(cache):
    for path in entries(cache, "nbc"):
        path.unlink()
    apart(use, "pool", False, cache=cache)
    apart(use, "pool", True, cache=cache)


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
    apart(use_with_warnings, cache=cache)


def test_an_edited_file_changes_the_fingerprint(installed, tmp_path):
    # Numba looks at the file of the function alone, but a kernel is made of several files.
    package = shutil.copytree(installed, tmp_path / "fastpool")  # modification times and compiled code included
    path = package / "kernels" / "simd.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a change\n", encoding="utf-8")
    apart(use, "pool", False, str(package), package=package)
    apart(use, "pool", True, str(package), package=package)


def test_a_copied_package_keeps_its_code(installed, tmp_path):
    # Without this, the test of edited files would prove nothing.
    package = shutil.copytree(installed, tmp_path / "fastpool")
    apart(use, "pool", True, str(package), package=package)


def test_two_processes_that_compile_at_once(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    code = f"import {MODULE}; {MODULE}.use('pool', None)"
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, cwd=Path(__file__).parent, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    apart(use, "pool", None, cache=tmp_path)
    apart(use, "pool", True, cache=tmp_path)
