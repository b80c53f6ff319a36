"""How a prepared transposed convolution computes: the ordinary ones that it comes to, and how they are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from textwrap import fill, indent

from fastpool import runtime, validation
from fastpool.dtypes import ElementType
from fastpool.explain import Explanation, explanation, layer_text, never_read, why_threads
from fastpool.plans.overlap_add import plan_overlap_add, suits_overlap_add
from fastpool.plans.phases import plan_phases
from fastpool.plans.transposed import MOST_PHASES
from fastpool.plans.transposed_problem import Transposed, TransposedConvolution
from fastpool.reasons import cycles_text
from fastpool.transposed_layer import TransposedLayer
from fastpool.units import bytes_text, count_text, counted


@dataclass(frozen=True)
class TransposedExplanation:
    """How a transposed convolution computes for one shape of x. Printed, it is a short table.

    Attributes
    ----------
    layer : str
        What is convolved, in words.
    shape, out_shape : tuple of int
        Of x, which is contiguous, and of the result.
    algorithm : {"phases", "overlapping sums"}
        Outputs of the same index modulo the stride (a phase) are ordinary convolutions; or each tap is an output
        channel of a product of matrices, whose results are added where they overlap.
    convolutions : tuple of Explanation
        The ordinary convolutions, of the first piece.
    pieces : int
        How often results are put together: some rows or images at a time. 0 where one convolution gives the result.
    threads : int
        That a call here and now would use.
    cycles : float
        What the planner estimates for one core.
    multiply_adds : int
        Of the definition: every tap of every input.
    input_bytes, weight_bytes, output_bytes, prepared_weight_bytes, workspace_bytes : int
        Of the arrays, of the weights as they are packed, and of the scratch of a call with so many threads.
    why : str
        Why it is computed so.
    why_threads : str
        Why with so many threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> found = fastpool.ConvTranspose2d(np.ones((8, 4, 2, 2), np.float32), stride=2).explain((1, 8, 5, 6))
    >>> found.algorithm, found.pieces, len(found.convolutions)
    ('phases', 1, 1)
    >>> found.convolutions[0].layer
    '1x1, 8 -> 16 channels'
    """

    layer: str
    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    algorithm: str
    convolutions: tuple[Explanation, ...]
    pieces: int
    threads: int
    cycles: float
    multiply_adds: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    prepared_weight_bytes: int
    workspace_bytes: int
    why: str
    why_threads: str

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: floating-point operations of the definition for each byte of the three arrays."""
        return 2 * self.multiply_adds / (self.input_bytes + self.weight_bytes + self.output_bytes)

    def __str__(self) -> str:
        together = f"put together in {counted(self.pieces, 'piece')}" if self.pieces else "which gives the result"
        lines = {
            "algorithm": f"{self.algorithm}: {self.why}",
            "steps": f"{counted(len(self.convolutions), 'convolution')}, {together}",
            "threads": f"{self.threads}: {self.why_threads}",
            "multiply-adds": f"{count_text(self.multiply_adds)} by definition",
            "memory": (
                f"input {bytes_text(self.input_bytes)}, weights {bytes_text(self.weight_bytes)}, "
                f"output {bytes_text(self.output_bytes)}: {self.intensity:.1f} FLOP per byte"
            ),
            "prepared": f"{bytes_text(self.prepared_weight_bytes)} of weights",
            "workspace": f"{bytes_text(self.workspace_bytes)} during a call",
        }
        rows = [f"{self.layer}: {self.shape} -> {self.out_shape}"]
        rows += [
            fill(text, 120, initial_indent=f"  {name:<14}", subsequent_indent=" " * 16) for name, text in lines.items()
        ]
        # Phases may differ in their taps only.
        for text, times in Counter(map(str, self.convolutions)).items():
            rows.append(indent(text if times == 1 else f"{times} times {text}", "  "))
        return "\n".join(rows)


def explain_transposed(
    name: str, layer: TransposedLayer, weight: ElementType, shape: Sequence[int]
) -> TransposedExplanation:
    """Explain what a layer does for a contiguous x of this shape; weights were given as elements of that type."""
    x = never_read(shape, layer.source.dtype)
    validation.images(x, layer.axes, {layer.source.dtype: layer.source})
    if not x.size:
        raise ValueError(f"x must have an image, or nothing is computed, got shape {x.shape}")
    axes, out_shape = layer.result(x)
    problem, bound = layer.problem(x, axes), layer.bind(x)
    planned, element = bound.planned, layer.element
    threads = runtime.threads_for(planned.plan.cycles)
    is_summed = any(part.filters.windows is None for part in planned.parts)
    dtypes = str(element.dtype)
    if element.is_integer:
        dtypes = f"{layer.source.dtype} x {weight.dtype} in {dtypes}"
    text = layer_text(layer.kernel, layer.shape[0], layer.out_channels, layer.groups)
    return TransposedExplanation(
        layer=f"{name} {text}, {dtypes}",
        shape=x.shape,
        out_shape=out_shape,
        algorithm="overlapping sums" if is_summed else "phases",
        convolutions=tuple(_of_parts(planned, layer.axes)),
        pieces=planned.pieces,
        threads=threads,
        cycles=planned.plan.cycles,
        multiply_adds=prod(x.shape) * prod(layer.shape[1:]),
        input_bytes=x.size * layer.source.size,
        weight_bytes=prod(layer.shape) * weight.size,
        output_bytes=prod(out_shape) * element.size,
        prepared_weight_bytes=planned.packed_elements * element.size,
        workspace_bytes=planned.plan.workspace(threads),
        why=_why(problem),
        why_threads=why_threads(planned.plan, threads),
    )


def _of_parts(planned: Transposed, axes: int) -> list[Explanation]:
    found = []
    for part in planned.parts:
        problem, shape = part.problem, part.filters.shape
        sizes, outs = ([getattr(axis, name) for axis in problem.axes][-axes:] for name in ("size", "out"))
        text = layer_text(shape[-axes:], problem.channels, problem.out_channels, problem.groups)
        shapes = (problem.images, problem.channels, *sizes), shape, (problem.images, problem.out_channels, *outs)
        found.append(explanation(text, shapes, problem.element.size, problem, part.plan, part.form))
    return found


def _why(problem: TransposedConvolution) -> str:
    if not problem.finite:
        return "weights that are not finite must not meet the zeros around x"
    if problem.element.is_integer:
        return "integers are always summed by phases"
    if problem.phases == 1:
        return "at stride 1 it is an ordinary convolution with its filters turned"
    if problem.phases > MOST_PHASES:
        return f"{count_text(problem.phases)} phases are too many for a table"
    if not suits_overlap_add(problem):
        return "no taps overlap, so that the phases are a product of matrices already"
    phases, sums = (plan(problem).plan.cycles for plan in (plan_phases, plan_overlap_add))
    return f"{cycles_text(phases)} of one core by phases estimated, {cycles_text(sums)} by overlapping sums"
