"""A model: loaded once, planned once for each set of input shapes, run many times."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastpool import validation
from fastpool.onnx.fold import fold
from fastpool.onnx.graph import Graph, Input, graph_of
from fastpool.onnx.limits import DEFAULT_BYTES
from fastpool.onnx.locks import Locked
from fastpool.onnx.ops.operator import Value
from fastpool.onnx.plan import Plan
from fastpool.onnx.reading import read

if TYPE_CHECKING:
    from onnx import ModelProto

    from fastpool.onnx.profile import Profile
    from fastpool.onnx.summary import Summary

#: Plans that are kept, each with its buffers.
_MOST_PLANS = 8


class Model(Locked):
    """A network that `load` read from ONNX, ready to run on NumPy arrays.

    Attributes
    ----------
    input_names, output_names : tuple of str
        What `run` takes and gives.
    """

    def __init__(self, graph: Graph, may_fall_back: bool):
        self._graph, self._may_fall_back = graph, may_fall_back
        self._plans: dict[Any, Plan] = {}
        super().__init__()
        self.input_names = tuple(graph.inputs)
        self.output_names = graph.outputs

    @property
    def inputs(self) -> dict[str, Input]:
        """Inputs by name, with dtype and shape as the model declares them."""
        return dict(self._graph.inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs.

        Parameters
        ----------
        inputs : dict of str to ndarray
            An array for each of `input_names`, of the dtype and shape that the model declares; a symbolic size may be
            any, the same wherever it stands.

        Returns
        -------
        dict of str to ndarray
            New arrays, by `output_names`.

        Raises
        ------
        ValueError, TypeError
            If an input is missing, unknown, or has the wrong shape or dtype.
        ModelError
            If the model cannot be run on these shapes.
        """
        return self._plan(inputs).run(inputs)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Compute the one output of a model with one input."""
        if len(self.input_names) != 1 or len(self.output_names) != 1:
            raise TypeError(
                f"a call takes a model with one input and one output, this one has {len(self.input_names)} and "
                f"{len(self.output_names)}: use run"
            )
        return self.run({self.input_names[0]: x})[self.output_names[0]]

    def summary(self, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Summary:
        """Tell what a run does: nodes, shapes, parameters, multiply-adds and algorithms.

        Parameters
        ----------
        shapes : dict of str to tuple of int, optional
            Of the inputs whose shapes the model leaves open; by default a symbolic first size is 1.

        Returns
        -------
        Summary
            To be printed as a table; its fields are for programs.

        Raises
        ------
        ValueError
            If the shape of an input is neither declared nor given.
        """
        from fastpool.onnx.summary import summarise

        return summarise(self._plan_for(self._shapes(shapes)))

    def profile(self, inputs: Mapping[str, np.ndarray] | None = None, repeat: int = 10) -> Profile:
        """Measure each step of a run.

        Parameters
        ----------
        inputs : dict of str to ndarray, optional
            As for `run`; by default random numbers of the declared shapes.
        repeat : int
            Runs that are measured, after two that are not. A step's time is the median.

        Returns
        -------
        Profile
            To be printed as a table, or drawn by its method `picture`.
        """
        from fastpool.onnx.profile import measure

        if inputs is None:
            inputs = self.random_inputs()
        return measure(self._plan(inputs), inputs, validation.integer(repeat, "repeat", 1))

    def random_inputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Give random inputs of the declared shapes, a symbolic first size being 1."""
        generator = np.random.default_rng(seed)
        found = {}
        for name, value in self._shapes(None).items():
            if value is None or value.dtype.kind not in "iufb":
                raise ValueError(f"input {name!r} is no array of numbers: give one")
            if value.dtype.kind == "f":
                found[name] = generator.standard_normal(value.shape).astype(value.dtype)
            else:
                found[name] = generator.integers(0, 2, value.shape).astype(value.dtype)
        return found

    def _shapes(self, given: Mapping[str, tuple[int, ...]] | None) -> dict[str, Value | None]:
        given = {} if given is None else given
        for name in given:
            if name not in self._graph.inputs:
                raise ValueError(f"the model has no input {name!r}, it has {self.input_names}")
        found: dict[str, Value | None] = {}
        for name, item in self._graph.inputs.items():
            shape = given.get(name)
            if shape is None and item.shape is not None:
                first, *others = item.shape or (1,)
                sizes = (1 if not isinstance(first, int) else first, *others) if item.shape else ()
                shape = sizes if all(isinstance(size, int) for size in sizes) else None  # type: ignore[assignment]
            if shape is None or item.dtype is None:
                raise ValueError(f"the shape of input {name!r} is {_declared(item)}: give one")
            found[name] = Value(tuple(shape), item.dtype)
        return found

    def _plan(self, inputs: Mapping[str, np.ndarray]) -> Plan:
        if not isinstance(inputs, Mapping):
            raise TypeError(f"inputs must be a dict of arrays by name, got {type(inputs).__name__}")
        try:
            given = [inputs[name] for name in self.input_names]
            key = tuple([(array.shape, array.dtype) for array in given])
            is_plain = len(inputs) == len(key) and all(type(array) is np.ndarray for array in given)
            plan = self._plans.get(key) if is_plain else None
        except (KeyError, AttributeError, TypeError):
            plan = None
        if plan is None:
            self._check(inputs)
            plan = self._plan_for({name: _value(inputs[name]) for name in self.input_names})
        return plan

    def _plan_for(self, values: dict[str, Value | None]) -> Plan:
        key: Any = None
        if all(value is not None for value in values.values()):
            key = tuple((value.shape, value.dtype) for value in values.values() if value is not None)
        with self._lock:
            plan = self._plans.get(key)
            if plan is None:
                plan = Plan(self._graph, values, self._may_fall_back)
                if key is not None:
                    if len(self._plans) >= _MOST_PLANS:
                        self._plans.pop(next(iter(self._plans)))
                    self._plans[key] = plan
        return plan

    def _check(self, inputs: Mapping[str, Any]) -> None:
        for name in inputs:
            if name not in self._graph.inputs:
                raise ValueError(f"the model has no input {name!r}, it has {self.input_names}")
        symbols: dict[str, int] = {}
        for name, item in self._graph.inputs.items():
            if name not in inputs:
                raise ValueError(f"input {name!r} is missing, the model takes {self.input_names}")
            _check_input(inputs[name], item, symbols)


