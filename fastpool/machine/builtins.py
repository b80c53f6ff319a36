"""Machine code that Python calls as it calls its own functions: 0.1 us with a dozen numbers, where ctypes takes 2."""

from __future__ import annotations

import ctypes
from typing import Any

_FASTCALL = 0x80  # (self, array of arguments, their number)


class _Method(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


#: What Python's functions point to, for good: one may be called as long as there are threads.
_methods: list[_Method] = []


def builtin(name: str, address: int) -> Any:
    """Python function whose C function, ``(self, arguments, count)``, is at this address."""
    method = _Method(name.encode(), address, _FASTCALL, None)
    _methods.append(method)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return make(ctypes.addressof(method), None, None)
