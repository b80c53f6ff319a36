"""Compiled kernels on disk: found by the next process, not by an edited package, and never in a right result's way."""

import itertools
import os
import pickle
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from processes import run_apart

import fastpool
from fastpool.machine import store

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
    from fastpool.routines.routine import Routine, entries

    found = {name: compiled.cached for name, compiled in entries.items()}
    assert {"_launch.serial", "_launch.parallel", "_launch.address"} <= set(found)
    for name, module in list(sys.modules.items()):
        if name.startswith("fastpool.routines"):
            routines = [value for value in vars(module).values() if isinstance(value, Routine)]
            found |= {f"{r.name} {spec}": c.cached for r in routines for spec, c in r.compiled.items()}
    return found


def choose(way):
    """Let this process keep code in the way of systems where images can be loaded, or of the others."""
    if way == "numba":
        store.can_load = lambda: False
    else:
        assert store.can_load()


def use(way, work, cached, package=PACKAGE):
    """Compute; require that all code comes from disk (True), none of it (False), or do not ask (None)."""
    assert Path(fastpool.__file__).parent == Path(package), "another copy of the package was imported"
    choose(way)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WORK[work]()
    found = origins()
    if cached is not None:
        assert found == dict.fromkeys(found, cached)
        if way == "image":
            assert cached == ({"numba", "llvmlite"} & set(sys.modules) == set())


def use_without_a_folder(way, package):
    """Compute where no folder can be written: one warning for all kernels, and no second one later."""
    assert Path(fastpool.__file__).parent == Path(package)
    choose(way)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convolve_and_pool()
        convolve_and_pool()
        assert fastpool.info()["cache"] is None
    assert [warning.category for warning in caught] == [RuntimeWarning]
    assert "NUMBA_CACHE_DIR" in str(caught[0].message)
    found = origins()
    assert found == dict.fromkeys(found, False)


def use_with_warnings(way):
    """Compute where the cache is damaged; one warning is allowed."""
    choose(way)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool()
    assert [warning.category for warning in caught] in ([], [RuntimeWarning]), list(map(str, caught))


def use_where_no_code_can_be_loaded():
    """Compute on a system that lets no process make memory executable by itself."""
    from fastpool.machine import image

    def forbidden(size):
        raise PermissionError("memory cannot be made executable")

    choose("image")
    image._pages = forbidden
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        convolve_and_pool()
    assert ["cannot be made executable" in str(warning.message) for warning in caught] == [True]
    found = origins()
    assert found == dict.fromkeys(found, False)
    assert "numba" in sys.modules


def use_on_a_full_disk(way):
    """Compute where files can be made, but nothing can be written to them."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    use_with_warnings(way)


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


@pytest.fixture(scope="module", params=["image", "numba"])
def way(request):
    """How code is kept: as an image that is loaded without Numba, or in Numba's own cache."""
    if request.param == "image" and not store.can_load():
        pytest.skip("images are of x86-64 Linux")
    return request.param


