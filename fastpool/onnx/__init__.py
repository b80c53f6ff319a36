"""Whole networks: ONNX models on NumPy arrays, in fastpool's kernels.

`load` reads a model, `Model.run` runs it; `fastpool.onnx.backend` is ONNX's Backend interface, `reference_ops` gives
classes for onnx.reference.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("onnx") is None:
    raise ImportError('fastpool.onnx needs the package onnx: pip install "fastpool[onnx]"')

from fastpool.onnx.errors import ModelError
from fastpool.onnx.model import Model, load
from fastpool.onnx.reference import reference_ops

__all__ = ["Model", "ModelError", "load", "reference_ops"]
