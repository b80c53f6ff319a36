"""How a prepared convolution computes, in the planner's own numbers: which algorithm, tile, source, blocking, and why.

Everything is read from the plan that a call would use, or asked of the functions that made it; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from re import sub
from textwrap import fill
from typing import Any

import numpy as np

from fastpool import reasons, runtime, validation
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.layer import Layer
from fastpool.plans.convolution import Form, plan_weights
from fastpool.plans.plan import Plan
from fastpool.plans.problem import Convolution
from fastpool.reasons import cycles_text, filtering_text
from fastpool.units import bytes_text, count_text, counted


@dataclass(frozen=True)
class Reasons:
    """Why each decision was made: a sentence each."""

    algorithm: str
    tile: str
    source: str  #: or schedule
    blocking: str
    threads: str


@dataclass(frozen=True)
class Explanation:
    """How a convolution computes for one shape of x. Printed, it is a short table; its fields are for programs.

    Attributes
    ----------
    layer : str
        What is convolved, in words.
    shape, out_shape : tuple of int
        Of x, which is contiguous, and of the result.
    algorithm : {"direct", "depthwise", "matrix times vector", "winograd"}
        How it is computed. One image that is a single window is a vector, by which the weights are multiplied.
        A depthwise one whose filter is as large as the map has a dot product for each channel.
    filtering : ((int, int), (int, int)) or None
        Of Winograd's F(m x n, r x s): outputs (m, n) and taps (r, s) of a tile along rows and columns.
    phases : int
        Phases (rows and columns modulo the stride) that Winograd's filtering is applied to and summed over; else 1.
    role : {"channels", "pixels", "inputs"}
        What the lanes of a vector hold: output channels or output pixels, or elements of x with their weights, whose
        products are added up in the end.
    vectors, width, lanes : int
        Register tile: ``vectors x width`` accumulators of so many lanes. The width counts pixels where the lanes hold
        channels (with Winograd, tiles) and channels where they hold pixels or inputs. A depthwise convolution has a
        vector of columns of each row whose sum is under way.
    source : {"in place", "packed shared", "packed by each thread", "packed per task"}
        Where the sums read x: as it is, from a copy packed once for all threads, or from one that each thread or each
        task packs.
        Winograd's filtering reads x in place and transforms it.
    schedule : {"shared", "fused"} or None
        Winograd: the input is transformed once for all threads, or by each task for itself.
    tasks : int
        Independent parts of the work, which threads take one after the other (of the last step).
    parts : int
        Steps that each sum is done in, one after the other, of some channels or taps: 1, unless these would exceed the
        limit of scratch, or the weights of a block its share of the level-2 cache.
    rows_per_task, tiles_per_task : int
        Rows (which may have been joined into one, where nothing lies between them in memory; with Winograd, rows of
        tiles, those of the next image following) and tiles of pixels, of one block, that a task computes. Depthwise
        ones are vectors of a row.
    blocks, blocks_per_task : int
        Blocks of output channels of a group, as wide as a tile, in all and in a task; of a depthwise convolution,
        planes of all images.
    threads : int
        That a call here and now would use.
    cycles : float
        What the planner estimates for one core.
    multiply_adds : int
        Of the definition: every tap of every output, padding included.
    multiply_adds_done : int
        That the kernel carries out in its sums: fewer with Winograd's filtering, and where rows of taps or pixels that
        meet padding are left out; more where tiles reach beyond the edges. The additions of transforms are not counted.
    waste : float
        Part of them, from 0 to 1, that gives no result: beyond the last pixel or channel, or done twice.
    input_bytes, weight_bytes, output_bytes : int
        Of the arrays.
    prepared_weight_bytes : int
        Of the weights as packed or transformed, which the convolution keeps; 0 where they are read as they are given.
    workspace_bytes : int
        Scratch of a call with so many threads.
    why : Reasons
        A sentence for each decision: ``why.algorithm``, ``why.tile``, ``why.source``, ``why.blocking``,
        ``why.threads``.

    Examples
    --------
    >>> import numpy as np
    >>> import fastpool
    >>> conv = fastpool.Conv2d(np.ones((64, 64, 3, 3), np.float32), padding=1, algorithm="direct")
    >>> found = conv.explain((1, 64, 56, 56))
    >>> found.algorithm, found.why.algorithm
    ('direct', 'algorithm="direct" asks for it')
    >>> found.multiply_adds, found.input_bytes, found.weight_bytes, found.output_bytes
    (115605504, 802816, 147456, 802816)
    >>> round(found.intensity, 1)
    131.9
    >>> print(str(found).splitlines()[0])
    Conv2d 3x3, 64 -> 64 channels, float32: (1, 64, 56, 56) -> (1, 64, 56, 56)
    """

    layer: str
    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    algorithm: str
    filtering: tuple[tuple[int, int], tuple[int, int]] | None
    phases: int
    role: str
    vectors: int
    width: int
    lanes: int
    source: str
    schedule: str | None
    tasks: int
    parts: int
    rows_per_task: int
    tiles_per_task: int
    blocks: int
    blocks_per_task: int
    threads: int
    cycles: float
    multiply_adds: int
    multiply_adds_done: int
    waste: float
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    prepared_weight_bytes: int
    workspace_bytes: int
    why: Reasons

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: floating-point operations of the definition for each byte of the three arrays."""
        return 2 * self.multiply_adds / (self.input_bytes + self.weight_bytes + self.output_bytes)

    def __str__(self) -> str:
        why = self.why
        filtering = filtering_text(self.filtering, self.phases) if self.filtering else self.algorithm
        lines = {
            "algorithm": f"{filtering}: {why.algorithm}",
            "tile": f"{self._tile_text()}: {why.tile}",
            "schedule" if self.schedule else "source": f"{self.schedule or self.source}: {why.source}",
            "blocking": f"{self._blocking_text()}: {why.blocking}",
            "threads": f"{self.threads}: {why.threads}",
            "multiply-adds": (
                f"{count_text(self.multiply_adds)} by definition, {count_text(self.multiply_adds_done)} carried out, "
                f"{self.waste:.1%} of them for nothing"
            ),
            "memory": (
                f"input {bytes_text(self.input_bytes)}, weights {bytes_text(self.weight_bytes)}, "
                f"output {bytes_text(self.output_bytes)}: {self.intensity:.1f} FLOP per byte"
            ),
            "prepared": f"{bytes_text(self.prepared_weight_bytes)} of weights"
            if self.prepared_weight_bytes
            else "nothing",
            "workspace": f"{bytes_text(self.workspace_bytes)} during a call",
        }
        rows = [f"{self.layer}: {self.shape} -> {self.out_shape}"]
        for name, text in lines.items():
            together = sub(r"(?<=\d) (?=[kMG])", "\u00a0", text)  # a line does not end between a number and its unit
            rows.append(fill(together, 120, initial_indent=f"  {name:<14}", subsequent_indent=" " * 16))
        return "\n".join(rows).replace("\u00a0", " ")

    def _tile_text(self) -> str:
        if self.algorithm == "depthwise" and self.role == "pixels":
            return f"{self.vectors} rows of {self.lanes} {self.role}"
        other = "tiles" if self.filtering else "pixels" if self.role == "channels" else "channels"
        return f"{self.vectors} vectors of {self.lanes} {self.role} x {self.width} {other}"

    def _blocking_text(self) -> str:
        rows = counted(self.rows_per_task, "row") + (" of tiles" if self.filtering else "")
        parts = "planes" if self.algorithm == "depthwise" else "blocks of channels"
        return (
            f"{counted(self.tasks, 'task')} of {rows}, {counted(self.tiles_per_task, 'tile')}, "
            f"{self.blocks_per_task} of {self.blocks} {parts}" + (f", {self.parts} times" if self.parts > 1 else "")
        )


