"""A model file -> its protocol buffer without the large weights, and these as arrays, so that they are in memory once.

Parsing a whole file holds every weight three times for a moment: in the bytes read, in the parsed message, in the
array. So the file is walked field by field: the bytes of large initialisers go straight to arrays, all the rest is
parsed by protobuf. The walk knows no more of the format than the numbers of three fields.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from fastpool.onnx.errors import ModelError
from fastpool.onnx.limits import check_bytes, check_shape
from fastpool.onnx.tensors import dtype_of, read_array

_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_RAW_DATA = 9  # of TensorProto
_LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}  # bytes by wire type
#: Bytes from which an initialiser is read beside protobuf.
_LARGE = 65536
#: Bytes that protobuf can parse at once.
_LARGEST_MESSAGE = 2**31 - 1


@dataclass
class Source:
    """A model as it was given."""

    proto: ModelProto
    folder: Path | None = None  #: where files of weights may be
    weights: dict[int, np.ndarray] = field(default_factory=dict)  #: by position among the graph's initialisers


def read(source: str | os.PathLike[str] | bytes | ModelProto, limit: int) -> Source:
    """Read a model from a path, from bytes, or take one that is parsed."""
    if isinstance(source, ModelProto):
        return Source(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return Source(_parse(bytes(source), "the model"))
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a path, bytes or an onnx.ModelProto, got {type(source).__name__}")
    path = Path(source)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"not a regular file: {path}")
        with path.open("rb") as file:
            return _read_file(file, path, limit)
    except FileNotFoundError:
        raise ModelError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _parse(data: bytes, what: str) -> ModelProto:
    if len(data) > _LARGEST_MESSAGE:
        raise ModelError(f"{what} has more than 2 GB beside its weights")
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(f"{what} is not an ONNX model: {error}") from None
    if not proto.HasField("graph"):
        raise ModelError(f"{what} is not an ONNX model: it has no graph")
    return proto


def _read_file(file: object, path: Path, limit: int) -> Source:
    size = os.fstat(file.fileno()).st_size  # type: ignore[attr-defined]
    if not size:
        raise ModelError(f"{path} is empty")
    check_bytes(size, limit, str(path))
    folder = path.resolve().parent
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:  # type: ignore[attr-defined]
        try:
            rest, found = _peel(data)
        except (IndexError, ModelError):
            rest, found = data[:], {}  # protobuf says what is wrong
    proto = _parse(rest, str(path))
    weights = {}
    for index, (start, length) in found.items():
        if index >= len(proto.graph.initializer):
            raise ModelError(f"{path} is not an ONNX model: it has several graphs")
        tensor = proto.graph.initializer[index]
        what = f"initialiser {tensor.name!r}"
        dtype = dtype_of(tensor.data_type, what)
        shape = tuple(tensor.dims)
        needed = check_shape(shape, max(1, dtype.itemsize), limit, what)
        file.seek(start)  # type: ignore[attr-defined]
        if dtype.isbuiltin != 1 or tensor.data_type == TensorProto.STRING:
            tensor.raw_data = file.read(length)  # type: ignore[attr-defined]
            continue
        if needed != length:
            raise ModelError(f"{what} of shape {shape} and {dtype} needs {needed} bytes, it has {length}")
        weights[index] = read_array(file, shape, dtype)
    return Source(proto, folder, weights)


def _peel(data: mmap.mmap) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """The message without the raw data of large initialisers, and where these are."""
    found: dict[int, tuple[int, int]] = {}
    parts: list[bytes] = []
    count = 0
    for number, start, body, end in _fields(data, 0, len(data)):
        if number != _GRAPH or body is None:
            parts.append(data[start:end])
            continue
        graph: list[bytes] = []
        for inner, inner_start, inner_body, inner_end in _fields(data, body, end):
            if inner != _INITIALIZER or inner_body is None:
                graph.append(data[inner_start:inner_end])
                continue
            if inner_end - inner_body < _LARGE:
                graph.append(data[inner_start:inner_end])
            else:
                tensor, place = _without_raw_data(data, inner_body, inner_end)
                graph.append(_delimited(_INITIALIZER, tensor))
                if place is not None:
                    found[count] = place
            count += 1
        parts.append(_delimited(_GRAPH, b"".join(graph)))
    return b"".join(parts), found


def _without_raw_data(data: mmap.mmap, start: int, end: int) -> tuple[bytes, tuple[int, int] | None]:
    parts, place = [], None
    for number, field_start, body, field_end in _fields(data, start, end):
        if number == _RAW_DATA and body is not None:
            place = body, field_end - body
        else:
            parts.append(data[field_start:field_end])
    return b"".join(parts), place


def _fields(data: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int | None, int]]:
    """Number, start, start of the body (None of a field without a length) and end of each field of a message."""
    while position < end:
        start = position
        tag, position = _varint(data, position)
        wire = tag & 7
        body = None
        if wire == _LENGTH_DELIMITED:
            length, body = _varint(data, position)
            position = body + length
        elif wire == 0:
            position = _varint(data, position)[1]
        elif wire in _FIXED:
            position += _FIXED[wire]
        else:
            raise ModelError("a group, which ONNX does not use")
        if position > end:
            raise ModelError("a field reaches beyond its message")
        yield tag >> 3, start, body, position


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ModelError("a number of more than 64 bits")


def _delimited(number: int, body: bytes) -> bytes:
    return _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(len(body)) + body


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
