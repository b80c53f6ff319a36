"""Object code of x86-64 Linux (ELF) as an image that can be put anywhere in memory, and put there.

What Numba makes for processes is position dependent in the simplest way: every address in it is a word of 64 bits, of a
place in the code itself or of a function elsewhere (of the C library, or of Python's C interface). An image is the
sections that are loaded, one after the other, and the list of those words. Anything else in an object is refused.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from dataclasses import dataclass
from functools import cache
from typing import Any

_PROGRAM, _SYMBOLS, _RELOCATIONS, _SHORT_RELOCATIONS, _UNWINDING = 1, 2, 4, 9, 0x70000001  # types of sections
_WRITTEN, _LOADED = 1, 2  # flags of sections
_OUTSIDE, _SPECIAL = 0, 0xFF00  # sections of symbols that are in no section
_WORD = 1  # type of a relocation: the address of 64 bits of a symbol, plus a number


class RefusedError(Exception):
    """The object has something that an image cannot have."""


@dataclass(frozen=True)
class Image:
    """Bytes as they lie in memory from a page on, and what has to be written into them."""

    content: bytes
    entry: int  #: where the function begins
    own: list[tuple[int, int]]  #: where the image's own address is to be written, and what is added to it
    others: list[tuple[int, str]]  #: where the address of a function elsewhere is to be written


def image_of(data: bytes, function: str) -> Image:
    """Image of the object `data`, entered at `function`."""
    if data[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", data, 16) != (1, 62):
        raise RefusedError("no relocatable object of x86-64")
    (table,), (size, count) = struct.unpack_from("<Q", data, 40), struct.unpack_from("<HH", data, 58)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", data, table + i * size)) for i in range(count)]
    symbols = next(section for section in sections if section.type == _SYMBOLS)
    names = sections[symbols.link].offset

    content, places = bytearray(), {}
    # What is for debuggers is not loaded; what is for unwinding is not needed, as nothing is thrown.
    for number, section in enumerate(sections):
        if section.flags & _LOADED and section.size and section.type != _UNWINDING:
            if section.type != _PROGRAM or section.flags & _WRITTEN:
                raise RefusedError(f"a section of type {section.type} and flags {section.flags:#x}")
            content += bytes(-len(content) % max(section.align, 1))
            places[number] = len(content)
            content += data[section.offset : section.offset + section.size]

    def symbol(index: int) -> tuple[str, int, int]:
        name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, symbols.offset + 24 * index)
        end = data.index(b"\0", names + name)
        return data[names + name : end].decode(), section, value

    entries = [
        places[section] + value
        for name, section, value in map(symbol, range(symbols.size // 24))
        if name == function and section in places
    ]
    if len(entries) != 1:
        raise RefusedError(f"{len(entries)} functions {function}")
    own, others = [], []
    for section in sections:
        if section.type not in (_RELOCATIONS, _SHORT_RELOCATIONS) or section.info not in places:
            continue
        if section.type == _SHORT_RELOCATIONS:
            raise RefusedError("relocations without addends")
        for i in range(section.size // 24):
            offset, about, addend = struct.unpack_from("<QQq", data, section.offset + 24 * i)
            name, home, value = symbol(about >> 32)
            place = places[section.info] + offset
            if about & 0xFFFFFFFF != _WORD or home >= _SPECIAL:
                raise RefusedError(f"relocation {about:#x} of {name}")
            if home == _OUTSIDE:
                if addend:
                    raise RefusedError(f"a place behind the beginning of {name}")
                others.append((place, name))
            elif home in places:
                own.append((place, places[home] + value + addend))
            else:
                raise RefusedError(f"a reference to section {home}")
    return Image(bytes(content), entries[0], own, others)


@dataclass(frozen=True)
class _Section:
    """Header of a section, in the order of the file."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


def place(image: Image) -> int:
    """Put an image into memory, for good: address of its function."""
    outside = {name: _address_of(name) for _, name in image.others}
    base = _pages(len(image.content))
    content = bytearray(image.content)
    for where, addend in image.own:
        struct.pack_into("<Q", content, where, base + addend)
    for where, name in image.others:
        struct.pack_into("<Q", content, where, outside[name])
    ctypes.memmove(base, bytes(content), len(content))
    # Never both writable and executable.
    if _system().mprotect(base, len(content), mmap.PROT_READ | mmap.PROT_EXEC):
        reason = ctypes.get_errno()
        _system().munmap(base, len(content))
        raise OSError(reason, "memory cannot be made executable")
    return base + image.entry


def _pages(size: int) -> int:
    """Pages of memory, which are never given back: a thread may be in them until the process ends."""
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    found = _system().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, kind, -1, 0)
    if found in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "no memory for machine code")
    return int(found)


@cache
def _system() -> Any:
    """Functions of the C library, of the process itself and of Python."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def _address_of(name: str) -> int:
    """Address of a function of the C library or of Python."""
    for library in (_system(), ctypes.pythonapi):
        try:
            return int(ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0)
        except AttributeError:
            continue
    raise RefusedError(f"no function {name} in this process")
