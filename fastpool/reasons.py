"""What the plan of a convolution decided, and why: each kind of plan by a function of its own.

They return the fields of an `Explanation` that depend on the kind, and the sentences of its `Reasons`.
"""

from __future__ import annotations

from math import inf, prod
from typing import Any

from fastpool.plans.channelwise import Channelwise
from fastpool.plans.convolution import Form, SomeTaps, expected_cycles, plan_all_taps, plan_sums, summed
from fastpool.plans.depthwise import (
    begun_rows,
    depthwise_cycles,
    ends_in_half,
    is_depthwise,
    summed_rows,
    takes_two,
    vectors_of_row,
)
from fastpool.plans.direct import is_aliased, packing_cycles, shared_bytes, tile_cycles
from fastpool.plans.joined import Joined, is_joined
from fastpool.plans.linear import is_gemv, is_of_dots
from fastpool.plans.plan import Plan, Step
from fastpool.plans.problem import Convolution, ceil_div
from fastpool.plans.tasks import Grid, last_tile
from fastpool.plans.winograd import Tiling, forms_for, group_bytes, schedule_cycles
from fastpool.plans.winograd_axes import arranged, as_images
from fastpool.plans.winograd_forms import FORMS, WinogradForm
from fastpool.routines.channelwise import channelwise
from fastpool.routines.direct import IN_PLACE, OWN, PRIVATE, SHARED, direct, is_masked
from fastpool.routines.routine import lanes as lanes_for
from fastpool.routines.routine import spec_for
from fastpool.routines.tiles import PRIVATE_BYTES, PRIVATE_ROW_BYTES, SCRATCH_LIMIT, WINOGRAD_PRIVATE_BYTES, TileShape
from fastpool.units import bytes_text, count_text, counted

#: Where a direct convolution reads its input.
SOURCES = {
    IN_PLACE: "in place",
    SHARED: "packed shared",
    OWN: "packed by each thread",
    PRIVATE: "packed per task",
}


def decided(problem: Convolution, plan: Plan, form: Form) -> dict[str, Any]:
    """Fields that say what was decided; under "why", the reasons."""
    if isinstance(form, SomeTaps):
        return _of_some_taps(problem, plan, form)
    if isinstance(form, WinogradForm):
        return of_winograd(problem, plan, form)
    if isinstance(form, TileShape):
        return of_direct(problem, plan, form)
    if is_gemv(plan):
        return of_one_window(problem, plan)
    return (of_channelwise if plan.steps[-1].kernel.routine is channelwise else of_depthwise)(problem, plan)


def _of_some_taps(problem: Convolution, plan: Plan, form: SomeTaps) -> dict[str, Any]:
    """Of sums of the taps that find pixels."""
    fewer, form_of_fewer = summed(problem, form)
    fields = decided(fewer, plan, form_of_fewer)
    why = fields["why"]
    if fields["algorithm"] == "direct":
        why["algorithm"] = _why_direct(problem, plan)
    why["algorithm"] += f"; {len(form.places)} of {problem.taps} taps find pixels, the others padding alone"
    return fields


def cycles_text(cycles: float) -> str:
    """Return a number of cycles: 1.23 M cycles."""
    return f"{count_text(round(cycles))} cycles"


def filtering_text(filtering: tuple[tuple[int, int], tuple[int, int]], phases: int) -> str:
    """Name of a Winograd algorithm, as the field writes it."""
    outputs, taps = (f"{rows}x{columns}" for rows, columns in filtering)
    return f"Winograd F({outputs}, {taps})" + (f" on {phases} phases" if phases > 1 else "")


# ------------------------------------------------------------------------------------------------------------ direct