def explain(name: str, layer: Layer, shape: Sequence[int], dtype: Any = None) -> Explanation:
    """Explain what a layer does for a contiguous x of this shape, and dtype if it is not that of the weights."""
    weight_element = layer.element
    x = never_read(shape, weight_element.dtype if dtype is None else dtype_of_x(dtype))
    if layer.of_integers:
        layer = layer.over(x)
    validation.images(x, layer.axes, ELEMENT_TYPES)
    validation.same_element(x, "x", layer.source, "weight")
    if not x.size:
        raise ValueError(f"x must have an image, or nothing is computed, got shape {x.shape}")
    bound, (problem, out_shape) = layer.bind(x, False), layer.problem(x, False)
    dtypes = str(layer.element.dtype)
    if layer.of_integers:
        dtypes = f"{layer.source.dtype} x {weight_element.dtype} in {dtypes}"
    text = f"{name} {layer_text(layer.kernel, problem.channels, problem.out_channels, layer.groups)}, {dtypes}"
    shapes = x.shape, layer.shape, out_shape
    return explanation(text, shapes, weight_element.size, problem, bound.plan, bound.form)


def layer_text(kernel: Sequence[int], channels: int, out_channels: int, groups: int) -> str:
    """What is convolved, in words."""
    parted = f" in {groups} groups" if groups > 1 else ""
    return f"{'x'.join(map(str, kernel))}, {channels} -> {out_channels} channels{parted}"


