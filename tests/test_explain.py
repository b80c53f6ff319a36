"""What `Conv*.explain` tells: equal to independent arithmetic, and to what a call does."""

import pickle
from math import prod

import numpy as np
import pytest
from conftest import DTYPES, Planner, every_dtype, lanes_of, noise

import fastpool
from bench.cases import conv_cases
from fastpool import layer, reasons, runtime
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.machine.processor import TARGET, THREADS
from fastpool.plans import column_runs, tile_choice, winograd, winograd_axes
from fastpool.plans import convolution as plans
from fastpool.plans.convolution import expected_cycles
from fastpool.plans.direct import choose_tile, tile_cycles
from fastpool.plans.problem import ceil_div
from fastpool.plans.winograd import forms_for
from fastpool.plans.winograd_forms import FORMS
from fastpool.routines.depthwise import depthwise
from fastpool.routines.direct import IN_PLACE, MASKED_SHAPES, direct
from fastpool.routines.gemv import gemv
from fastpool.routines.routine import spec_for
from fastpool.routines.tiles import LEVEL_2_BYTES, TILE_SHAPES
from fastpool.routines.winograd import winograd_fused, winograd_output

#: (algorithm, source, schedule) -> shape of x, weight, options that lead there on any machine.
CASES = {
    ("direct", "in place", None): ((2, 64, 56, 56), (130, 64, 1, 1), {}),
    ("direct", "packed shared", None): (
        (2, 48, 44, 45),
        (40, 24, 3, 2),
        {"padding": 1, "groups": 2, "algorithm": "direct"},
    ),
    ("direct", "packed per task", None): ((3, 64, 120, 131), (10, 64, 3, 2), {"padding": 1, "stride": (1, 2)}),
    ("depthwise", "in place", None): ((2, 20, 33, 35), (40, 1, 3, 3), {"groups": 20, "stride": 2, "padding": 1}),
    ("depthwise", "in place", None, "rows left out"): ((2, 20, 14, 70), (20, 1, 7, 7), {"groups": 20, "padding": 3}),
    ("matrix times vector", "in place", None): (
        (1, 37, 4, 3),
        (21, 37, 4, 3),
        {"padding": ((0, 0), (0, 1)), "stride": 2},
    ),
    ("winograd", "in place", "shared"): ((1, 200, 9, 11), (70, 200, 3, 3), {"padding": 1, "algorithm": "winograd"}),
    ("winograd", "in place", "fused"): (
        (2, 24, 160, 150),
        (70, 24, 5, 5),
        {"padding": 2, "stride": 2, "algorithm": "winograd"},
    ),
}
if MASKED_SHAPES:
    CASES["direct", "in place", None, "masked"] = (
        (2, 64, 41, 50),
        (64, 8, 3, 3),
        {"groups": 8, "stride": 2, "padding": 1},
    )
if column_runs.PAYS:
    CASES["direct", "in place", None, "runs"] = (1, 192, 33, 33), (64, 192, 3, 3), {"dilation": 18, "padding": 18}
every_case = pytest.mark.parametrize("decided", CASES, ids=lambda decided: ", ".join(filter(None, decided)))
ROUTINES = {
    "direct": direct,
    "depthwise": depthwise,
    "matrix times vector": gemv,
    "shared": winograd_output,
    "fused": winograd_fused,
}


def prepared(weight_shape, dtype=np.float32, **options):
    """Give a convolution of any rank with weights of noise."""
    return getattr(fastpool, f"Conv{len(weight_shape) - 2}d")(noise(1, weight_shape, dtype), **options)