def of_direct(problem: Convolution, plan: Plan, tile: TileShape) -> dict[str, Any]:
    """Of a direct convolution, all taps at once or run by run."""
    fields, lanes = _main_step(plan).fields, lanes_for(problem.element)
    steps = [step.fields for step in plan.steps if step.kernel.routine is direct]
    last = last_tile(problem, tile)
    rows = ceil_div(fields["out_rows"], fields["row_tasks"])
    of_runs = {step["first_column"]: step["tiles"] * step["pixels"] for step in steps}
    pixels = fields["images"] * fields["out_depths"] * fields["out_rows"] * sum(of_runs.values())
    channels = problem.groups * ((fields["blocks"] - 1) * tile.block(lanes) + last.block(lanes))
    sums = pixels * channels - fields["images"] * fields["out_depths"] * fields["out_rows"] * _spared(problem, fields)
    done = sums * (problem.channels // problem.groups) * problem.taps
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
        "parts": len(steps) // len(of_runs),
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


def _spared(problem: Convolution, fields: dict[str, Any]) -> int:
    """Sums of a row that narrower last tiles spare."""
    columns: int = fields["row_of_tiles"].shape[2] - fields["row_of_rest"].shape[2]
    blocks: int = fields["blocks"] - int(fields["whole_of_last"] == fields["tiles"])
    return problem.groups * blocks * int(fields["block"]) * columns


def _main_step(plan: Plan) -> Step:
    """Step of the most columns, the last one of them."""
    return max(reversed(plan.steps), key=lambda step: int(step.fields.get("out_columns", 0)))


def _why_runs(plan: Plan) -> str:
    count = len({step.fields["first_column"] for step in plan.steps})
    if count == 1:
        return f"{cycles_text(plan.cycles)}; other columns of taps find padding alone"
    runs = f"{count} runs of columns, which differ in the columns of taps that find pixels there"
    return f"{cycles_text(plan.cycles)}; of the widest of {runs}"


def _why_direct(problem: Convolution, plan: Plan) -> str:
    if problem.element.is_integer:
        return "integers are always summed directly"
    if problem.algorithm == "direct":
        return 'algorithm="direct" asks for it'
    forms = forms_for(problem)
    if not forms:
        square = ", ".join(
            f"{taps}x{taps} at stride {' or '.join(str(key[3]) for key in sorted(FORMS) if key[:2] == (taps, taps))}"
            for taps in sorted({rows for rows, columns, *_ in FORMS if rows == columns})
        )
        by_stride = {stride: sorted(key[1] for key in FORMS if key[0] == 1 and key[3] == stride) for stride in (1, 2)}
        rows = " or ".join(f"{taps[0]} to {taps[-1]} taps at stride {stride}" for stride, taps in by_stride.items())
        return (
            f"Winograd needs a filter of {square}, or rows of {rows}, or one such column, no dilation but at stride 1, "
            f"groups of a vector of channels, zeros for padding, and no tile of all channels above "
            f"{bytes_text(problem.workspace_limit)}"
        )
    cycles, best = min(((expected_cycles(problem, form), form) for form in forms), key=lambda pair: pair[0])
    winograd = filtering_text(best.filtering, prod(best.strides))
    little = ", too little less for so many more weights" if cycles < plan.cycles else ""
    return f"{cycles_text(plan.cycles)} of one core estimated, by {winograd} {count_text(round(cycles))}{little}"


def _why_tile(problem: Convolution, plan: Plan, tile: TileShape) -> str:
    if any(step.fields.get("run_used", 0) < step.fields.get("run", 0) for step in plan.steps):
        return _why_runs(plan)
    if _is_masked(plan):
        without, _ = plan_all_taps(problem)
        unmasked = count_text(round(without.cycles + packing_cycles(problem, without)))
        return f"{cycles_text(plan.cycles)}; without masks, packed or with lanes on channels, {unmasked}"
    cycles = Joined(problem).compared if is_joined(plan) else tile_cycles(problem, plan)
    fewest = f"{cycles_text(cycles[tile])}, fewest of {len(cycles)} tiles"
    fields = _main_step(plan).fields
    narrow = f"; the last of a row has {fields['row_of_rest'].shape[2]} pixels"
    rest = narrow if fields["whole_tiles"] < fields["tiles"] else ""
    if all(other.role == "channels" for other in cycles):
        return f"{fewest} with lanes on channels, which {_why_channels(plan)} ask for{rest}"
    other = min((other for other in cycles if other.role != tile.role), key=lambda other: cycles[other])
    return (
        f"{fewest}; with lanes on {other.role}, "
        f"{other.vectors} x {other.width} takes {count_text(round(cycles[other]))}{rest}"
    )


def _why_channels(plan: Plan) -> str:
    return "pixels of several images" if is_joined(plan) else "pixels that lie apart"


def _is_masked(plan: Plan) -> bool:
    return is_masked(_main_step(plan).fields["row_of_tiles"].shape[0])


def _why_source(problem: Convolution, plan: Plan, tile: TileShape) -> str:
    fields = _main_step(plan).fields
    if _is_masked(plan) and problem.is_padded:
        return f"masked loads give zeros for padding; rows of it are left out: {plan.omitted:.1%} of the sums"
    if _is_masked(plan):
        return "a row is read once for all channels of a tile, whose pixels are put in order in registers"
    if is_joined(plan):
        return _why_joined(problem, fields, tile)
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
    size, limit = shared_bytes(problem)
    needed, allowed = bytes_text(size), bytes_text(limit)
    if fields["source"] == SHARED:
        return f"{cause}; all of x takes {needed}, within {allowed}"
    if fields["source"] == OWN:
        return f"{cause}; each thread packs {needed} sooner than another one's copy comes"
    few = f"of {problem.images * problem.channels} channels to pack, threads would have uneven shares"
    why = few if size <= limit else f"all of x would take {needed}, above {allowed}"
    return f"{cause}; {why}; {_private_text(problem, plan)}"


def _why_joined(problem: Convolution, fields: dict[str, Any], tile: TileShape) -> str:
    joined = Joined(problem)
    how = "all of x, transposed" if joined.is_matrix else "what each tap meets"
    whose = " by each thread" if fields["source"] == OWN else ""
    return (
        f"tiles are filled by pixels of all images, {counted(problem.pixels, 'pixel')} each, beside which weights are "
        f"read once: {how}, packed{whose}, takes {bytes_text(joined.packed_elements(tile) * problem.element.size)}"
    )


def _why_panels(problem: Convolution, fields: dict[str, Any]) -> str:
    size = problem.element.size
    panel = bytes_text(fields["panel"] * size)
    tiles = ceil_div(fields["tiles"], fields["tile_tasks"]) if fields["source"] == PRIVATE else fields["tiles"]
    whole = "of an image" if problem.axes[0].out == 1 else "of a depth"
    private = f"of a task, within {bytes_text(PRIVATE_BYTES)} if not few"
    whose = {SHARED: whole, OWN: f"{whole} for each thread", PRIVATE: private}[fields["source"]]
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
    fields, size = _main_step(plan).fields, problem.element.size
    if fields["source"] == PRIVATE:
        return "a task keeps what it packed, and all weights pass"
    group_in, group_out = problem.channels // problem.groups, fields["group_channels"]
    weights = bytes_text(group_out * group_in * problem.taps * size)
    pixels = bytes_text(group_in * prod(axis.size for axis in problem.axes) * size)
    kept = "weights, and pixels pass" if fields["blocks_outermost"] else "pixels, and all weights pass"
    return f"{weights} of weights, {pixels} of an image: a task keeps its {kept}"


# ------------------------------------------------------------------------------------------------------- one window


def of_one_window(problem: Convolution, plan: Plan) -> dict[str, Any]:
    """Of a matrix times a vector, or of dot products."""
    step, is_of_matrix = plan.steps[-1], not is_of_dots(plan)
    fields, (_, vectors, width), lanes = step.fields, step.kernel.shape, lanes_for(problem.element)
    blocks, per_task = (ceil_div(fields[name], width) for name in ("outputs", "outputs_per_task"))
    done = problem.images * blocks * width * ceil_div(fields["inputs"], lanes) * lanes
    weights = bytes_text(fields["inputs"] * problem.element.size)
    return {
        "algorithm": "matrix times vector" if is_of_matrix else "depthwise",
        "filtering": None,
        "phases": 1,
        "role": "inputs",
        "vectors": vectors,
        "width": width,
        "lanes": lanes,
        "source": "in place",
        "schedule": None,
        "parts": 1,
        "rows_per_task": 1,
        "tiles_per_task": 1,
        "blocks": blocks,
        "blocks_per_task": per_task,
        "multiply_adds_done": done,
        "waste": 1 - problem.multiply_adds / done,
        "why": {
            "algorithm": "all of x is one window: each weight is used once, and memory sets the pace"
            if is_of_matrix
            else "a channel is one window: its result is the dot product with its filter",
            "tile": "enough sums to hide the latency of an addition; their lanes are added up at the end",
            "source": "x lies in the order of the weights",
            "blocking": f"the weights of a channel, {weights}, are read from their begin to their end",
        },
    }


# --------------------------------------------------------------------------------------------------------- depthwise


def of_depthwise(problem: Convolution, plan: Plan) -> dict[str, Any]:
    """Of a depthwise one with lanes on columns."""
    step = plan.steps[-1]
    fields, lanes = step.fields, spec_for(problem.element, *step.kernel.shape).lanes
    _, height, width = problem.axes
    columns, lanes_of_row = ceil_div(width.out, lanes), vectors_of_row(problem) * lanes
    of_rows = "; the last columns take half a vector" if ends_in_half(problem) else ""
    of_rows += ", two vectors of columns at once" if takes_two(problem) else ""
    dilation, per_task = fields["row_dilation"], fields["rows_per_task"]
    of_phase = ceil_div(height.out, dilation)
    runs = [min(per_task, of_phase - row) for row in range(0, of_phase, per_task)]
    phases, blocks = min(dilation, height.out), sum(ceil_div(rows, fields["block_rows"]) for rows in runs)
    per_task = min(per_task * dilation, height.out)
    # Rows of taps added to a sum: those of every output, and those of sums that are under way at the end of a strip.
    rows_of_taps = summed_rows(problem) + phases * (blocks - 1) * begun_rows(height)
    done = round(fields["planes"] * lanes_of_row * rows_of_taps * width.kernel)
    planes = counted(fields["planes"], "plane")
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
        "waste": 1 - problem.multiply_adds * (1 - plan.omitted) / done,
        "why": {
            "algorithm": "a group has one input channel: nothing is summed over channels",
            "tile": f"a row of input is read once, for the sums of all rows of output that see it{of_rows}",
            "source": f"masked loads give zeros for padding; rows of it are left out: {plan.omitted:.1%} of the sums"
            if plan.omitted
            else "masked loads give zeros for padding",
            "blocking": cut if fields["row_tasks"] > 1 else whole,
        },
    }


