"""What a run of a model does, as a table: nodes, shapes, parameters, multiply-adds, algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastpool.onnx.execute import is_fallback
from fastpool.onnx.tables import table
from fastpool.units import bytes_text, count_text

if TYPE_CHECKING:
    from fastpool.onnx.memory import Step
    from fastpool.onnx.plan import Plan


@dataclass(frozen=True)
class Row:
    """One step of a run.

    Attributes
    ----------
    node : str
        Its operator and name.
    merged : tuple of str
        Operators that were merged into it.
    shape : tuple of int or None
        Of its first output; None where it depends on the numbers that are computed.
    parameters, multiply_adds : int
        Elements of constants, and multiply-adds by definition.
    algorithm : str
        How it is computed. "onnx.reference" where fastpool does not have the operator, "none" where nothing is to do.
    """

    node: str
    merged: tuple[str, ...]
    shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int
    algorithm: str


@dataclass(frozen=True)
class Summary:
    """What a run does. Printed, it is a table; its fields are for programs.

    Attributes
    ----------
    rows : tuple of Row
        Steps in the order of a run.
    parameters, multiply_adds : int
        Sums over the rows.
    buffer_bytes : int
        Memory of all intermediate results together.
    fallbacks : tuple of str
        Nodes that onnx.reference computes.
    """

    rows: tuple[Row, ...]
    parameters: int
    multiply_adds: int
    buffer_bytes: int
    fallbacks: tuple[str, ...]

    def __str__(self) -> str:
        cells = [
            [
                " + ".join((row.node, *row.merged)),
                "open" if row.shape is None else "x".join(map(str, row.shape)) or "scalar",
                count_text(row.parameters) if row.parameters else "",
                count_text(row.multiply_adds) if row.multiply_adds else "",
                row.algorithm,
            ]
            for row in self.rows
        ]
        last = (
            f"{count_text(self.parameters)} parameters, {count_text(self.multiply_adds)} multiply-adds, "
            f"{bytes_text(self.buffer_bytes)} of buffers"
        )
        lines = [table(["node", "output", "parameters", "multiply-adds", "algorithm"], cells, "llrrl"), last]
        if self.fallbacks:
            lines.append(f"in onnx.reference: {', '.join(self.fallbacks)}")
        return "\n".join(lines)


def algorithm_of(step: Step) -> str:
    """How a step is computed, in words."""
    found = step.kernel.algorithm
    return found if isinstance(found, str) else found()


def summarise(plan: Plan) -> Summary:
    """Tell what a plan does."""
    idle = {id(step) for step in plan.steps} - {id(step) for step in plan.bound}
    rows = [
        Row(
            step.label,
            step.merged,
            step.kernel.outputs[0].shape,
            step.kernel.parameters,
            step.kernel.multiply_adds,
            "none" if id(step) in idle else algorithm_of(step),
        )
        for step in plan.steps
    ]
    rows += [Row(node.label, node.merged, None, 0, 0, plan.algorithm_in_tail(node)) for node in plan.tail]
    fallbacks = [step.label for step in plan.steps if is_fallback(step.kernel)]
    fallbacks += [node.label for node in plan.tail if plan.algorithm_in_tail(node) == "onnx.reference"]
    return Summary(
        tuple(rows),
        sum(row.parameters for row in rows),
        sum(row.multiply_adds for row in rows),
        plan.arena_bytes,
        tuple(fallbacks),
    )