@every_dtype
@every_case
@pytest.mark.usefixtures("without_panels")
def test_decisions_are_those_of_a_call(monkeypatch, decided, dtype):
    shape, weight_shape, options = CASES[decided]
    conv, x = prepared(weight_shape, dtype, **options), noise(2, shape, dtype)
    found = conv.explain(x.shape)
    assert (found.algorithm, found.source, found.schedule) == decided[:3]

    conv(x)  # weights are prepared
    plans, launches, run, current = [], [], layer.Plan.run, runtime.engine()
    serial, parallel = current.serial, current.parallel

    def recorded_serial(steps, count, width, scratch, *addresses):
        launches.append((count, scratch, 1))
        serial(steps, count, width, scratch, *addresses)

    def recorded_parallel(steps, count, width, scratch, *rest):
        launches.append((count, scratch, rest[-2]))
        parallel(steps, count, width, scratch, *rest)

    monkeypatch.setattr(current, "serial", recorded_serial)
    monkeypatch.setattr(current, "parallel", recorded_parallel)
    monkeypatch.setattr(layer.Plan, "run", lambda plan, *args, **more: (plans.append(plan), run(plan, *args, **more)))
    y = conv(x)
    ((count, scratch, threads),), (plan,) = launches, plans
    blocks = plan.blocks()
    assert count == len(blocks)
    step = max(plan.steps, key=lambda step: step.fields.get("out_columns", 0))
    step = plan.steps[-1] if "runs" not in decided else step
    assert step.kernel.routine is ROUTINES[found.schedule or found.algorithm]
    assert (found.tasks, found.workspace_bytes, found.threads) == (blocks[-1, 1], scratch, threads)
    assert (found.cycles, found.out_shape) == (plan.cycles, y.shape)
    (kept,) = conv._packed.values()
    assert found.prepared_weight_bytes == (0 if kept is conv._weight else kept.nbytes)
    if found.algorithm == "direct":
        variant, *tile = step.fields["row_of_tiles"].shape
        assert tile == [found.vectors, found.width]
        lies_apart = {"channels": ("strided", "edged"), "pixels": ("masked",)}[found.role]
        assert variant == found.role or variant.split()[0] in lies_apart
    if found.algorithm == "winograd":
        assert step.fields["multiply"].shape == ("product", found.vectors, found.width)
        assert step.fields["finish_rows"].shape[1:] == tuple(map(max, found.filtering))


