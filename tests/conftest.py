"""What the test files share: comparison of results, data, arrays in awkward or watched memory, forced plans."""

import ctypes
import dataclasses
import gc
import itertools
import mmap
import os
import sys

import numpy as np
import pytest
from sweeps import leave_out, pytest_addoption, pytest_configure  # noqa: F401 (hooks)

# Workers side by side would spin at their barriers while another worker has the core that they wait for.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import fastpool
from fastpool import layer, oracle, runtime
from fastpool.dtypes import ELEMENT_TYPES
from fastpool.machine.processor import THREADS
from fastpool.plans import convolution as plans
from fastpool.plans import direct, flatpool, panels, private, shortpool, smallpool, winograd_axes
from fastpool.routines import direct as routines
from fastpool.routines.channelwise import channelwise
from fastpool.routines.depthwise import depthwise
from fastpool.routines.direct import IN_PLACE, OWN, PRIVATE, SHARED
from fastpool.routines.routine import lanes as lanes_for

# Compiling makes millions of objects and no garbage worth going through all the tests for, an eighth of the time.
gc.set_threshold(50_000, 20, 20)

#: Largest error of a result, as a part of its largest element.
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12, np.dtype(np.float16): 2.0**-10}
DTYPES = (np.float32, np.float64)
try:
    from ml_dtypes import bfloat16
except ImportError:
    HALVES = (np.float16,)
else:
    HALVES = (np.float16, bfloat16)
    TOLERANCE[np.dtype(bfloat16)] = 2.0**-7  # one unit in the last place, as for float16

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
needs_threads = pytest.mark.skipif(THREADS < 2, reason="one processor")
needs_mprotect = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")

#: What stands around a watched array; no computation gives it.
SENTINEL = -123.456


def assert_close(ours, reference, scale=0.0):
    """Require shape, dtype, the pattern of NaN and infinities, and every element to the tolerance of its dtype.

    It is relative to the largest element, or to `scale`, if that is more: of sums which cancel. A pair (values,
    indices) has to agree in both, and integers exactly.
    """
    if isinstance(reference, tuple):
        assert isinstance(ours, tuple)
        for part, wanted in zip(ours, reference, strict=True):
            assert_close(part, wanted)
        return
    assert type(ours) is np.ndarray
    assert ours.dtype == reference.dtype
    assert ours.dtype.isnative
    assert ours.shape == reference.shape
    if ours.dtype not in TOLERANCE:
        np.testing.assert_array_equal(ours, reference)
        return
    tolerance = TOLERANCE[ours.dtype]
    if ours.itemsize == 2:
        ours, reference = ours.astype(np.float32), reference.astype(np.float32)
    finite = np.isfinite(reference)
    np.testing.assert_array_equal(ours[~finite], reference[~finite])
    wanted = reference[finite].astype(np.float64)
    largest = np.abs(wanted).max(initial=scale)
    np.testing.assert_allclose(ours[finite], wanted, rtol=0, atol=tolerance * largest)


def native(a):
    """Give `a` in the byte order of the processor, as the oracle wants it."""
    return a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("="))


def lanes_of(dtype):
    """Elements of a vector."""
    return lanes_for(ELEMENT_TYPES[np.dtype(dtype)])


def assert_same_bits(conv, x):
    """Require the same bits for any number of threads, and again."""
    results = set()
    for threads in (1, 2, 2, 1):
        with fastpool.threads(threads):
            results.add(conv(x).tobytes())
    assert len(results) == 1


def integers(seed, shape, dtype, limit=9):
    """Whole numbers in [-limit, limit]: sums of their products are exact, in any order and in float32 too."""
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape).astype(dtype)


