"""Tensors of a model as arrays: their stored sizes are compared with their shapes before anything is allocated."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from fastpool.onnx.errors import ModelError
from fastpool.onnx.limits import check_shape

#: Bytes of an array from which it has pages of its own.
_OWN_PAGES = 1 << 18
#: Element types that are stored byte by byte as NumPy has them.
_PLAIN = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.BOOL: "bool",
}


def dtype_of(element: int, what: str) -> np.dtype[Any]:
    """NumPy's dtype of one of ONNX's element types."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{what} has the unknown element type {element}") from None


def element_of(dtype: np.dtype[Any]) -> int:
    """ONNX's element type of a NumPy dtype."""
    if dtype.kind in "OUS":
        return int(TensorProto.STRING)
    try:
        return int(onnx.helper.np_dtype_to_tensor_dtype(dtype.newbyteorder("=")))
    except (KeyError, ValueError):
        raise TypeError(f"ONNX has no element type for {dtype}") from None


def array_of(tensor: TensorProto, folder: Path | None, limit: int, what: str = "") -> np.ndarray:
    """Give the array that a tensor holds, or that its file does, which must lie in `folder`."""
    what = what or f"tensor {tensor.name!r}"
    shape = tuple(tensor.dims)
    dtype = dtype_of(tensor.data_type, what)
    size = check_shape(shape, max(1, dtype.itemsize), limit, what)
    if tensor.data_location == TensorProto.EXTERNAL:
        return _external(tensor, folder, shape, dtype, size, what)
    if tensor.HasField("raw_data") and tensor.data_type in _PLAIN:
        raw = tensor.raw_data
        if len(raw) != size:
            raise ModelError(f"{what} of shape {shape} and {dtype} needs {size} bytes, it has {len(raw)}")
        array = np.frombuffer(raw, dtype)
        return (array if np.little_endian else array.byteswap()).reshape(shape)
    try:
        return np.asarray(numpy_helper.to_array(tensor)).reshape(shape)
    except Exception as error:
        raise ModelError(f"{what} of shape {shape} cannot be read: {error}") from None


def external_entries(tensor: TensorProto) -> dict[str, str]:
    """Location, offset and length of a tensor that is kept in a file of its own."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _external(
    tensor: TensorProto, folder: Path | None, shape: tuple[int, ...], dtype: np.dtype[Any], size: int, what: str
) -> np.ndarray:
    if folder is None:
        raise ModelError(f"{what} is in a file of its own: load the model by its path")
    if tensor.data_type not in _PLAIN:
        raise ModelError(f"{what} of {dtype} in a file of its own is not supported")
    entries = external_entries(tensor)
    path = within(folder, entries.get("location", ""), what)
    offset, length = (
        _number(entries.get(key, default), key, what) for key, default in (("offset", 0), ("length", size))
    )
    if length != size:
        raise ModelError(f"{what} of shape {shape} and {dtype} needs {size} bytes, its length is {length}")
    try:
        with path.open("rb") as file:
            if offset + length > os.fstat(file.fileno()).st_size:
                raise ModelError(f"{what} reaches beyond the end of {path.name}")
            file.seek(offset)
            return read_array(file, shape, dtype)
    except OSError as error:
        raise ModelError(f"{what}: cannot read {path}: {error.strerror or error}") from None


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Uninitialised array. A large one has pages of its own, which the system gets back when it is dropped.

    What the C library has in its heap it keeps, and fills only with what fits between what is still in use.
    """
    count = prod(shape)
    if count * dtype.itemsize < _OWN_PAGES:
        return np.empty(shape, dtype)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    pages = mmap.mmap(-1, count * dtype.itemsize, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)


def read_array(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Read an array from where a file stands; its size was checked."""
    array = empty((prod(shape),), dtype)
    if array.size and file.readinto(array.view(np.uint8).data) != array.nbytes:
        raise ModelError("the file became shorter while it was read")
    if np.little_endian:
        return array.reshape(shape)
    return array.byteswap().reshape(shape)


def _number(text: Any, key: str, what: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise ModelError(f"{what} has a bad {key} in its file: {text!r}")
    return value


def within(folder: Path, location: str, what: str) -> Path:
    """Path of a regular file below `folder`, where symbolic links may not lead out of it either."""
    given = Path(location)
    if not location or given.is_absolute() or given.drive or ".." in given.parts or "\0" in location:
        raise ModelError(f"{what} names the file {location!r}, which is not below the model's folder")
    try:
        home = folder.resolve(strict=True)
        path = (home / given).resolve(strict=True)
        mode = path.stat().st_mode
    except (OSError, RuntimeError):
        raise ModelError(f"{what} names the file {location!r}, which cannot be found") from None
    if not path.is_relative_to(home):
        raise ModelError(f"{what} names the file {location!r}, which leads out of the model's folder")
    if not stat.S_ISREG(mode):
        raise ModelError(f"{what} names {location!r}, which is not a regular file")
    return path
