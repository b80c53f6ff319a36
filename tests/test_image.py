"""Object code as an image in memory: what is refused, and that what is put there computes."""

import ctypes
import sys

import numpy as np
import pytest

from fastpool.dtypes import ELEMENT_TYPES
from fastpool.machine import image, store
from fastpool.routines import reduce
from fastpool.routines.routine import spec_for
from fastpool.routines.table import KERNELS

pytestmark = pytest.mark.skipif(not store.can_load(), reason="images are of x86-64 Linux")


@pytest.fixture(scope="module")
def made():
    """Object code of a kernel."""
    from fastpool.kernels._jit import compile_routine

    _, (shape, *_) = KERNELS["reduce_planes"]
    spec = spec_for(ELEMENT_TYPES[np.dtype(np.float32)], *shape)
    return compile_routine(reduce.reduce_planes, spec, on_disk=False)


def test_an_image_of_a_kernel(made):
    found = image.image_of(made.data, made.symbol)
    assert 0 <= found.entry < len(found.content)
    words = [*(place for place, _ in found.own), *(place for place, _ in found.others)]
    assert words, "nothing is to be written into this one"
    assert len(set(words)) == len(words)
    assert max(words) + 8 <= len(found.content)
    assert all(0 <= target < len(found.content) for _, target in found.own)
    first, second = image.place(found), image.place(found)
    assert first != second  # each lies in memory of its own
    assert first % 4096 == found.entry % 4096


def test_memory_is_not_writable_once_it_can_be_executed(made):
    address = image.place(image.image_of(made.data, made.symbol))
    with open("/proc/self/maps") as file:
        for line in file:
            first, last = (int(number, 16) for number in line.split()[0].split("-"))
            if first <= address < last:
                assert line.split()[1] == "r-xp"
                return
    raise AssertionError("not in memory")


def test_code_runs_where_it_is_put():
    # return 7 + *(the word behind the code), by an absolute address: mov rax, [that]; add rax, 7; ret.
    code = b"\x48\xa1" + bytes(8) + b"\x48\x83\xc0\x07\xc3"
    content = code + bytes(-len(code) % 8) + (35).to_bytes(8, "little")
    address = image.place(image.Image(content, 0, [(2, len(content) - 8)], []))
    assert ctypes.CFUNCTYPE(ctypes.c_long)(address)() == 42


def test_functions_elsewhere_are_found():
    # jump to labs: mov rax, address; jmp rax.
    address = image.place(image.Image(b"\x48\xb8" + bytes(8) + b"\xff\xe0", 0, [], [(2, "labs")]))
    assert ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(address)(-5) == 5
    with pytest.raises(image.RefusedError, match="no_such_function_anywhere"):
        image.place(image.Image(bytes(16), 0, [], [(0, "no_such_function_anywhere")]))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "no relocatable object"),
        (lambda data: b"MZ" + data[2:], "no relocatable object"),
        (
            lambda data: data[:18] + (183).to_bytes(2, "little") + data[20:],
            "no relocatable object",
        ),  # of another machine
        (lambda data: data[:16] + (3).to_bytes(2, "little") + data[18:], "no relocatable object"),  # a shared library
    ],
)
def test_other_files_are_refused(made, damage, reason):
    with pytest.raises(image.RefusedError, match=reason):
        image.image_of(damage(made.data), made.symbol)


def test_a_missing_function_is_refused(made):
    with pytest.raises(image.RefusedError, match="0 functions something"):
        image.image_of(made.data, "something")


def test_other_relocations_are_refused(made):
    # Every relocation of the code becomes one relative to its place, which would reach 2 GB only.
    data, changed = bytearray(made.data), 0
    for section in range(int.from_bytes(data[60:62], "little")):
        header = int.from_bytes(data[40:48], "little") + 64 * section
        if int.from_bytes(data[header + 4 : header + 8], "little") == 4:
            first, size = (int.from_bytes(data[header + at : header + at + 8], "little") for at in (24, 32))
            for entry in range(first, first + size, 24):
                if data[entry + 8] == 1:
                    data[entry + 8] = 2
                    changed += 1
    assert changed
    with pytest.raises(image.RefusedError, match="relocation"):
        image.image_of(bytes(data), made.symbol)


def test_everything_that_was_compiled_here_is_an_image():
    # What an image cannot hold would be compiled anew by every process.
    from fastpool.routines.routine import Routine, entries

    for name, module in list(sys.modules.items()):
        if name.startswith("fastpool.routines"):
            for routine in vars(module).values():
                if isinstance(routine, Routine):
                    assert [spec for spec, code in routine.compiled.items() if code.keeps is not None] == []
    assert [name for name, code in entries.items() if code.keeps is not None] == []


def test_what_python_calls_checks_its_arguments():
    from fastpool import runtime

    engine = runtime.engine()
    for arguments in ((), (0,), (0,) * 20):
        with pytest.raises(TypeError):
            engine.serial(*arguments)
    for wrong in (None, "0", 1.5):
        with pytest.raises(TypeError):
            engine.serial(0, 0, 0, 0, wrong, *(0,) * 6)
    with pytest.raises(OverflowError):
        engine.serial(0, 0, 0, 2**70, *(0,) * 7)
    assert engine.serial(0, 0, 0, 0, *(0,) * 7) == 0  # no steps


def test_scratch_that_is_not_to_be_had():
    from fastpool import runtime

    with pytest.raises(MemoryError):
        runtime.engine().serial(0, 0, 0, 2**62, *(0,) * 7)
    with pytest.raises(MemoryError):
        runtime.engine().serial_chain(0, 0, 0, 2**62)
    with pytest.raises(MemoryError):
        runtime.launch(1e12, (0, 0, 0), 2**61, 2**60, *(0,) * 7)