def _value(array: Any) -> Value | None:
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OUS":
        return None
    return Value(array.shape, array.dtype)


def _declared(item: Input) -> str:
    if item.shape is None:
        return "not declared"
    return "(" + ", ".join("?" if size is None else str(size) for size in item.shape) + ")"


def _check_input(array: Any, item: Input, symbols: dict[str, int]) -> None:
    if item.dtype is None:
        return
    if not isinstance(array, np.ndarray) or validation.is_masked(array):
        raise TypeError(f"input {item.name!r} must be a plain NumPy array, got {type(array).__name__}")
    if array.dtype != item.dtype and not (item.dtype.kind in "OUS" and array.dtype.kind in "OUS"):
        raise TypeError(f"input {item.name!r} must have dtype {item.dtype}, got {array.dtype}")
    if not array.dtype.isnative:
        raise TypeError(f"input {item.name!r} must be in the byte order of the processor, got {array.dtype.str}")
    if item.shape is None:
        return
    fits = array.ndim == len(item.shape)
    for size, wanted in zip(array.shape, item.shape, strict=False):
        if isinstance(wanted, str):
            wanted = symbols.setdefault(wanted, size)
        fits = fits and (wanted is None or wanted == size)
    if not fits:
        known = "" if not symbols else f", where {', '.join(f'{name} = {size}' for name, size in symbols.items())}"
        raise ValueError(f"input {item.name!r} must have shape {_declared(item)}{known}, got {array.shape}")


def load(
    source: str | os.PathLike[str] | bytes | ModelProto, *, max_bytes: int = DEFAULT_BYTES, fallback: bool = True
) -> Model:
    """Load a model.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        The model. Weights in files of their own are read only from the folder of the model's file, or below it.
    max_bytes : int
        Bytes that one value, or all buffers of a plan together, may take. They are counted before anything is
        allocated, so that a model of unknown origin cannot exhaust the memory.
    fallback : bool
        Whether operators that fastpool does not have run in onnx.reference, node by node. Without, they are an error;
        for models of unknown origin, that is the safer choice: a loop in such a model may have no end.

    Returns
    -------
    Model
        Ready to run.

    Raises
    ------
    ModelError
        A ValueError: if the model cannot be read, is malformed or too large.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import parser
    >>> import fastpool.onnx
    >>> model = fastpool.onnx.load(
    ...     parser.parse_model(
    ...         '''<ir_version: 10, opset_import: ["": 21]>
    ...         pooled (float[N, 1, 4, 4] x) => (float[N, 1, 2, 2] y) {
    ...             y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
    ...         }'''
    ...     )
    ... )
    >>> model(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]], dtype=float32)
    """
    limit = validation.integer(max_bytes, "max_bytes", 1, 2**62)
    may_fall_back = validation.flag(fallback, "fallback")
    graph = graph_of(read(source, limit), limit)
    fold(graph, may_fall_back)
    return Model(graph, may_fall_back)