def noise(seed, shape, dtype):
    """Give normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def with_ties_and_nan(seed, shape, dtype):
    """Few values, so that there are many ties, among them both infinities and NaN."""
    values = [-2.0, -1.0, 0.0, 1.0, 2.0, -np.inf, np.inf, np.nan]
    chances = [0.19, 0.18, 0.18, 0.18, 0.15, 0.05, 0.03, 0.04]
    return np.random.default_rng(seed).choice(values, size=shape, p=chances).astype(dtype)


# ------------------------------------------------------------------------------------------- convolutions of integers

INTEGER_DTYPES = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32)


def sums_of(dtype, weight_dtype):
    """Dtype of the sums, and of the result."""
    return np.int32 if np.dtype(dtype).itemsize == np.dtype(weight_dtype).itemsize == 1 else np.int64


def draw(seed, shape, dtype):
    """Integers over the whole range of the dtype, its ends among them: sums of products of wide ones wrap."""
    limits, random = np.iinfo(dtype), np.random.default_rng(seed)
    values = random.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    ends = random.random(shape)
    values[ends < 0.1], values[ends > 0.9] = limits.min, limits.max
    return values


def scattered(x, weight, bias, stride, padding, output_padding, groups, dilation):
    """Transposed convolution of any rank: every input adds its multiple of the filters to the output."""
    sums, axes = sums_of(x.dtype, weight.dtype), weight.ndim - 2
    batch, (channels, group_out, *kernel) = x.shape[: -axes - 1], weight.shape
    of_x = x.astype(sums).reshape(*batch, groups, channels // groups, *x.shape[-axes:])
    of_weight = weight.astype(sums).reshape(groups, channels // groups, group_out, *kernel)
    full = [(n - 1) * stride + dilation * (k - 1) + 1 for n, k in zip(x.shape[-axes:], kernel, strict=True)]
    y = np.zeros((*batch, groups * group_out, *(n + output_padding for n in full)), sums)
    for taps in itertools.product(*map(range, kernel)):
        products = np.einsum("...gcs,gco->...gos", of_x.reshape(*of_x.shape[:-axes], -1), of_weight[(..., *taps)])
        starts = [tap * dilation for tap in taps]
        part = tuple(slice(a, a + (n - 1) * stride + 1, stride) for a, n in zip(starts, x.shape[-axes:], strict=True))
        y[(..., *part)] += products.reshape(*batch, -1, *x.shape[-axes:])
    y = y[(..., *(slice(padding, n - padding) for n in y.shape[-axes:]))]
    return y if bias is None else y + bias.astype(sums).reshape(-1, *(1,) * axes)


# --------------------------------------------------------------------------- the same values, differently in memory


def _misaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert a.size == 0 or a.itemsize == 1 or not view.flags.aligned
    return view


def _uneven(a):
    """Elements that are no whole number of elements apart."""
    records = np.zeros(a.shape, [("before", np.int8), ("value", a.dtype)])
    records["value"] = a
    return records["value"]


def filler(dtype):
    """What no input may hold: NaN, or the least integer."""
    if dtype.kind == "b":
        return True
    return np.iinfo(dtype).min if dtype.kind in "iu" else np.nan


def _spread(a, *steps):
    """Elements some steps apart along the last axes, with NaN (or the least integer) between them."""
    shape = (*a.shape[: a.ndim - len(steps)], *(n * s for n, s in zip(a.shape[-len(steps) :], steps, strict=True)))
    wide = np.full(shape, filler(a.dtype), a.dtype)
    view = wide[(..., *(slice(None, None, step) for step in steps))]
    view[...] = a
    return view


def _within(a):
    """A window of a larger array full of NaN, or of the least integer."""
    frame = np.full([n + 3 for n in a.shape], filler(a.dtype), a.dtype)
    view = frame[tuple(slice(1, n + 1) for n in a.shape)]
    view[...] = a
    return view


def _read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def _backwards(a, *axes):
    flipped = np.flip(a, axes)
    return np.flip(np.ascontiguousarray(flipped), axes)


def _channels_last(a):
    channels = min(1, a.ndim - 1)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, channels, -1)), -1, channels)


#: name -> function that gives an equal array with other strides, alignment or byte order.
LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "columns reversed": lambda a: _backwards(a, a.ndim - 1),
    "all reversed": lambda a: _backwards(a, *range(a.ndim)),
    "first axis reversed": lambda a: _backwards(a, 0),
    "columns first": np.asfortranarray,
    "channels last": _channels_last,
    "every second column": lambda a: _spread(a, 2),
    "every third row": lambda a: _spread(a, 3, 1) if a.ndim > 1 else _spread(a, 3),
    "within a larger one": _within,
    "misaligned": _misaligned,
    "uneven": _uneven,
    "byte-swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "byte-swapped and spread": lambda a: _spread(a.astype(a.dtype.newbyteorder()), 2),
    "read-only": _read_only,
}


# -------------------------------------------------------------------------------------------------- watched memory


def between(values, fill, margin=160):
    """Give a contiguous copy of `values` with `fill` before and after it."""
    buffer = np.full(values.size + 2 * margin, fill, values.dtype)
    view = buffer[margin : margin + values.size].reshape(values.shape)
    view[...] = values
    return view


class Frame:
    """An array to write to, within a larger one that has to stay as it is."""

    def __init__(self, shape, dtype, contiguous=True, step=2):
        self.sentinel = dtype(SENTINEL)
        if contiguous:
            self.array = between(np.full(shape, self.sentinel), self.sentinel)
            self.whole = self.array.base
        else:
            self.whole = np.full([step * n + 4 for n in shape], self.sentinel)
            self.array = self.whole[tuple(slice(2, 2 + step * n, step) for n in shape)]
        assert self.array.shape == tuple(shape)
        assert not self.array.size or np.shares_memory(self.array, self.whole)

    def assert_kept(self):
        """Require that nothing around the array has changed."""
        self.array[...] = self.sentinel
        np.testing.assert_array_equal(self.whole, np.full_like(self.whole, self.sentinel))


class GuardedMemory:
    """Arrays that end, or begin, at a page that may not be touched: a single byte too far kills the process."""

    def __init__(self):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._kept = []

    def array(self, values, at_end):
        """Give a copy of `values` with the forbidden page right after it, or right before it."""
        page = mmap.PAGESIZE
        pages = -(-values.nbytes // page) + 2
        memory = mmap.mmap(-1, pages * page)
        self._kept.append(memory)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for forbidden in (start, start + (pages - 1) * page):
            if self._libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        first = (pages - 1) * page - values.nbytes if at_end else page
        view = np.frombuffer(memory, values.dtype, values.size, first).reshape(values.shape)
        view[...] = values
        return view


# ---------------------------------------------------------------------------------------------------- convolutions


def telling_tiles(tiles, step=4):
    """Of each role and number of vectors the widest tile, the narrowest, and some between: their code is one.

    Of all between, one in every `step` of them; None stands for the two ends alone.
    """
    groups = {}
    for tile in tiles:
        groups.setdefault((tile.role, tile.vectors), []).append(tile)
    found = []
    for group in groups.values():
        by_width = sorted(group, key=lambda tile: -tile.width)
        found += dict.fromkeys([*by_width[:: step or len(by_width)], by_width[-1]])
    return found


class Prefixes:
    """Convolutions of all smaller sizes from one result: without padding at the end, parts of x give parts of it.

    All numbers are whole and above zero, so that nothing cancels and errors show in relation to the result.
    """

    def __init__(
        self, dtype, groups, group_in, group_out, size, kernel, stride=(1, 1), begin=(0, 0), images=2, dilation=(1, 1)
    ):
        self._kernel, self._stride, self._begin, self._dilation = kernel, stride, begin, dilation
        self.dtype, self._groups, self._group_in, self._images = dtype, groups, group_in, images
        self._x = integers(1, (images, groups * group_in, *map(self._reach, size, range(2))), dtype, 4) + 5
        self._weight = integers(2, (groups, group_out, group_in, *kernel), dtype, 2) + 3
        self._bias = integers(3, (groups, group_out), dtype, 4) + 5
        self._residual = integers(4, (images, groups, group_out, *size), dtype, 4) + 5
        self._options = {"stride": stride, "padding": tuple((b, 0) for b in begin), "groups": groups}
        self._options["dilation"] = dilation
        weight, bias = self._weight.reshape(-1, group_in, *kernel), self._bias.reshape(-1)
        self._result = oracle.conv2d(self._x, weight, bias, **self._options).reshape(self._residual.shape)

    def _reach(self, outputs, axis):
        """Elements that so many outputs see."""
        filter_reach = (self._kernel[axis] - 1) * self._dilation[axis] + 1
        return (outputs - 1) * self._stride[axis] + filter_reach - self._begin[axis]

    def check(self, channels, rows, columns, place, place_out, **options):
        """Compute so many channels of each group, rows and columns, with arrays put into memory by two functions."""
        part = np.s_[:, :, :channels, :rows, :columns]
        shape = (self._images, self._groups * channels, rows, columns)
        x = place(np.ascontiguousarray(self._x[..., : self._reach(rows, 0), : self._reach(columns, 1)]))
        weight = place(self._weight[:, :channels].reshape(-1, self._group_in, *self._kernel))
        bias, residual = place(self._bias[:, :channels].reshape(-1)), place(self._residual[part].reshape(shape))
        out = place_out(shape)
        assert fastpool.conv2d(x, weight, bias, residual=residual, out=out, **self._options, **options) is out
        assert_close(out, (self._result + self._residual)[part].reshape(shape))

    def check_guarded(self, channels, rows, columns, at_end, **options):
        """Do so with every array at a forbidden page."""
        memory = GuardedMemory()
        zeros = lambda shape: memory.array(np.zeros(shape, self.dtype), at_end)  # noqa: E731
        self.check(channels, rows, columns, lambda a: memory.array(a, at_end), zeros, **options)


#: Source of a direct convolution -> limits that make a plan take it, where the input cannot be read in place.
LIMITS = {
    "shared": {"SHARED_BYTES": 2**60, "_packs_alone": lambda *_: False},
    "own": {"SHARED_BYTES": 2**60, "_packs_alone": lambda *_: True},
    "private": {"SHARED_BYTES": 0, "SHARED_LIMIT": 0, "PRIVATE_BYTES": 2**60},
    "private, row by row": {"SHARED_BYTES": 0, "SHARED_LIMIT": 0, "PRIVATE_BYTES": 1, "PRIVATE_ROW_BYTES": 1},
    "private, in parts": {
        "SHARED_BYTES": 0,
        "SHARED_LIMIT": 0,
        "PRIVATE_BYTES": 1,
        "PRIVATE_ROW_BYTES": 1,
        "SCRATCH_LIMIT": 1200,
    },
}
#: The same of panels, which floats take on processors with 16 registers.
OF_PANELS = {
    "panels": {"_keeps_weights": lambda problem: False, "PRIVATE_BYTES": 1, "_LEAST_TILES": 1},
    "panels, shared": {"_keeps_weights": lambda problem: problem.groups == 1, "pays_alone": lambda *_: False},
    "panels, own": {"_keeps_weights": lambda problem: problem.groups == 1, "pays_alone": lambda *_: True},
    "panels, in parts": {"_keeps_weights": lambda problem: False, "_MOST_STEPS": 3},
    "panels, shared, in parts": {"_keeps_weights": lambda problem: True, "_MOST_STEPS": 3},
}
TAKEN = {
    source: IN_PLACE if source == "in place" else SHARED if "shared" in source else OWN if "own" in source else PRIVATE
    for source in ("in place", *LIMITS, *OF_PANELS)
}


def is_without_gaps(problem, grid, tile):
    """Whether nothing parts the pixels of a row of x, and the best tile is no wider than a row."""
    return not problem.is_padded and not direct.lie_apart(problem) and tile == direct.choose_tile(problem, grid)


def may_be_in_place(problem, grid, tile):
    """Whether tiles of channels can read x in place, be it faster or not."""
    return not (problem.is_padded and direct.lie_apart(problem)) or direct._edges(problem, grid, tile) is not None


class Planner:
    """Keeps the plans of convolutions, which are direct (or depthwise), and makes them take a tile or a source."""

    algorithm = "direct"

    def __init__(self, patch):
        self._patch, self.plans = patch, []

        def recorded(problem):
            plan, form = plans.plan_convolution(dataclasses.replace(problem, algorithm=self.algorithm))
            self.plans.append(plan)
            return plan, form

        patch.setattr(layer, "plan_convolution", recorded)
        self.forget()

    @staticmethod
    def forget():
        """Let everything be decided anew."""
        plans.plan_convolution.cache_clear()
        winograd_axes.arranged.cache_clear()
        winograd_axes.as_images.cache_clear()
        layer._layers.clear()

    def force(self, tile=None, source=None):
        """Let all further plans take this tile, and this source unless the input can be read in place."""
        if tile is not None or source is not None:
            self._patch.setattr(plans, "is_depthwise", lambda problem: False)
            self._patch.setattr(plans, "is_channelwise", lambda problem: False)
            for suits in ("suits_runs", "suits_masked_rows", "suits_joined"):
                self._patch.setattr(plans, suits, lambda problem: False)
            self._patch.setattr(plans, "live_taps", lambda problem: None)  # tiles are for the filter as it is
        if tile is not None:
            for module in (direct, panels):
                self._patch.setattr(module, "choose_tile", lambda *_: tile)
            if tile.role == "pixels":
                self._patch.setattr(direct, "_suits_in_place", is_without_gaps)
            elif source == "in place":
                self._patch.setattr(direct, "_suits_in_place", may_be_in_place)
        if source in OF_PANELS:
            self._patch.setattr(panels, "_stays_in_place", lambda problem: False)
            self._patch.setattr(panels, "_parts_planes", lambda *_: False)
            self._patch.setattr(panels, "_LEAST_STEPS", 1)
            self._patch.setattr(panels, "_LEAST_OUT", 1)
            self._patch.setattr(plans, "_cycles_without_panels", lambda *_: np.inf)
            self._patch.setattr(plans, "_cycles_in_place", lambda *_: np.inf)
            self._patch.setattr(plans, "packs_little", lambda *_: False)
            for name, value in OF_PANELS[source].items():
                self._patch.setattr(panels, name, value)
        elif source is not None:
            self._patch.setattr(plans, "suits_panels", lambda problem: False)
        if source in LIMITS:
            # Edged tiles read in place, and so do pixels that lie apart.
            self._patch.setattr(direct, "_edges", lambda *_: None)
            self._patch.setattr(direct, "_suits_in_place", is_without_gaps)
        for name, value in LIMITS.get(source, {}).items():
            self._patch.setattr(direct if hasattr(direct, name) else private, name, value)
        self.forget()

    def take_depthwise(self, routine):
        """Let all further plans of depthwise convolutions take this routine, be the other one faster or not."""
        other = {depthwise: "is_channelwise", channelwise: "is_depthwise"}[routine]
        self._patch.setattr(plans, other, lambda problem: False)
        self._patch.setattr(plans, "_most_of_depthwise", lambda problem: 0.0)
        self.forget()

    def assert_taken(self, tile=None, source=None):
        """Require that every plan since the last call took this tile and source."""
        assert self.plans
        for plan in self.plans:
            fields = plan.steps[-1].fields
            if tile is not None:
                variant, *shape = fields["row_of_tiles"].shape
                assert shape == [tile.vectors, tile.width]
                assert variant == tile.role or (tile.role == "channels" and variant.split()[0] in ("strided", "edged"))
            if source is not None:
                assert fields["source"] == TAKEN[source]
                assert bool(fields["panel"]) == (source in OF_PANELS)
                parts = sum(step.kernel.routine is routines.direct for step in plan.steps)
                assert parts > 1 or source not in OF_PANELS or "in parts" not in source
            if source in ("private, row by row", "private, in parts"):
                assert fields["row_tasks"] == fields["out_rows"]
        self.plans.clear()


def pytest_collection_modifyitems(config, items):
    """Begin with the files that read assembly: what they compile is kept for the others, whose code has no text."""
    leave_out(config, items)
    items.sort(key=lambda item: item.path.stem not in ("test_kernels", "test_hot_loops"))


@pytest.fixture
def planner(monkeypatch):
    """Give a `Planner`; plans made under it are forgotten afterwards."""
    yield Planner(monkeypatch)
    Planner.forget()


def planner_that(take):
    """Fixture of a `Planner` for which `take` has patched what plans are chosen by."""

    @pytest.fixture
    def taking(planner, monkeypatch):
        take(monkeypatch)
        planner.forget()
        return planner

    return taking


@pytest.fixture
def without_panels(monkeypatch):
    """Let no plan pack panels: what processors with 32 registers do."""
    monkeypatch.setattr(plans, "suits_panels", lambda problem: False)
    Planner.forget()
    yield
    Planner.forget()


@pytest.fixture
def always_parallel(monkeypatch):
    """Let the workers be called for the smallest work."""
    monkeypatch.setattr(runtime, "_PAYS", 0.0)


@pytest.fixture
def rows_alone(monkeypatch):
    """Let small windows do a row at a time: each size of a group is code of its own, `test_small_windows` has all."""
    monkeypatch.setattr(smallpool, "groups_in_registers", lambda *_: [1])
    monkeypatch.setattr(shortpool, "groups_of_short_rows", lambda *_: [1])
    monkeypatch.setattr(flatpool, "groups_of_vectors", lambda *_: [1])


@pytest.fixture
def whole_vectors(monkeypatch):
    """Let small windows never take half vectors, which are code of their own: tests of every width have them."""
    monkeypatch.setattr(smallpool, "_vector_of", lambda problem, width: (lanes_for(problem.element), False))


@pytest.fixture(scope="module")
def one_thread_of_pytorch():
    """Keep PyTorch's threads from spinning beside ours."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