def explanation(
    text: str,
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    weight_size: int,
    problem: Convolution,
    plan: Plan,
    form: Form,
) -> Explanation:
    """Explain the plan of a convolution; shapes are those of x, its weights and its result."""
    shape, weight_shape, out_shape = shapes
    element, threads = problem.element, runtime.threads_for(plan.cycles)
    prepared = plan_weights(element, weight_shape, problem.groups, form)
    decided = reasons.decided(problem, plan, form)
    why = Reasons(**decided.pop("why"), threads=why_threads(plan, threads))
    return Explanation(
        layer=text,
        shape=shape,
        out_shape=out_shape,
        tasks=plan.steps[-1].tasks,
        threads=threads,
        cycles=plan.cycles,
        multiply_adds=problem.multiply_adds,
        input_bytes=prod(shape) * (problem.source or element).size,
        weight_bytes=prod(weight_shape) * weight_size,
        output_bytes=prod(out_shape) * element.size,
        prepared_weight_bytes=prepared[-1][1] * element.size if prepared else 0,
        workspace_bytes=plan.workspace(threads),
        why=why,
        **decided,
    )


def dtype_of_x(dtype: Any) -> np.dtype:
    """Dtype that an x is said to have."""
    try:
        found: np.dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a dtype of x, got {validation.shown(dtype)}") from None
    return found


def never_read(shape: Any, dtype: np.dtype) -> np.ndarray:
    """Contiguous x of this shape without memory of its own: its shape and strides are all that a plan is made from."""
    if not isinstance(shape, tuple | list):
        raise TypeError(f"x must be given by its shape, a tuple of integers, got {validation.shown(shape)}")
    sizes = tuple(validation.integer(size, f"x.shape[{i}]", 0) for i, size in enumerate(shape))
    steps = [dtype.itemsize * prod(sizes[i + 1 :]) for i in range(len(sizes))]
    try:
        return np.lib.stride_tricks.as_strided(np.zeros((), dtype), sizes, steps, writeable=False)
    except (ValueError, OverflowError):
        raise ValueError(f"x must have a shape that arrays can have, got {validation.shown(sizes)}") from None


def why_threads(plan: Plan, threads: int) -> str:
    """Why a call takes so many threads."""
    if threads > 1:
        return f"{cycles_text(plan.cycles)} pay for calling the workers"
    if runtime.get_num_threads() == 1:
        return "no more are allowed"
    return f"{cycles_text(plan.cycles)} do not pay for calling the workers"
