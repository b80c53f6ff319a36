"""How a prepared convolution computes, in the planner's own numbers: which algorithm, tile, source, blocking, and why.

Everything is read from the plan that a call would use, or asked of the functions that made it; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, prod
from re import sub
from textwrap import fill
from typing import Any

import numpy as np

from fastpool import runtime, validation
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.layer import Layer
from fastpool.plans.channelwise import Channelwise
from fastpool.plans.convolution import expected_cycles, plan_directly, plan_weights
from fastpool.plans.depthwise import depthwise_cycles, ends_in_half, is_depthwise, rows_beyond
from fastpool.plans.direct import Grid, is_aliased, shared_bytes, tile_cycles
from fastpool.plans.plan import Plan
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.winograd import Tiling, forms_for, schedule_cycles
from fastpool.plans.winograd_forms import FORMS, WinogradForm
from fastpool.routines.channelwise import channelwise
from fastpool.routines.direct import IN_PLACE, OWN, PRIVATE, SHARED, direct
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.routine import spec_for
from fastpool.routines.tiles import PRIVATE_BYTES, PRIVATE_ROW_BYTES, SCRATCH_LIMIT, WINOGRAD_PRIVATE_BYTES, TileShape
from fastpool.units import bytes_text, count_text

#: Where a direct convolution reads its input.
SOURCES = {
    IN_PLACE: "in place",
    SHARED: "packed shared",
    OWN: "packed by each thread",
    PRIVATE: "packed per task",
}


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
    algorithm : {"direct", "depthwise", "winograd"}
        How it is computed.
    filtering : (int, int) or None
        (m, r) of Winograd's F(m x m, r x r): outputs and taps of a tile along each axis.
    phases : int
        Phases (rows and columns modulo the stride) that Winograd's filtering is applied to and summed over; else 1.
    role : {"channels", "pixels"}
        What the lanes of a vector hold: output channels or output pixels.
    vectors, width, lanes : int
        Register tile: ``vectors x width`` accumulators of so many lanes. The width counts pixels where the lanes hold
        channels (with Winograd, tiles) and channels where they hold pixels. A depthwise convolution has a vector of
        columns of each row whose sum is under way.
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
    filtering: tuple[int, int] | None
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
        filtering = _filtering_text(self.filtering, self.phases) if self.filtering else self.algorithm
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
        rows = _counted(self.rows_per_task, "row") + (" of tiles" if self.filtering else "")
        parts = "planes" if self.algorithm == "depthwise" else "blocks of channels"
        return (
            f"{_counted(self.tasks, 'task')} of {rows}, {_counted(self.tiles_per_task, 'tile')}, "
            f"{self.blocks_per_task} of {self.blocks} {parts}" + (f", {self.parts} times" if self.parts > 1 else "")
        )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def explain(name: str, layer: Layer, shape: Sequence[int], dtype: Any = None) -> Explanation:
    """Explain what a layer does for a contiguous x of this shape, and dtype if it is not that of the weights."""
    weight_element = layer.element
    x = never_read(shape, weight_element.dtype if dtype is None else _dtype(dtype))
    if layer.of_integers:
        layer = layer.over(x)
    validation.images(x, layer.axes, ELEMENT_TYPES)
    validation.same_element(x, "x", layer.source, "weight")
    if not x.size:
        raise ValueError(f"x must have an image, or nothing is computed, got shape {x.shape}")
    bound, (problem, out_shape) = layer.bind(x, False), layer.problem(x, False)
    plan, form = bound.plan, bound.form
    threads = runtime.threads_for(plan.cycles)
    prepared = plan_weights(layer.element, layer.shape, layer.groups, form)
    if isinstance(form, WinogradForm):
        decided = _winograd(problem, plan, form)
    else:
        by_channels = plan.steps[-1].kernel.routine is channelwise
        depthwise = _channelwise if by_channels else _depthwise
        decided = _direct(problem, plan, form) if isinstance(form, TileShape) else depthwise(problem, plan)
    reasons = Reasons(**decided.pop("why"), threads=_why_threads(plan, threads))
    kernel = "x".join(map(str, layer.kernel))
    channels = f"{problem.channels} -> {problem.out_channels} channels"
    if layer.groups > 1:
        channels += f" in {layer.groups} groups"
    dtypes = str(layer.element.dtype)
    if layer.of_integers:
        dtypes = f"{layer.source.dtype} x {weight_element.dtype} in {dtypes}"
    return Explanation(
        layer=f"{name} {kernel}, {channels}, {dtypes}",
        shape=x.shape,
        out_shape=out_shape,
        tasks=plan.steps[-1].tasks,
        threads=threads,
        cycles=plan.cycles,
        multiply_adds=problem.multiply_adds,
        input_bytes=prod(x.shape) * layer.source.size,
        weight_bytes=prod(layer.shape) * weight_element.size,
        output_bytes=prod(out_shape) * layer.element.size,
        prepared_weight_bytes=prepared[-1][1] * layer.element.size if prepared else 0,
        workspace_bytes=plan.workspace(threads),
        why=reasons,
        **decided,
    )


def _dtype(dtype: Any) -> np.dtype:
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


def _why_threads(plan: Plan, threads: int) -> str:
    if threads > 1:
        return f"{_cycles_text(plan.cycles)} pay for calling the workers"
    if runtime.get_num_threads() == 1:
        return "no more are allowed"
    return f"{_cycles_text(plan.cycles)} do not pay for calling the workers"


def _cycles_text(cycles: float) -> str:
    return f"{count_text(round(cycles))} cycles"


def _filtering_text(filtering: tuple[int, int], phases: int) -> str:
    """Name of a Winograd algorithm, as the field writes it."""
    m, r = filtering
    return f"Winograd F({m}x{m}, {r}x{r})" + (f" on {phases} phases" if phases > 1 else "")


# ------------------------------------------------------------------------------------------------------------ direct


def _direct(problem: Convolution, plan: Plan, tile: TileShape) -> dict[str, Any]:
    fields, lanes = plan.steps[-1].fields, lanes_for(problem.element)
    last = tile.last(problem.out_channels // problem.groups, lanes)
    rows = ceil_div(fields["out_rows"], fields["row_tasks"])
    tiles = fields["out_depths"] * fields["out_rows"] * fields["tiles"]
    channels = problem.groups * ((fields["blocks"] - 1) * tile.block(lanes) + last.block(lanes))
    done = problem.images * tiles * tile.pixels(lanes) * channels * (problem.channels // problem.groups) * problem.taps
    return {
        "algorithm": "direct",
        "filtering": None,
        "phases": 1,
        "role": tile.role,
        "vectors": tile.vectors,
        "width": tile.width,
        "lanes": lanes,
        "source": SOURCES[fields["source"]],
        "schedule": None,
        "parts": sum(step.kernel.routine is direct for step in plan.steps),
        "rows_per_task": rows,
        "tiles_per_task": rows * ceil_div(fields["tiles"], fields["tile_tasks"]),
        "blocks": fields["blocks"],
        "blocks_per_task": fields["blocks_per_task"],
        "multiply_adds_done": round(done * (1 - plan.omitted)),
        "waste": 1 - problem.multiply_adds / done,
        "why": {
            "algorithm": _why_direct(problem, plan),
            "tile": _why_tile(problem, plan, tile),
            "source": _why_source(problem, plan, tile),
            "blocking": _why_blocking(problem, plan),
        },
    }


def _why_direct(problem: Convolution, plan: Plan) -> str:
    if problem.element.is_integer:
        return "integers are always summed directly"
    if problem.algorithm == "direct":
        return 'algorithm="direct" asks for it'
    forms = forms_for(problem)
    if not forms:
        *most, last = (
            f"{taps}x{taps} at stride {' or '.join(str(stride) for kernel, stride in sorted(FORMS) if kernel == taps)}"
            for taps in sorted({kernel for kernel, _ in FORMS})
        )
        return (
            f"Winograd needs a filter of {', '.join(most)} or {last}, no dilation but at stride 1, groups of a vector "
            f"of channels, zeros for padding, and no tile of all channels above {bytes_text(problem.workspace_limit)}"
        )
    cycles, best = min(((expected_cycles(problem, form), form) for form in forms), key=lambda pair: pair[0])
    winograd = _filtering_text((best.outputs, best.taps), best.stride**2)
    little = ", too little less for so many more weights" if cycles < plan.cycles else ""
    return f"{_cycles_text(plan.cycles)} of one core estimated, by {winograd} {count_text(round(cycles))}{little}"


def _why_tile(problem: Convolution, plan: Plan, tile: TileShape) -> str:
    cycles = tile_cycles(problem, plan)
    fewest = f"{_cycles_text(cycles[tile])}, fewest of {len(cycles)} tiles"
    if all(other.role == "channels" for other in cycles):
        return f"{fewest} with lanes on channels, which pixels that lie apart ask for"
    other = min((other for other in cycles if other.role != tile.role), key=lambda other: cycles[other])
    return (
        f"{fewest}; with lanes on {other.role}, "
        f"{other.vectors} x {other.width} takes {count_text(round(cycles[other]))}"
    )


def _why_source(problem: Convolution, plan: Plan, tile: TileShape) -> str:
    fields = plan.steps[-1].fields
    if fields["panel"]:
        return _why_panels(problem, fields)
    if fields["source"] == IN_PLACE and problem.is_padded:
        return f"every tap finds its pixels in x, or padding, which is left out: {plan.omitted:.1%} of the sums"
    if fields["apart"] > 1:
        return f"every tap finds its pixels in x, {fields['apart']} apart: each is read alone in any case"
    if fields["source"] == IN_PLACE:
        return "with neither stride nor padding, every tap finds its row in x"
    if problem.widened_from:
        cause = f"packing widens {problem.widened_from.removeprefix('from ')} to {problem.element.dtype}"
    elif is_aliased(problem, Grid(fields["out_depths"], fields["out_rows"], fields["out_columns"]), tile):
        cause = "in place, channels would fall into the same cache sets"
    elif any(axis.stride > 1 for axis in problem.axes):
        cause = "packing takes the stride out"
    elif problem.is_padded:
        cause = "packing adds the padding"
    else:
        cause = "rows are shorter than a tile"
    needed, allowed = map(bytes_text, shared_bytes(problem))
    if fields["source"] == SHARED:
        return f"{cause}; all of x takes {needed}, within {allowed}"
    if fields["source"] == OWN:
        return f"{cause}; each thread packs {needed} sooner than another one's copy comes"
    return f"{cause}; all of x would take {needed}, above {allowed}; {_private_text(problem, plan)}"


def _why_panels(problem: Convolution, fields: dict[str, Any]) -> str:
    size = problem.element.size
    panel = bytes_text(fields["panel"] * size)
    tiles = ceil_div(fields["tiles"], fields["tile_tasks"]) if fields["source"] == PRIVATE else fields["tiles"]
    private = f"of a task, within {bytes_text(PRIVATE_BYTES)} if not few"
    whose = {SHARED: "of an image", OWN: "of an image for each thread", PRIVATE: private}[fields["source"]]
    seen = "channels" if problem.taps == 1 else "channels and taps"
    return f"in {tiles} panels {whose}: of {panel}, all {seen} of a tile, read from their begin to their end"


def _private_text(problem: Convolution, plan: Plan) -> str:
    """What a task packs for itself."""
    fields, own = plan.steps[0].fields, plan.thread_elements * problem.element.size
    if fields["row_tasks"] < fields["out_rows"]:
        return f"a task's rows take {bytes_text(own)} of {bytes_text(PRIVATE_BYTES)}"
    whole = fields["tile_tasks"] == 1
    text = ("a task's row takes " if whole else "a task's part of a row takes ") + bytes_text(own)
    if len(plan.steps) > 1:
        parts = "taps" if fields["taps"] < problem.taps else "channels"
        return f"{text} for a part of the {parts}, as all of them would exceed {bytes_text(SCRATCH_LIMIT)}"
    if own <= PRIVATE_ROW_BYTES:
        return f"{text} of {bytes_text(PRIVATE_BYTES if whole and own <= PRIVATE_BYTES else PRIVATE_ROW_BYTES)}"
    least = "shorter ones would mostly be packed twice" if fields["tiles"] > fields["tile_tasks"] else "one tile"
    return f"{text}, above {bytes_text(PRIVATE_ROW_BYTES)}: {least}"


def _why_blocking(problem: Convolution, plan: Plan) -> str:
    fields, size = plan.steps[-1].fields, problem.element.size
    if fields["source"] == PRIVATE:
        return "a task keeps what it packed, and all weights pass"
    group_in, group_out = problem.channels // problem.groups, fields["group_channels"]
    weights = bytes_text(group_out * group_in * problem.taps * size)
    pixels = bytes_text(group_in * prod(axis.size for axis in problem.axes) * size)
    kept = "weights, and pixels pass" if fields["blocks_outermost"] else "pixels, and all weights pass"
    return f"{weights} of weights, {pixels} of an image: a task keeps its {kept}"


# --------------------------------------------------------------------------------------------------------- depthwise


def _depthwise(problem: Convolution, plan: Plan) -> dict[str, Any]:
    step = plan.steps[-1]
    fields, lanes = step.fields, spec_for(problem.element, *step.kernel.shape).lanes
    _, height, width = problem.axes
    columns, halved = ceil_div(width.out, lanes), ends_in_half(problem)
    lanes_of_row = (columns - 0.5 if halved else columns) * lanes
    dilation, per_task = fields["row_dilation"], fields["rows_per_task"]
    of_phase = ceil_div(height.out, dilation)
    runs = [min(per_task, of_phase - row) for row in range(0, of_phase, per_task)]
    phases, blocks = min(dilation, height.out), sum(ceil_div(rows, fields["block_rows"]) for rows in runs)
    per_task = min(per_task * dilation, height.out)
    # Rows of taps added to a sum: those of every output, and those of sums that are under way at the end of a strip.
    beyond = phases * ((blocks - 1) * rows_beyond(problem) + rows_beyond(problem, plan.omitted))
    rows_of_taps = height.out * height.kernel * (1 - plan.omitted) + beyond
    done = round(fields["planes"] * lanes_of_row * rows_of_taps * width.kernel)
    planes = _counted(fields["planes"], "plane")
    cut = f"{planes} would be too few tasks"
    whole = f"{planes} are enough tasks, or too little work for more"
    return {
        "algorithm": "depthwise",
        "filtering": None,
        "phases": 1,
        "role": "pixels",
        "vectors": ceil_div(height.kernel, height.stride),
        "width": 1,
        "lanes": lanes,
        "source": "in place",
        "schedule": None,
        "parts": 1,
        "rows_per_task": per_task,
        "tiles_per_task": per_task * columns,
        "blocks": fields["planes"],
        "blocks_per_task": fields["planes_per_task"],
        "multiply_adds_done": done,
        "waste": 1 - problem.multiply_adds / done,
        "why": {
            "algorithm": "a group has one input channel: nothing is summed over channels",
            "tile": "a row of input is read once, for the sums of all rows of output that see it"
            + ("; the last columns take half a vector" if halved else ""),
            "source": f"masked loads give zeros for padding; rows of it are left out: {plan.omitted:.1%} of the sums"
            if plan.omitted
            else "masked loads give zeros for padding",
            "blocking": cut if fields["row_tasks"] > 1 else whole,
        },
    }


def _channelwise(problem: Convolution, plan: Plan) -> dict[str, Any]:
    fields, sizes = plan.steps[-1].fields, Channelwise(problem)
    _, height, width = problem.axes
    runs = ceil_div(width.out, sizes.run)
    done = problem.images * sizes.blocks * sizes.lanes * height.out * runs * sizes.run * problem.taps
    if is_depthwise(problem):
        cycles, other = map(round, (plan.cycles, depthwise_cycles(problem)))
        role = f"{_cycles_text(cycles)} of one core estimated, with lanes on pixels {count_text(other)}"
    else:
        role = "a filter that is dilated or large"
    rows = fields["rows_per_task"]
    padded = bytes_text(sizes.padded_rows(rows) * sizes.pitch * sizes.lanes * problem.element.size)
    return {
        "algorithm": "depthwise",
        "filtering": None,
        "phases": 1,
        "role": "channels",
        "vectors": 1,
        "width": sizes.run,
        "lanes": sizes.lanes,
        "source": "packed per task",
        "schedule": None,
        "parts": 1,
        "rows_per_task": rows,
        "tiles_per_task": rows * runs,
        "blocks": problem.images * problem.channels,
        "blocks_per_task": sizes.lanes,
        "multiply_adds_done": done,
        "waste": 1 - problem.multiply_adds / done,
        "why": {
            "algorithm": "a group has one input channel: nothing is summed over channels",
            "tile": role,
            "source": "pixels are transposed, so that a vector has one of each of its channels",
            "blocking": f"a task's padded rows take {padded}",
        },
    }


# ---------------------------------------------------------------------------------------------------------- Winograd


def _winograd(problem: Convolution, plan: Plan, form: WinogradForm) -> dict[str, Any]:
    fields, tiling = plan.steps[-1].fields, Tiling(problem, form)
    _, vectors, width = fields["multiply"].shape
    shared = fields["shared"] > 0
    # A block of output channels of a run of tiles is one product, whose last tiles overlap those before.
    run = sum(ceil_div(tiles, width) * width for tiles in _runs(problem, fields, shared))
    out_vectors = (tiling.out_blocks - 1) * vectors + fields["multiply_last"].shape[1]
    done = run * form.multiplications * problem.groups * tiling.multiplied * out_vectors * tiling.lanes
    weights = tiling.multiplied * problem.out_channels
    exact = problem.images * problem.pixels / form.outputs**2 * weights
    group = fields["group_rows"] * fields["group_columns"]
    full = ceil_div(group, width)
    step = TileShape("channels", vectors, width).step_cycles()
    if problem.algorithm == "winograd":
        why = 'algorithm="winograd" asks for it'
    else:
        cycles = count_text(round(plan_directly(problem)[0].cycles))
        why = f"{_cycles_text(plan.cycles)} of one core estimated, directly {cycles}"
    return {
        "algorithm": "winograd",
        "filtering": (form.outputs, form.taps),
        "phases": form.stride**2,
        "role": "channels",
        "vectors": vectors,
        "width": width,
        "lanes": tiling.lanes,
        "source": "in place",
        "schedule": "shared" if shared else "fused",
        "parts": 1,
        "rows_per_task": fields["group_rows"],
        "tiles_per_task": group,
        "blocks": tiling.out_blocks,
        "blocks_per_task": 1 if shared else tiling.out_blocks,
        "multiply_adds_done": done,
        "waste": 1 - exact * form.multiplications / done,
        "why": {
            "algorithm": why,
            "tile": f"a task's {group} tiles fill it {full} times, {full * step:.0f} cycles an input channel",
            "source": _why_schedule(tiling, shared),
            "blocking": (
                f"a thread's tiles and products take {bytes_text(plan.thread_elements * problem.element.size)} of "
                f"{bytes_text(WINOGRAD_PRIVATE_BYTES)}"
            ),
        },
    }


def _runs(problem: Convolution, fields: dict[str, Any], shared: bool) -> list[int]:
    """Tiles of each run that is multiplied at once: some rows of tiles, of all images together or of one."""
    total = fields["tile_rows"] * (problem.images if shared else 1)
    rows = [min(fields["group_rows"], total - first) for first in range(0, total, fields["group_rows"])]
    step, across = fields["group_columns"], fields["tile_columns"]
    columns = [min(step, across - first) for first in range(0, across, step)]
    return [r * c for r in rows for c in columns] * (1 if shared else problem.images)


def _why_schedule(tiling: Tiling, shared: bool) -> str:
    cycles, limit = schedule_cycles(tiling), tiling.problem.workspace_limit
    transformed = f"transformed input of {bytes_text(tiling.v_bytes)}"
    if cycles["shared"] == inf:
        return (
            f"each task transforms its own tiles: scratch with a common {transformed} would exceed {bytes_text(limit)}"
        )
    if tiling.form.on_the_fly:
        return f"products of a common {transformed} with weights that are transformed on the fly"
    counted = {name: count_text(round(cycles[name])) for name in cycles}
    if shared:
        return (
            f"products of a common {transformed} take {counted['shared']} cycles, {counted['fused']} if each task "
            "transforms its own tiles"
        )
    return (
        f"each task transforms its own tiles: products take {counted['fused']} cycles, {counted['shared']} of a common "
        f"{transformed}"
    )
