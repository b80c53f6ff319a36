"""Machine code on disk: an entry for each function, found by everything that it depends on.

Numba has a cache of its own, but only Numba can read it, and loading Numba and LLVM takes 130 MB and most of a second,
many times what the kernels of a network need. An entry here is what `machine.image` puts into memory. It is checked
before it is used: one that is damaged, or that another key has, is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

_MAGIC = b"fastpool machine code 1\n"
#: Environment variables of Numba that change nothing about the code.
_NEUTRAL = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_WARNINGS", "NUMBA_DEBUG_CACHE"}
#: Folder for all versions of the package, its compilers and processors; how many are kept beside the one in use.
_NAME = "fastpool-kernels"
_KEPT = 7
_PACKAGE = Path(__file__).parent.parent
_warned = False


@cache
def fingerprint() -> str:
    """Digest of all that machine code depends on besides the processor: sources, compilers, and their settings."""
    return _digest()


def is_current() -> bool:
    """Whether the files are still those that this process began with."""
    return _digest() == fingerprint()


def _sources() -> list[Path]:
    return [path for folder in ("kernels", "machine", "routines") for path in sorted((_PACKAGE / folder).glob("*.py"))]


def _digest() -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {object.__basicsize__}".encode())
    for source in _sources():
        digest.update(source.read_bytes())
    for library in ("numba", "llvmlite"):
        digest.update(_version(library))
    for name, value in sorted(os.environ.items()):
        if name.startswith("NUMBA_") and name not in _NEUTRAL:
            digest.update(f"{name}={value}\n".encode())
    settings = Path(".numba_config.yaml")  # read by Numba, too, where the process was started
    if settings.is_file():
        digest.update(settings.read_bytes())
    return digest.hexdigest()[:16]


def _version(library: str) -> bytes:
    """What tells one version of a library from another: its file of that name, as importing it takes too long."""
    found = importlib.util.find_spec(library)
    file = Path(found.origin).with_name("_version.py") if found and found.origin else None
    if file and file.is_file():
        return file.read_bytes()
    from importlib.metadata import version

    return version(library).encode()


@cache
def _processor() -> bytes | None:
    """What the system says of the first processor; None where it says nothing."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(16384).split(b"\n\n")[0]
    except OSError:
        return None
    names = (b"vendor_id", b"cpu family", b"model", b"model name", b"stepping", b"flags")
    lines = [line for line in first.splitlines() if line.split(b":")[0].strip() in names]
    return b"\n".join(lines) if any(line.startswith(b"flags") for line in lines) else None


@cache
def can_load() -> bool:
    """Whether this system is one whose object code `machine.image` reads, and tells what its processor is.

    Without its sources, as in a zip file, a package cannot tell its code from another's.
    """
    is_known = sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32
    return is_known and _processor() is not None and bool(_sources())


@cache
def _folders() -> tuple[Path, ...]:
    """Where entries of this version and processor may be, the best first: beside Numba's."""
    tag = hashlib.sha256(fingerprint().encode() + (_processor() or b"")).hexdigest()[:16]
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return (Path(chosen).absolute() / _NAME / tag,)
    parents = [_PACKAGE / "kernels" / "__pycache__"]
    with contextlib.suppress(RuntimeError):  # there is no home
        parents.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute())
    return tuple(parent / _NAME / tag for parent in parents)


@cache
def folder() -> Path | None:
    """Folder in which entries of this version and processor are made, None where none can be written."""
    for found in _folders():
        try:
            is_new = not found.is_dir()
            found.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=found):
                pass
            os.utime(found)  # that it is in use
        except OSError:
            continue
        if is_new:
            _forget_old(found)
        return found
    return None


def _forget_old(current: Path) -> None:
    """Remove the folders that were not used for the longest time; a process that uses one makes it again."""
    import shutil

    with contextlib.suppress(OSError):
        others = [path for path in current.parent.iterdir() if path != current and path.is_dir()]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)


def _file(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def read(key: str) -> tuple[dict[str, Any], bytes] | None:
    """Header and content of an entry; None if there is none, or a damaged one."""
    for parent in _folders():  # one that cannot be written may still be read
        try:
            data = (parent / _file(key)).read_bytes()
        except OSError:
            continue
        begin = len(_MAGIC) + 32
        if data[: len(_MAGIC)] == _MAGIC and data[len(_MAGIC) : begin] == hashlib.sha256(data[begin:]).digest():
            size = int.from_bytes(data[begin : begin + 4], "little")
            header = json.loads(data[begin + 4 : begin + 4 + size])
            if header.pop("key") == key:
                return header, data[begin + 4 + size :]
    return None


def write(key: str, header: dict[str, Any], content: bytes = b"") -> None:
    """Keep an entry: whole or not at all, whoever else writes it. Without a folder, or room, warn once."""
    text = json.dumps({**header, "key": key}).encode()
    body = len(text).to_bytes(4, "little") + text + content
    parent = folder()
    if parent is None:
        warn("there is no folder for them that can be written")
        return
    path = parent / _file(key)
    mine = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    try:
        parent.mkdir(exist_ok=True)
        mine.write_bytes(_MAGIC + hashlib.sha256(body).digest() + body)
        mine.replace(path)
    except OSError as reason:
        warn(str(reason))
    finally:
        with contextlib.suppress(OSError):
            mine.unlink(missing_ok=True)


def warn(reason: str) -> None:
    """Say, once in a process, that compiled kernels are not kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"compiled kernels cannot be kept on disk ({reason}); they are compiled anew in every process. "
            "Set NUMBA_CACHE_DIR to a writable folder.",
            RuntimeWarning,
            stacklevel=2,
        )
