"""Machine code on disk: an entry for each function, found by everything that it depends on.

Numba has a cache of its own, but only Numba can read it, and loading Numba and LLVM takes 130 MB and most of a second,
many times what the kernels of a network need. An entry here is what `machine.image` puts into memory. It is checked
before it is used: one that is damaged, or that another key has, is none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

_MAGIC = b"fastpool machine code 1\n"
#: Environment variables of Numba that change nothing about the code.
_NEUTRAL = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER"}
#: Folders of other versions of the package, Numba or the processor that are kept beside the one in use.
_KEPT = 7
_PACKAGE = Path(__file__).parent.parent
_warned = False


@cache
def fingerprint() -> str:
    """Digest of all that machine code depends on besides the processor: sources, compilers, and their settings."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {object.__basicsize__}".encode())
    for folder in ("kernels", "machine", "routines"):
        for source in sorted((_PACKAGE / folder).glob("*.py")):
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


def can_load() -> bool:
    """Whether this system is one whose object code `machine.image` reads, and tells what its processor is."""
    is_known = sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 2**32
    return is_known and _processor() is not None


@cache
def folder() -> Path | None:
    """Folder for the entries of this version and processor, None where none can be written."""
    tag = hashlib.sha256(fingerprint().encode() + (_processor() or b"")).hexdigest()[:16]
    for parent in _parents():
        found = parent / f"fastpool-{tag}"
        try:
            is_new = not found.is_dir()
            found.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=found):
                pass
        except OSError:
            continue
        if is_new:
            _forget_old(parent, found)
        return found
    return None


def _parents() -> list[Path]:
    """Where entries may be, the best first: where Numba has its own, too."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return [Path(chosen)]
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # there is no home
        return [_PACKAGE / "kernels" / "__pycache__"]
    return [_PACKAGE / "kernels" / "__pycache__", user / "fastpool"]


def _forget_old(parent: Path, current: Path) -> None:
    """Remove the folders that were made longest ago; a process that uses one makes it again."""
    import shutil

    try:
        others = [path for path in parent.glob("fastpool-*") if path != current and path.is_dir()]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return
    for path in others[_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def _path(key: str) -> Path | None:
    parent = folder()
    return parent / hashlib.sha256(key.encode()).hexdigest()[:32] if parent else None


def read(key: str) -> tuple[dict[str, Any], bytes] | None:
    """Header and content of an entry; None if there is none, or a damaged one."""
    path = _path(key)
    try:
        data = path.read_bytes() if path else b""
    except OSError:
        return None
    begin = len(_MAGIC) + 32
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : begin] != hashlib.sha256(data[begin:]).digest():
        return None
    size = int.from_bytes(data[begin : begin + 4], "little")
    header = json.loads(data[begin + 4 : begin + 4 + size])
    return (header, data[begin + 4 + size :]) if header.pop("key") == key else None


def write(key: str, header: dict[str, Any], content: bytes = b"") -> None:
    """Keep an entry: whole or not at all, whoever else writes it. Without a folder, or room, warn once."""
    text = json.dumps({**header, "key": key}).encode()
    body = len(text).to_bytes(4, "little") + text + content
    path = _path(key)
    if path is None:
        warn("there is no folder for them that can be written")
        return
    try:
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as reason:
        warn(str(reason))


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
