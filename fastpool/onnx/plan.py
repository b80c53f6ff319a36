"""A plan: everything that a run of a model does on inputs of given shapes, decided once.

What is known of the shapes is computed first, node by node; then nodes are fused, values placed in memory, and each
node's kernel bound to its arrays. A run is a walk over a short program: plans that follow one another go in one launch.
Inputs and outputs belong to the caller: what touches them is bound, or has their addresses put in, in each run.

Where a shape depends on numbers rather than shapes, what comes after it cannot be planned: this *tail* of the graph is
computed node by node.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fastpool.arrays import aligned_empty
from fastpool.explain import never_read
from fastpool.onnx.execute import bind, compute
from fastpool.onnx.fuse import fuse
from fastpool.onnx.graph import Graph, Node
from fastpool.onnx.limits import check_bytes
from fastpool.onnx.locks import Locked
from fastpool.onnx.memory import ARENA, GIVEN, Step, lay_out
from fastpool.onnx.ops.fallback import ALGORITHM
from fastpool.onnx.ops.operator import OPERATORS, Kernel, Task, Value
from fastpool.onnx.ops.prepared import Packed
from fastpool.onnx.program import Program

#: Bytes of a value that is computed while the plan is made.
_LARGEST_KNOWN = 1 << 20
_BYTES = np.dtype(np.uint8)


class Plan(Locked):
    """What a graph does for inputs of these shapes."""

    def __init__(self, graph: Graph, inputs: Mapping[str, Value | None], may_fall_back: bool = True):
        self._graph, self._may_fall_back = graph, may_fall_back
        super().__init__()
        values, kernels = self._infer(graph.nodes, inputs, {})
        nodes = fuse(graph.nodes, values, graph.outputs)
        if len(nodes) < len(graph.nodes) or any(a is not b for a, b in zip(nodes, graph.nodes, strict=True)):
            values, kernels = self._infer(nodes, inputs, {id(node): kernels.get(id(node)) for node in graph.nodes})
        self.values = values
        planned, self._tail = self._divide(nodes, values)
        needed = {name for node in self._tail for name in node.uses} | set(graph.outputs)
        #: Values that a run hands on, to the caller or to the tail.
        self._results = [name for name in dict.fromkeys(self._outputs_of(planned)) if name in needed]
        self.steps = self._steps(planned, kernels, values)
        self._bind()

    def _known(self) -> dict[str, Value]:
        return {name: Value.of(array) for name, array in self._graph.constants.items()}

    def _infer(
        self, nodes: Sequence[Node], inputs: Mapping[str, Value | None], before: Mapping[int, Kernel | None]
    ) -> tuple[dict[str, Value | None], dict[int, Kernel | None]]:
        """Values by name, None where the shape is open, and kernels by node."""
        graph = self._graph
        values: dict[str, Value | None] = {**self._known(), **inputs}
        kernels: dict[int, Kernel | None] = {}
        for node in nodes:
            given = [values[name] if name else None for name in node.inputs]
            is_open = any(name and values[name] is None for name in (*node.inputs, *node.captured))
            kernel = None if is_open else before.get(id(node))
            if kernel is None and not is_open:
                kernel = bind(node, given, graph.limit, self._may_fall_back)
            kernels[id(node)] = kernel
            if kernel is None:
                values.update(dict.fromkeys(filter(None, node.outputs)))
                continue
            outputs = kernel.outputs
            if self._is_known(node, given, outputs):
                arrays = [None if value is None else value.data for value in given]
                found = compute(node, arrays, graph.limit, self._may_fall_back)
                outputs = [
                    value if array is None else Value.of(array) for value, array in zip(outputs, found, strict=False)
                ]
            values.update({name: value for name, value in zip(node.outputs, outputs, strict=False) if name})
            missing = [name for name in node.outputs[len(outputs) :] if name]
            values.update(dict.fromkeys(missing))
        return values, kernels

    def _is_known(self, node: Node, given: Sequence[Value | None], outputs: Sequence[Value]) -> bool:
        """Whether a node's results can be computed now, and are small."""
        if all(value.data is not None for value in outputs) or node.op.startswith(
            ("Random", "Bernoulli", "Multinomial")
        ):
            return False
        if any(value is not None and value.data is None for value in given) or node.captured:
            return False
        return sum(value.nbytes for value in outputs) <= _LARGEST_KNOWN

    def _divide(self, nodes: Sequence[Node], values: Mapping[str, Value | None]) -> tuple[list[Node], list[Node]]:
        """Nodes that can be planned and are needed, and the tail."""
        planned, tail = [], []
        for node in nodes:
            known = [values[name] for name in node.outputs if name]
            if any(value is None for value in known) or not known:
                tail.append(node)
            else:
                planned.append(node)
        needed = set(self._graph.outputs) | {name for node in tail for name in node.uses}
        kept = []
        for node in reversed(planned):
            made = [name for name in node.outputs if name in needed]
            if any(_shape_only(values[name]) for name in made):
                needed.update(node.uses)
                kept.append(node)
        return kept[::-1], tail

    @staticmethod
    def _outputs_of(nodes: Sequence[Node]) -> Iterator[str]:
        for node in nodes:
            yield from filter(None, node.outputs)

    def _steps(
        self, nodes: Sequence[Node], kernels: Mapping[int, Kernel | None], values: dict[str, Value | None]
    ) -> list[Step]:
        steps = []
        for index, node in enumerate(nodes):
            kernel = kernels[id(node)]
            assert kernel is not None
            scratch = [f"#{index}.{number}" for number in range(len(kernel.scratch))]
            values.update(zip(scratch, kernel.scratch, strict=True))
            named = (*node.outputs, *("",) * (len(kernel.outputs) - len(node.outputs)), *scratch)
            steps.append(Step(kernel, node.inputs, named, node.label, node.op, node.merged))
        return steps

    def _bind(self) -> None:
        values = {name: value for name, value in self.values.items() if value is not None}
        used = dict.fromkeys(name for step in self.steps for name in step.inputs if name)
        made = {name for step in self.steps for name in step.outputs}
        given = [name for name in used if name not in made]
        layout = lay_out(self.steps, values, given, self._results)
        check_bytes(layout.arena_bytes, self._graph.limit, "the buffers of the plan")
        self.arena_bytes = layout.arena_bytes
        self._arena = aligned_empty(layout.arena_bytes, _BYTES)
        self._groups = layout.groups
        self._fixed: dict[str, np.ndarray] = {}
        for name, group in layout.groups.items():
            data = values[name].data
            if group.kind == ARENA:
                self._fixed[name] = _within(self._arena, group.place + group.members[name], values[name])
            elif data is not None and name in group.members and len(group.members) >= 1 and name in given:
                self._fixed[name] = _ready(data)
        for name, group in layout.groups.items():
            root = next(iter(group.members))
            if group.kind == GIVEN and name not in self._fixed and root in self._fixed:
                self._fixed[name] = self._fixed[root].reshape(values[name].shape)
        own = {name: never_read(value.shape, value.dtype) for name, value in values.items() if name not in self._fixed}
        program = Program(own)
        self.bound: list[Step] = []  #: those that do something
        self._calls: list[Task] = []  #: theirs, None for those that are bound in each run
        for step in self.steps:
            late = sum(name in own for name in (*step.inputs, *step.outputs))
            task = None
            if not late or step.kernel.makes_run:
                task = self._task(step, ChainMap(own, self._fixed))
                if task is None:
                    continue
            program.add(task, partial(self._task, step) if late else None, late)
            self._calls.append(None if late else task)
            self.bound.append(step)
        self._program = program.parts()
        self._roots = {name: group for name, group in layout.groups.items() if group.kind not in (ARENA,)}

    def _task(self, step: Step, arrays: Mapping[str, np.ndarray]) -> Task:
        return step.kernel.make(
            [arrays[name] if name else None for name in step.inputs],
            [arrays[name] if name else None for name in step.outputs],
        )

    def run(
        self, inputs: Mapping[str, Any], watch: Callable[[int, Callable[[], object]], None] | None = None
    ) -> dict[str, Any]:
        """Compute the outputs; `watch` is handed each call with its position rather than calling it."""
        with self._lock, np.errstate(all="ignore"):
            late, results = self._arrays(inputs)
            arrays = ChainMap(late, self._fixed)
            if watch is None:
                for part in self._program:
                    part(arrays)
            else:
                for position, (step, call) in enumerate(zip(self.bound, self._calls, strict=True)):
                    watch(position, call or self._task(step, arrays) or _nothing)
            if self._tail:
                self._finish(inputs, results)
        constants = self._graph.constants
        found = {}
        for name in self._graph.outputs:
            if name in results:
                found[name] = results[name]
                continue
            value = self.values.get(name)
            array = inputs[name] if name in inputs else constants.get(name)
            found[name] = np.array(array if value is None or value.data is None else value.data)
        return found

    def _arrays(self, inputs: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays by name that this run has of its own, and those that are results."""
        arrays: dict[str, np.ndarray] = {}
        roots: dict[int, np.ndarray] = {}
        results: dict[str, Any] = {}
        for name, group in self._roots.items():
            if name in self._fixed:
                continue
            key = id(group)
            if group.kind == GIVEN:
                root = next(iter(group.members))
                if key not in roots:
                    roots[key] = _ready(inputs[root])
                arrays[name] = roots[key].reshape(self._value(name).shape)
                continue
            value = self._value(name)
            if key not in roots:
                roots[key] = np.empty(group.nbytes, _BYTES)
            arrays[name] = _within(roots[key], group.members[name], value)
            if name in self._results:
                results[name] = arrays[name]
        return arrays, results

    def _value(self, name: str) -> Value:
        value = self.values[name]
        assert value is not None
        return value

    def _finish(self, inputs: Mapping[str, Any], results: dict[str, Any]) -> None:
        """Compute the tail node by node."""
        known = {**self._graph.constants, **inputs, **results}
        for name, value in self.values.items():
            if value is not None and value.data is not None:
                known.setdefault(name, value.data)
        for node in self._tail:
            given = [known[name] if name else None for name in (*node.inputs, *node.captured)]
            found = compute(node, given, self._graph.limit, self._may_fall_back)
            for name, array in zip(node.outputs, found, strict=False):
                if name:
                    known[name] = results[name] = array
        # What is handed out is new: not a view of an input, nor a constant.
        kept = {id(array) for array in (*self._graph.constants.values(), *inputs.values())}
        for name in self._graph.outputs:
            array = results.get(name)
            if isinstance(array, np.ndarray) and (not array.flags.owndata or id(array) in kept):
                results[name] = np.array(array)

    @property
    def tail(self) -> list[Node]:
        """Nodes that are computed one by one."""
        return self._tail

    def algorithm_in_tail(self, node: Node) -> str:
        """How a node of the tail is computed, as far as its name tells."""
        return "in each run" if (node.domain, node.op) in OPERATORS else ALGORITHM


def _shape_only(value: Value | None) -> bool:
    """Whether a value has to be computed in a run."""
    return value is not None and value.data is None


def _nothing() -> None:
    """A call for what needs none."""


def _within(memory: np.ndarray, offset: int, value: Value) -> np.ndarray:
    return np.ndarray(value.shape, value.dtype, memory, offset)


def _ready(array: np.ndarray) -> np.ndarray:
    """The array, or a copy, as kernels take it: contiguous and aligned."""
    if (array.flags.c_contiguous and array.flags.aligned) or isinstance(array, Packed):
        return array
    return np.array(array, order="C")