@pytest.fixture(scope="module")
def warm(way, tmp_path_factory):
    """A folder with the cache entries of `pool`; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp(f"warm-{way}")
    apart(use, way, "pool", False, cache=folder)
    return folder


@pytest.fixture
def cache(warm, tmp_path):
    """A copy of the warm folder, to be damaged."""
    return shutil.copytree(warm, tmp_path / "cache")


@pytest.fixture(scope="module")
def installed(way, tmp_path_factory):
    """A copy of the package that has run `pool`, and keeps its code beside the kernels."""
    package = copy_of_package(tmp_path_factory.mktemp(f"installed-{way}"))
    apart(use, way, "pool", False, str(package), package=package)
    return package


#: Files of a cache: images, or Numba's indices and data.
KINDS = {"image": ("fastpool-kernels/*/*",), "numba": ("*.nbi", "*.nbc")}


def entries(folder, pattern):
    """Files of a cache folder."""
    found = sorted(path for path in folder.rglob(pattern) if path.is_file())
    assert found
    return found


def all_entries(folder, way):
    """All files of a cache folder."""
    return [path for pattern in KINDS[way] for path in entries(folder, pattern)]


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("work", WORK)
def test_a_second_process_compiles_nothing(work, cache, way):
    apart(use, way, work, None, cache=cache)
    before = {path: path.stat().st_mtime_ns for path in all_entries(cache, way)}
    apart(use, way, work, True, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in all_entries(cache, way)} == before


def test_code_is_kept_beside_the_kernels(installed, way):
    assert all_entries(installed / "kernels" / "__pycache__", way)
    apart(use, way, "pool", True, str(installed), package=installed)


def test_without_a_folder_that_can_be_written(tmp_path, way):
    # Permissions do not bind a superuser, but a path below a file can be made by nobody.
    package = copy_of_package(tmp_path)
    (package / "kernels" / "__pycache__").write_text("in the way")
    file = tmp_path / "file"
    file.write_text("in the way")
    nowhere = {name: str(file / name) for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    apart(use_without_a_folder, way, str(package), package=package, **nowhere)


def test_in_the_folder_of_the_user(tmp_path, way):
    package = copy_of_package(tmp_path)
    (package / "kernels" / "__pycache__").write_text("in the way")
    user = tmp_path / "user"
    apart(use, way, "pool", False, str(package), package=package, HOME=str(user), XDG_CACHE_HOME=str(user))
    assert all_entries(user, way)
    apart(use, way, "pool", True, str(package), package=package, HOME=str(user), XDG_CACHE_HOME=str(user))


def test_on_a_full_disk(tmp_path, way):
    pytest.importorskip("resource", reason="limits of a process are POSIX")
    apart(use_on_a_full_disk, way, cache=tmp_path)


@pytest.mark.skipif(not store.can_load(), reason="images are of x86-64 Linux")
def test_where_no_code_can_be_loaded(tmp_path):
    apart(use_where_no_code_can_be_loaded, cache=tmp_path)


#: One file after the other has one of them.
DAMAGES = {
    "cut off": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"\x00garbage" * 1000,
    "another pickle": lambda content: pickle.dumps("something else"),
}


def test_damaged_files(cache, way):
    for path, damage in zip(all_entries(cache, way), itertools.cycle(DAMAGES.values()), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    apart(use_with_warnings, way, cache=cache)
    # What was damaged has been replaced: one bad file does not slow down every process from then on.
    apart(use, way, "pool", True, cache=cache)


@pytest.mark.parametrize("way", ["image"], indirect=True)
def test_images_of_which_a_bit_is_wrong(way, cache):
    for path in all_entries(cache, way):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # in the code itself, of which nothing else tells
    apart(use_with_warnings, way, cache=cache)
    apart(use, way, "pool", True, cache=cache)


def test_missing_files(cache, way):
    for path in entries(cache, KINDS[way][-1]):
        path.unlink()
    apart(use, way, "pool", False, cache=cache)
    apart(use, way, "pool", True, cache=cache)


@pytest.mark.parametrize("way", ["image"], indirect=True)
def test_an_image_under_the_name_of_another(cache, way):
    files = entries(cache, "fastpool-kernels/*/*")
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    apart(use_with_warnings, way, cache=cache)
    apart(use, way, "pool", True, cache=cache)


@pytest.mark.parametrize("way", ["numba"], indirect=True)
def test_an_entry_that_names_the_code_of_another(cache, way):
    # Two processes that save different code of one function at the same moment may both take the same file name, and a
    # process that ends between writing the index and the data leaves the name of an older file: an index then leads to
    # code for other arguments. It must not be run.
    mixed = 0
    for path in entries(cache, "*.nbi"):
        with path.open("rb") as file:
            version, content = pickle.load(file), file.read()
        stamp, overloads = pickle.loads(content)
        if len(overloads) > 1:
            names = list(overloads.values())
            overloads = dict(zip(overloads, names[1:] + names[:1], strict=True))
            path.write_bytes(pickle.dumps(version, -1) + pickle.dumps((stamp, overloads)))
            mixed += 1
    assert mixed, "no function was compiled twice, so that nothing can be mixed up"
    apart(use_with_warnings, way, cache=cache)


def test_an_edited_file_changes_the_fingerprint(installed, tmp_path, way):
    # Numba looks at the file of the function alone, but a kernel is made of several files.
    package = shutil.copytree(installed, tmp_path / "fastpool")  # modification times and compiled code included
    path = package / "kernels" / "simd.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a change\n", encoding="utf-8")
    apart(use, way, "pool", False, str(package), package=package)
    apart(use, way, "pool", True, str(package), package=package)


@pytest.mark.parametrize("way", ["image"], indirect=True)
def test_settings_of_numba_change_the_fingerprint(cache, way):
    apart(use, way, "pool", False, cache=cache, NUMBA_OPT="2")
    apart(use, way, "pool", True, cache=cache, NUMBA_NUM_THREADS="3")  # which changes nothing about the code
    apart(use, way, "pool", True, cache=cache)


def test_a_copied_package_keeps_its_code(installed, tmp_path, way):
    # Without this, the test of edited files would prove nothing.
    package = shutil.copytree(installed, tmp_path / "fastpool")
    apart(use, way, "pool", True, str(package), package=package)


def test_two_processes_that_compile_at_once(tmp_path, way):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    code = f"import {MODULE}; {MODULE}.use('{way}', 'pool', None)"
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, cwd=Path(__file__).parent, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    apart(use, way, "pool", None, cache=tmp_path)
    apart(use, way, "pool", True, cache=tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for the cache of this process, of which nothing is remembered afterwards."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    remembering = store._folders, store.folder
    for function in remembering:
        function.cache_clear()
    yield tmp_path
    for function in remembering:
        function.cache_clear()


def test_few_old_folders_are_kept(folder):
    parent = folder / "fastpool-kernels"
    for number in range(20):
        old = parent / f"{number}"
        old.mkdir(parents=True)
        (old / "entry").write_bytes(b"code")
        os.utime(old, (1e9 + number, 1e9 + number))
    (folder / "something else").mkdir()
    current = store.folder()
    assert current.parent == parent
    assert {path.name for path in parent.iterdir()} == {*map(str, range(13, 20)), current.name}
    assert (folder / "something else").is_dir()


def test_a_folder_that_is_used_is_not_an_old_one(folder):
    current = store.folder()
    os.utime(current, (1e9, 1e9))
    store.folder.cache_clear()
    assert store.folder() == current
    assert current.stat().st_mtime > 1.5e9


def test_entries_are_read_where_none_can_be_made(folder, monkeypatch):
    store.write("key", {"number": 1}, b"content")
    monkeypatch.setattr(store, "folder", lambda: None)
    assert store.read("key") == ({"number": 1}, b"content")
    assert store.read("another key") is None


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_others_may_read_entries(folder):
    store.write("key", {})
    mask = os.umask(0)
    os.umask(mask)
    (path,) = entries(folder, "fastpool-kernels/*/*")
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def compile_from_an_edited_file(package):
    """Compute by a kernel whose file is edited after this process has begun: its code is not for others."""
    from fastpool.routines import routine

    path = Path(package) / "kernels" / "reduce.py"
    source = path.read_text(encoding="utf-8")
    path.write_text(source + "\n# an edit\n", encoding="utf-8")
    pool()
    assert routine.entries
    path.write_text(source, encoding="utf-8")


@pytest.mark.parametrize("way", ["image"], indirect=True)
def test_an_edit_that_is_undone_leaves_nothing(tmp_path, way):
    package = copy_of_package(tmp_path)
    apart(compile_from_an_edited_file, str(package), package=package)
    apart(use, way, "pool", False, str(package), package=package)


#: Computes with vectors that only this program wants.
WITH_SETTINGS_OF_ITS_OWN = """
from numba import config
config.ENABLE_AVX = 0
import fastpool, numpy
assert fastpool.max_pool2d(numpy.ones((1, 3, 9, 11), "float32"), 2).min() == 1
assert fastpool.info()["instructions"] == "sse"
"""


@pytest.mark.skipif(b" avx2 " not in (store._processor() or b""), reason="AVX cannot be switched off")
@pytest.mark.parametrize("way", ["image"], indirect=True)
def test_settings_of_a_program_are_its_own(tmp_path, way):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", WITH_SETTINGS_OF_ITS_OWN], env=environment, check=True, timeout=300)
    apart(use, way, "pool", False, cache=tmp_path)


def fork_that_is_interrupted():
    """Let a fork fail to get its second lock; who needs a kernel afterwards is not kept waiting."""
    from fastpool import forks
    from fastpool.machine import code

    class Stubborn:
        def __enter__(self):
            raise KeyboardInterrupt

        def __exit__(self, *reason):
            raise AssertionError("was never held")

    forks.wait_for(Stubborn())
    forks.wait_for(code._lock)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    free = []

    def take():
        free.append(code._lock.acquire(timeout=10))

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert free == [True]
    os._exit(0)  # the interruption was reported, not raised


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_that_is_interrupted_holds_no_lock():
    apart(fork_that_is_interrupted)


@pytest.mark.skipif(not store.can_load(), reason="images are of x86-64 Linux")
def test_processes_that_have_compiled_end_well(tmp_path):
    # What Python's functions point to must outlive them: the last sweep of the garbage collector looks at it.
    for turn in range(4):
        apart(pool, cache=tmp_path / str(turn))