@every_dtype
@every_case
def test_numbers(decided, dtype):
    shape, weight_shape, options = CASES[decided]
    conv, x = prepared(weight_shape, dtype, **options), np.zeros(shape, dtype)
    found, y = conv.explain(shape), conv(x)
    assert found.shape == shape
    assert found.out_shape == y.shape
    assert found.multiply_adds == y.size * prod(weight_shape[1:])
    assert (found.input_bytes, found.output_bytes) == (x.nbytes, y.nbytes)
    assert found.weight_bytes == prod(weight_shape) * x.itemsize
    assert found.intensity == pytest.approx(2 * found.multiply_adds / (x.nbytes + y.nbytes + found.weight_bytes))
    assert found.lanes in (lanes_of(dtype), lanes_of(dtype) // 2)
    assert 0 <= found.waste < 1
    assert found.parts == 1
    if found.algorithm != "winograd":
        needed = found.multiply_adds_done * (1 - found.waste)
        assert needed == pytest.approx(found.multiply_adds * (1 - conv._layer.bind(x, False).plan.omitted))
        assert (found.filtering, found.phases) == (None, 1)
    if found.schedule == "fused":
        assert found.multiply_adds_done < found.multiply_adds


@every_dtype
@pytest.mark.parametrize("source", ["shared", "private"])
@pytest.mark.parametrize("tile", TILE_SHAPES[TARGET.registers][::4], ids=str)
def test_multiply_adds_of_a_tile(planner, tile, source, dtype):
    """Rows of 10 outputs, 5 of them, in 2 images and 2 groups of 11 -> 33 channels; the last meets a row of padding."""
    planner.force(tile, source)
    found = prepared((66, 11, 2, 3), dtype, groups=2, padding=((0, 1), (1, 1))).explain((2, 22, 5, 10))
    lanes = lanes_of(dtype)
    if tile.role == "channels":
        pixels, block = tile.width, tile.vectors * lanes
    else:
        pixels, block = tile.vectors * lanes, tile.width
    across, last = -(-10 // pixels) * pixels, tile.last(33, lanes, 3)
    channels = (-(-33 // block) - 1) * block + last.block(lanes)
    if tile.role == "channels" and tile.vectors == 2 and TARGET.registers == 32:  # one for the 33rd channel
        assert last.vectors == 1
    assert found.multiply_adds_done == 2 * 2 * (5 * 6 - 3) * across * channels * 11
    assert found.multiply_adds == 2 * 2 * 5 * 10 * 33 * 11 * 6
    assert (found.role, found.vectors, found.width) == (tile.role, tile.vectors, tile.width)
    planner.assert_taken(tile, source)


@every_dtype
@pytest.mark.parametrize("kernel", [(1, 1), (3, 5), (6, 2), (7, 7)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(11, 10), (241, 250)], ids=str)
def test_multiply_adds_of_a_depthwise_convolution(planner, size, stride, kernel, dtype):
    """Counted strip by strip: each row of input for every output row that sees it, from the strip's first on."""
    planner.take_depthwise(depthwise)
    conv = prepared((6, 1, *kernel), dtype, groups=3, stride=stride)
    found = conv.explain((2, 3, *size))
    plan = conv._layer.bind(np.empty((2, 3, *size), dtype), False).plan
    step, rows, done = plan.steps[-1], found.out_shape[2], 0
    lanes = spec_for(plan.element, *step.kernel.shape).lanes
    for first in range(0, rows, found.rows_per_task):
        end = min(rows, first + found.rows_per_task)
        for top in range(first, end, step.fields["block_rows"]):
            bottom = min(end, top + step.fields["block_rows"])
            for seen in range(top * stride, (bottom - 1) * stride + kernel[0]):
                done += sum(row * stride <= seen < row * stride + kernel[0] for row in range(top, seen // stride + 1))
    least = {"halved": lanes // 2, "double": 2 * lanes}.get(step.kernel.shape[0].split()[0], lanes)
    done *= 12 * kernel[1] * -(-found.out_shape[3] // least) * least
    assert found.multiply_adds_done == done
    assert (found.role, found.vectors, found.width) == ("pixels", -(-kernel[0] // stride), 1)
    assert found.lanes == lanes


@pytest.mark.parametrize("schedule", ["shared", "fused"])
@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        pytest.param(form, dtype, id=f"{' '.join(map(str, form.shape))}-{dtype.__name__}")
        for forms in FORMS.values()
        for form in forms
        for dtype in DTYPES
        if form.suits(ELEMENT_TYPES[np.dtype(dtype)]) and not form.on_the_fly
    ],
)
def test_multiply_adds_of_winograd(planner, monkeypatch, form, schedule, dtype):
    """Counted task by task, product by product."""
    monkeypatch.setattr(planner, "algorithm", "winograd")
    monkeypatch.setattr(winograd_axes, "FORMS", {form.key: (form,)})
    monkeypatch.setattr(winograd, "_is_shared", lambda tiling: schedule == "shared")
    planner.forget()
    conv = prepared((70, 20, *form.kernels), dtype, padding=1, stride=form.strides, algorithm="winograd")
    found = conv.explain((3, 20, 61, 47))
    (plan,) = {id(plan): plan for plan in planner.plans}.values()
    assert plan.steps[-1].kernel.routine is ROUTINES[schedule]
    assert found.filtering == (form.tile_outputs, form.tile_taps)
    assert found.phases == prod(form.strides)

    done = 0
    last = 1 if 0 < 70 % (2 * found.lanes) <= found.lanes else 2  # vectors of the last block of channels
    down, across = (-(-size // m) for size, m in zip(found.out_shape[2:], form.tile_outputs, strict=True))
    # Each pass is two steps, the second of which multiplies.
    for fields, task in [(step.fields, task) for step in plan.steps[-1::-2] for task in range(step.tasks)]:
        rows, columns = fields["group_rows"], across
        if schedule == "shared":
            rows = min(rows, fields["images"] * down - task % fields["row_groups"] * rows)
            vectors = last if task // fields["row_groups"] == found.blocks - 1 else 2
        else:
            group, rest = task % fields["column_groups"], task // fields["column_groups"]
            rows = min(rows, down - rest % fields["row_groups"] * rows)
            columns = min(fields["group_columns"], across - group * fields["group_columns"])
            vectors = 2 * (found.blocks - 1) + last
        for first in range(0, rows * columns, found.width):
            assert first < rows * columns
            done += found.width * vectors
    phases = sum(used for _, used in form.segments)
    channels = 20 * form.fold
    assert found.blocks == -(-70 // (2 * found.lanes))
    assert found.multiply_adds_done == done * phases * channels * found.lanes
    outputs = 3 * prod(found.out_shape[2:])
    useful = outputs / prod(form.tile_outputs) * phases * channels * 70
    assert found.waste == pytest.approx(1 - useful / found.multiply_adds_done)


def networks():
    """Give layers of networks: name, convolution without memory for its weights, shape of x."""
    for case in conv_cases():
        weight = np.broadcast_to(np.float32(0), (case.out_c, case.c // case.groups, case.kh, case.kw))
        conv = fastpool.Conv2d(weight, None, case.stride, case.pad, case.dilation, case.groups)
        yield case, conv, case.input_shape


def test_reasons_are_true_for_the_layers_of_networks():
    algorithms = set()
    for case, conv, shape in networks():
        found = conv.explain(shape)
        algorithms.add(found.algorithm)
        x = np.empty(shape, np.float32)
        bound, (problem, _) = conv._layer.bind(x, False), conv._layer.problem(x, False)
        forms = [expected_cycles(problem, form) for form in forms_for(problem)]
        if found.algorithm == "winograd":
            assert "directly" in found.why.algorithm
            assert bound.plan.cycles == min(forms)
        elif found.algorithm == "direct":
            assert ("Winograd needs" in found.why.algorithm) == (not forms)
            assert all(plans._least_gain(problem) * found.cycles <= cycles for cycles in forms)
            cycles = tile_cycles(problem, bound.plan)
            assert cycles[bound.form] == min(cycles.values()), f"{case.id}: {found.why.tile}"
        else:
            assert case.groups == case.c
        assert found.tasks >= 1
        assert found.rows_per_task <= found.out_shape[0] * found.out_shape[2]
        assert found.blocks_per_task <= found.blocks
        assert all(vars(found.why).values())
    assert algorithms == {"direct", "depthwise", "winograd"}


def test_tiles_are_compared_as_the_planner_does(monkeypatch):
    """The tile that costs least on the plan's own rows is the planner's choice for them."""
    conv, x = prepared((70, 9, 2, 3)), np.empty((1, 9, 20, 33), np.float32)
    bound, (problem, _), grids = conv._layer.bind(x, False), conv._layer.problem(x, False), []
    with monkeypatch.context() as patch:
        patch.setattr(tile_choice, "direct_cycles", lambda problem, tile, grid: grids.append(grid) or 1.0)
        tile_cycles(problem, bound.plan)
    assert choose_tile(problem, grids[0]) == bound.form


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_without_a_batch(axes):
    sizes = (9, 12, 14)[-axes:]
    conv = prepared((8, 6, *(3,) * axes), padding=1)
    alone, batched = conv.explain((6, *sizes)), conv.explain((1, 6, *sizes))
    assert alone.shape == (6, *sizes)
    assert alone.out_shape == batched.out_shape[1:] == conv(np.zeros((6, *sizes), np.float32)).shape
    assert alone.multiply_adds == batched.multiply_adds
    assert alone.why == batched.why
    assert f"Conv{axes}d {'x'.join('3' * axes)}, 6 -> 8 channels, float32" in str(alone)
    assert conv.explain([6, *map(np.int64, sizes)]) == alone


@pytest.mark.parametrize(
    "shape",
    [(6, 9), (), (2, 2, 6, 9, 9), (1, 5, 9, 9), (6, 9, 0), (1, 0, 9, 9), (6, 1, 1), (1, 6, 9, 2)],
    ids=str,
)
def test_bad_shapes_are_refused_as_by_a_call(shape):
    conv = prepared((8, 6, 3, 3))
    with pytest.raises(ValueError, match="must") as refused:
        conv(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="must") as explained:
        conv.explain(shape)
    assert str(explained.value) == str(refused.value)


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        (np.zeros((1, 6, 9, 9), np.float32), TypeError),
        (5, TypeError),
        (None, TypeError),
        ("1699", TypeError),
        ((1, 6, 9.0, 9), TypeError),
        ((True, 6, 9, 9), TypeError),
        ((1, 6, None, 9), TypeError),
        ((1, 6, -1, 9), ValueError),
        ((1, 6, 2**31, 9), ValueError),
        ((1, 6, 10**5000, 9), ValueError),
        ((2**31 - 1, 6, 2**31 - 1, 2**31 - 1), ValueError),
        ((1,) * 100, ValueError),
        ((0, 6, 9, 9), ValueError),
    ],
    ids=lambda value: str(type(value)),
)
def test_what_is_no_shape_is_refused(shape, error):
    with pytest.raises(error, match=r"^x(\.shape\[\d\])? must"):
        prepared((8, 6, 3, 3)).explain(shape)


def test_nothing_is_computed_or_allocated(monkeypatch):
    monkeypatch.setattr(runtime, "launch", None)
    found = prepared((64, 64, 3, 3), padding=1).explain((256, 64, 4096, 4096))
    assert found.input_bytes == 2**40
    assert found.workspace_bytes < 2**25


def test_threads():
    large, small = (8, 16, 64, 64), (16, 4, 4)
    conv = prepared((32, 16, 3, 3))
    assert conv.explain(small).threads == 1
    with fastpool.threads(1):
        assert conv.explain(large).threads == 1
        assert "allowed" in conv.explain(large).why.threads
    most = runtime.engine().maximum
    assert conv.explain(large).threads == most
    if most > 1:
        assert "do not pay" in conv.explain(small).why.threads
        assert " pay for" in conv.explain(large).why.threads


@every_case
def test_text(decided):
    shape, weight_shape, options = CASES[decided]
    found = prepared(weight_shape, **options).explain(shape)
    lines = str(found).splitlines()
    assert str(shape) in lines[0]
    assert str(found.out_shape) in lines[0]
    assert max(map(len, lines)) <= 120
    assert 10 <= len(lines) <= 18
    labels = [line[:16].strip() for line in lines[1:] if line[2] != " "]
    source = "schedule" if found.schedule else "source"
    assert labels == [
        *("algorithm", "tile", source, "blocking", "threads", "multiply-adds", "memory", "prepared", "workspace")
    ]
    assert all(line[15] == " " and line[16] != " " for line in lines[1:])
    text = " ".join(str(found).split())
    for reason in vars(found.why).values():
        assert reason in text
    assert f"{found.schedule or found.source}: " in text
    assert pickle.loads(pickle.dumps(found)) == found
    assert hash(found) == hash(pickle.loads(pickle.dumps(found)))


#: What a task packs for itself, in words -> shape of x and weight, options, parts of the sums.
CUTS = {
    "a task's rows take": ((1, 64, 120, 130), (8, 64, 3, 3), {}, 1),
    "a task's row takes": ((1, 512, 60, 100), (8, 512, 3, 3), {}, 1),
    "a task's part of a row takes": ((4, 64, 100_000), (8, 64, 3), {}, 1),
    "would mostly be packed twice": (
        (1, 512, 80, 400),
        (8, 512, 3, 3),
        {"dilation": 150, "padding": 150, "padding_mode": "replicate"},
        1,
    ),
    "for a part of the channels": ((1, 64, 300_000), (4, 64, 100_000), {}, 4),
    "for a part of the taps": ((1, 1, 3100, 3100), (1, 1, 3000, 3000), {}, 4),
}


@pytest.mark.usefixtures("without_panels")
@pytest.mark.parametrize("words", CUTS)
def test_cuts_of_what_a_task_packs(monkeypatch, words):
    monkeypatch.setattr(plans, "suits_masked_rows", lambda problem: False)  # of few channels
    shape, weight_shape, options, parts = CUTS[words]
    options = {"padding": 1, "algorithm": "direct"} | options
    weight = np.broadcast_to(np.float32(0), weight_shape)
    conv = getattr(fastpool, f"Conv{len(shape) - 2}d")(weight, **options)
    found, x = conv.explain(shape), np.broadcast_to(np.float32(0), (1,) * len(shape))
    x = np.lib.stride_tricks.as_strided(x, shape, [4 * prod(shape[i + 1 :]) for i in range(len(shape))])
    plan = conv._layer.bind(x, False).plan
    assert words in found.why.source
    assert found.parts == parts == len(plan.steps)
    assert (f", {parts} times" in str(found)) == (parts > 1)
    # What a task computes, from the ranges that the kernel takes.
    fields = plan.steps[-1].fields
    assert {step.tasks for step in plan.steps} == {found.tasks}
    assert found.tasks == prod(shape[: -len(shape) + 1]) * fields["row_tasks"] * fields["tile_tasks"]
    rows, tiles = (
        max((n + 1) * fields[all_] // fields[cut] - n * fields[all_] // fields[cut] for n in range(fields[cut]))
        for all_, cut in [("out_rows", "row_tasks"), ("tiles", "tile_tasks")]
    )
    assert (found.rows_per_task, found.tiles_per_task) == (rows, rows * tiles)
    assert ("part of a row" in found.why.source) == (fields["tile_tasks"] > 1)
    assert ("rows take" in found.why.source) == (rows > 1)
    # All weights are summed once, in order.
    summed = [step.fields["channels"] * step.fields["taps"] * fields["block"] for step in plan.steps]
    assert [step.fields["first_weight"] for step in plan.steps] == [sum(summed[:n]) for n in range(parts)]
    assert sum(summed) == fields["weights_block"] == prod(weight_shape[1:]) * fields["block"]
    assert found.workspace_bytes <= found.threads * 2**24


def fields_of(shape, out_channels, kernel=1, **options):
    """Fields of the last step of a direct convolution of an array of such a shape, that is not there."""
    conv = fastpool.Conv2d(
        np.zeros((out_channels, shape[1] // options.get("groups", 1), kernel, kernel), np.float32),
        algorithm="direct",
        **options,
    )
    x = np.broadcast_to(np.float32(0), (1,) * 4)
    x = np.lib.stride_tricks.as_strided(x, shape, [4 * prod(shape[i + 1 :]) for i in range(4)])
    return conv._layer.bind(x, False).plan.steps[-1].fields


@pytest.mark.usefixtures("without_panels")
@pytest.mark.parametrize(
    ("channels", "size", "images", "stride"),
    [
        (512, 80, 1, 1),
        pytest.param(64, 222, 2, 2, marks=pytest.mark.skipif(TARGET.registers == 16, reason="packs strided pixels")),
        (128, 100, 4, 1),
    ],
)
def test_pixels_of_a_task_stay_in_the_level_2_cache(channels, size, images, stride):
    """Where each of several blocks of channels reads them."""
    shape = images, channels, size, size
    fields = fields_of(shape, 256, stride=stride)
    assert (fields["source"], fields["blocks_outermost"]) == (IN_PLACE, 0)
    assert fields["blocks_per_task"] == fields["blocks"] > 1
    parts = fields["row_tasks"] * fields["tile_tasks"]
    assert 4 * prod(shape[1:]) / parts <= LEVEL_2_BYTES / 4
    assert fields["tasks"] == images * parts


@pytest.mark.usefixtures("without_panels")
def test_weights_pass_by_more_images_than_the_cache_holds():
    """One image, or four, pass by weights of which there are more."""
    found = [fields_of((images, 1024, 14, 14), 256)["blocks_outermost"] for images in (1, 4, 16)]
    assert found == [1, 1, 0]


@pytest.mark.usefixtures("without_panels")
@pytest.mark.parametrize(("images", "size"), [(4, (7, 5)), (1, (3, 4)), (8, (6, 6))])
def test_small_maps_are_read_in_place_by_narrower_tiles(images, size):
    """Packed, they could fill wider ones."""
    fields = fields_of((images, 9 * 32, *size), 16 * 32, groups=32)
    assert fields["source"] == IN_PLACE
    assert fields["pixels"] <= fields["out_columns"] == prod(size)


@pytest.mark.usefixtures("without_panels")
def test_pixels_that_are_in_no_level_2_cache_are_fetched_ahead():
    bytes_of_all = THREADS * LEVEL_2_BYTES
    size = 1 + int((bytes_of_all / 4 / 64) ** 0.5)
    fields = fields_of((1, 64, size, size), 64)
    assert fields["x_ahead"] == 2 * fields["pixels"]
    strided = fields_of((1, 64, size, size + 1), 64, stride=2)
    assert strided["x_ahead"] == 2 * (size + 1)
    assert fields_of((1, 64, size - 1, size - 1), 64)["x_ahead"] == 0
    assert fields_of((1, 64, size, size), 64, kernel=3)["x_ahead"] == 0


def test_a_part_of_a_row_that_is_one_tile(planner, monkeypatch):
    planner.force(source="private, row by row")
    monkeypatch.setattr(reasons, "PRIVATE_ROW_BYTES", 1)
    found = prepared((8, 4, 3, 3), padding=1).explain((1, 4, 20, 300))
    assert "a task's part of a row takes" in found.why.source
    assert found.why.source.endswith(": one tile")
    assert (found.rows_per_task, found.tiles_per_task) == (1, 1)


@pytest.mark.usefixtures("without_panels")
def test_the_reason_follows_the_choice(monkeypatch):
    plain = prepared((64, 64, 3, 3), padding=1, algorithm="direct")
    assert 'algorithm="direct"' in plain.explain((1, 64, 56, 56)).why.algorithm
    asked = prepared((64, 64, 3, 3), padding=1, algorithm="winograd")
    assert 'algorithm="winograd"' in asked.explain((1, 64, 56, 56)).why.algorithm
    with monkeypatch.context() as patch:
        patch.setattr(plans, "_least_gain", lambda problem: 1e-3)
        Planner.forget()
        assert "too little less" in prepared((64, 64, 3, 3), padding=1).explain((1, 64, 56, 56)).why.algorithm
    Planner.forget()
    options = {"padding": 1, "stride": 2, "dilation": 2, "algorithm": "winograd"}
    impossible = prepared((64, 64, 3, 3), **options).explain((1, 64, 56, 56))
    assert impossible.algorithm == "direct"
    assert "Winograd needs" in impossible.why.algorithm
    monkeypatch.setattr(plans, "suits_joined", lambda problem: False)  # whose rows are
    for options, word in [({"stride": 3, "padding": 1}, "stride"), ({"padding": 1}, "padding"), ({}, "shorter")]:
        found = prepared((64, 16, 4, 4), algorithm="direct", **options).explain((1, 16, 5, 5))
        assert found.source in ("packed shared", "packed by each thread")
        assert word in found.why.source
    strided = prepared((64, 256, 1, 1), stride=2).explain((1, 256, 56, 56))
    assert strided.source == "in place"
    assert "2 apart" in strided.why.source
    assert prepared((64, 64, 1, 1)).explain((1, 64, 32, 32)).source == "in place"
    aliased = prepared((512, 64, 1, 1), stride=2).explain((1, 64, 64, 64))
    assert aliased.source in ("packed shared", "packed by each thread")
    assert "cache sets" in aliased.why.source
    heavy, light = prepared((512, 256, 2, 2)).explain((1, 256, 6, 6)), prepared((8, 8, 2, 2)).explain((1, 8, 60, 60))
    assert "keeps its weights" in heavy.why.blocking
    assert heavy.blocks_per_task == max(1, heavy.blocks // 16)
    assert "keeps its pixels" in light.why.blocking
    assert light.blocks_per_task == light.blocks


#: (dtype of x, of weights) -> dtype of the sums.
INTEGERS = {("int8", "uint8"): "int32", ("int16", "int8"): "int64", ("int64", "int32"): "int64"}


@pytest.mark.parametrize(("dtypes", "sums"), INTEGERS.items(), ids=str)
@pytest.mark.parametrize("groups", [1, 12])
def test_integers(dtypes, sums, groups):
    x = np.ones((2, 12, 20, 21), dtypes[0])
    conv = fastpool.Conv2d(np.ones((24, 12 // groups, 3, 3), dtypes[1]), padding=1, groups=groups)
    found, y = conv.explain(x.shape, x.dtype), conv(x)
    assert y.dtype == sums
    assert str(found).splitlines()[0].count(f"{dtypes[0]} x {dtypes[1]} in {sums}") == 1
    (summing,) = conv._sums.values()
    bound = summing._layer.bind(x, False)
    (kept,) = summing._packed.values()
    assert found.tasks == bound.plan.steps[-1].tasks
    assert bound.plan.steps[-1].kernel.routine is ROUTINES[found.algorithm]
    assert (found.input_bytes, found.weight_bytes, found.output_bytes) == (x.nbytes, conv._weight.nbytes, y.nbytes)
    assert found.prepared_weight_bytes == (0 if kept is conv._weight else kept.nbytes)
    assert found.workspace_bytes == bound.plan.workspace(found.threads)
    if found.algorithm == "direct":
        assert "integers" in found.why.algorithm
        assert ("widens" in found.why.source) == (dtypes[0] != sums)


def test_dtypes_are_refused_as_by_a_call():
    of_floats, of_integers = prepared((8, 6, 3, 3)), fastpool.Conv2d(np.ones((8, 6, 3, 3), np.int8))
    for conv, dtype in [
        (of_floats, "f8"),
        (of_floats, "i4"),
        (of_floats, "c8"),
        (of_integers, "f4"),
        (of_integers, "u8"),
    ]:
        with pytest.raises(TypeError, match=r"^x must") as refused:
            conv(np.zeros((6, 9, 9), dtype))
        with pytest.raises(TypeError, match=r"^x must") as explained:
            conv.explain((6, 9, 9), dtype)
        assert str(explained.value) == str(refused.value)
    with pytest.raises(TypeError, match=r"^dtype must"):
        of_floats.explain((6, 9, 9), "float31")
    assert of_floats.explain((6, 9, 9), np.dtype("f4").newbyteorder()) == of_floats.explain((6, 9, 9))


@pytest.mark.skipif(TARGET.registers == 16, reason="panels are packed instead")
def test_why_each_task_packs_for_itself():
    """As all of x would take too much, or as few channels could not be shared out."""
    stem = prepared((48, 1, 7, 7), stride=4, padding=3, algorithm="direct")
    few, much = stem.explain((4, 1, 32, 32)), prepared((64, 64, 2, 2), stride=3, padding=2).explain((1, 64, 160, 160))
    assert {few.source, much.source} == {"packed per task"}
    assert "of 4 channels to pack, threads would have uneven shares" in few.why.source
    assert "above" not in few.why.source
    assert "all of x would take 3.10 MB, above 2.10 MB" in much.why.source


@pytest.mark.skipif(TARGET.registers > 16, reason="reads x in place")
def test_panels_are_explained():
    """Of a thread where its tasks keep weights, else of a task; in parts where a tile would see more than fits."""
    few, many = prepared((256, 64, 1, 1)).explain((1, 64, 9, 9)), prepared((64, 64, 1, 1)).explain((1, 64, 60, 61))
    assert (few.source.startswith("packed"), many.source) == (True, "packed per task")
    assert f"{ceil_div(81, few.width if few.role == 'channels' else few.vectors * few.lanes)} panels of an image" in (
        few.why.source
    )
    assert f"{many.tiles_per_task} panels of a task" in many.why.source
    assert "keeps its weights" in few.why.blocking
    assert "keeps what it packed" in many.why.blocking
    deep = prepared((512, 512, 3, 3), stride=2, padding=1, algorithm="direct").explain((1, 512, 14, 14))
    assert deep.parts == 3
    assert "all channels and taps of a tile" in deep.why.source