def of_channelwise(problem: Convolution, plan: Plan) -> dict[str, Any]:
    """Of a depthwise one with lanes on channels."""
    fields, sizes = plan.steps[-1].fields, Channelwise(problem)
    width = problem.axes[2]
    runs = ceil_div(width.out, sizes.run)
    done = problem.images * sizes.blocks * sizes.lanes * fields["out_rows"] * runs * sizes.run * problem.taps
    if is_depthwise(problem):
        cycles, other = map(round, (plan.cycles, depthwise_cycles(problem)))
        role = f"{cycles_text(cycles)} of one core estimated, with lanes on pixels {count_text(other)}"
    else:
        role = "lanes on pixels take no such filter, stride or depth"
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


def of_winograd(problem: Convolution, plan: Plan, form: WinogradForm) -> dict[str, Any]:
    """Of a Winograd convolution."""
    of_depths, problem = arranged(problem), as_images(problem)
    fields, tiling = plan.steps[-1].fields, Tiling(problem, form)
    _, vectors, width = fields["multiply"].shape
    shared = fields["shared"] > 0
    together = plan.steps[0].fields["images"] if shared else 1  # the last pass may have fewer
    # A block of output channels of a run of tiles is one product, whose last tiles overlap those before.
    run = sum(ceil_div(tiles, width) * width for tiles in _runs(problem, fields, together))
    out_vectors = (tiling.out_blocks - 1) * vectors + fields["multiply_last"].shape[1]
    done = run * form.multiplications * problem.groups * tiling.multiplied * out_vectors * tiling.lanes
    weights = of_depths.channels // problem.groups * of_depths.axes[0].kernel * form.fold * problem.out_channels
    exact = problem.images * problem.pixels / prod(form.tile_outputs) * weights
    group = fields["group_rows"] * fields["group_columns"]
    full = ceil_div(group, width)
    step = TileShape("channels", vectors, width).step_cycles
    if problem.algorithm == "winograd":
        why = 'algorithm="winograd" asks for it'
    else:
        cycles = count_text(round(plan_sums(of_depths)[0].cycles))
        why = f"{cycles_text(plan.cycles)} of one core estimated, directly {cycles}"
    return {
        "algorithm": "winograd",
        "filtering": form.filtering,
        "phases": prod(form.strides),
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
                f"{bytes_text(WINOGRAD_PRIVATE_BYTES if shared else group_bytes(tiling))}"
            ),
        },
    }


def _runs(problem: Convolution, fields: dict[str, Any], together: int) -> list[int]:
    """Tiles of each run that is multiplied at once: some rows of tiles, of so many images together."""
    step, across = fields["group_columns"], fields["tile_columns"]
    columns = [min(step, across - first) for first in range(0, across, step)]
    passes = [min(together, problem.images - first) for first in range(0, problem.images, together)]
    totals = [fields["tile_rows"] * images for images in passes]
    rows = [
        min(fields["group_rows"], total - first) for total in totals for first in range(0, total, fields["group_rows"])
    ]
    return [r * c for r in rows for c in columns]


def _why_schedule(tiling: Tiling, shared: bool) -> str:
    cycles, limit, of_pass = schedule_cycles(tiling), tiling.problem.workspace_limit, tiling.of_pass
    transformed = f"transformed input of {bytes_text(of_pass.v_bytes)}"
    if of_pass is not tiling:
        transformed += f" in each of {ceil_div(tiling.problem.images, of_pass.problem.images)} passes"
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
