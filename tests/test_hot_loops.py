"""Hot loops of every kernel in the table, read from the machine code: full vectors, no spills, no calls, no clock.

A kernel is taken for a vector kernel unless it is listed here with the reason why not, so that a new row of the table
is checked from its first day.
"""

from functools import partial
from math import prod

import numpy as np
import pytest
from assembly import ON_X86, Loop, examine, loops

from fastpool.dtypes import ELEMENT_TYPES
from fastpool.kernels import simd
from fastpool.kernels.pool import prepare
from fastpool.kernels.simd import lanes_of, load, splat, store
from fastpool.machine.processor import TARGET
from fastpool.routines.direct import row_of_tiles
from fastpool.routines.interleave import INTERLEAVED_STRIDES
from fastpool.routines.layout import Layout
from fastpool.routines.pack import PACKED_STRIDES
from fastpool.routines.routine import kernel, lanes, spec_for
from fastpool.routines.table import KERNELS

pytestmark = pytest.mark.skipif(not ON_X86, reason="reads x86 assembly")

FLOAT32 = ELEMENT_TYPES[np.dtype(np.float32)]
#: They compute nothing themselves, but call the kernels that do, once for each block of work.
DRIVERS = {"direct", "pack_input", "panel_input", "winograd_input", "winograd_output", "winograd_fused"}
#: One element after the other by their nature: they read or write places that a table or data name, or carry indices
#: along. Or hardly ever run: where an infinity or NaN has spread over a tile.
SCALAR = {"argpool", "fractional_indices", "median_in_place", "pack_by_table", "repair_rows", "turn", "unpool"}
#: They move and compute nothing.
MOVING = {"interleave", "pack_channel", "pack_images", "pack_panels", "pack_planes", "pack_weights"}
#: Sums of products.
FUSED = {
    *("row_of_tiles", "multiply", "depthwise", "channelwise", "blur", "gemv", "peak"),
    *("winograd_weights", "transform_filters"),
}
#: Turning tiles takes them more instructions than the sums, which are in a loop of their own: narrow ones of joined
#: images, too.
TURNING = {"channelwise", "row_of_tiles"}
HAS_FEW_REGISTERS = TARGET.registers < 32
#: More vectors are alive at once than there are registers: 6x6 elements of a transformed tile. Few registers hold no
#: 3x3 filter beside its columns and sums: taking its elements from memory one by one instead takes 15 to 20 % longer.
CROWDED = {"transform_rows", "finish_rows", "winograd_weights", "transform_filters"}
CROWDED |= {"depthwise"} if HAS_FEW_REGISTERS else set()
#: Constants of a finish that few ask for stay in memory; of few registers one is used for more than the loop.
RELOADING = {"small_pool"} | ({"large_pool", "sorted_median"} if HAS_FEW_REGISTERS else set())
#: Their arithmetic stands in a loop around others: a sorting network, after a loop that gathers what is sorted.
AROUND = {"sorted_median"}


def busiest(assembly: str, innermost: bool = True, multiplying: bool = False) -> Loop:
    """Loop that computes the most elements in a turn; of several, the one with the fewest accesses to the stack."""
    found = [examine(lines) for lines in loops(assembly, innermost)]
    assert found, "no loop without calls"
    if multiplying and TARGET.has_fma:
        found = [loop for loop in found if loop.fused]
        assert found, "no loop has fused multiply-adds"
    return max(found, key=lambda loop: (loop.work, -loop.spilled - loop.reloaded))


def require_vectors(loop: Loop, fused: bool = False, crowded: bool = False, reloading: bool = False) -> None:
    """Require arithmetic on full vectors and no other; no vector on the stack, unless there must be."""
    assert loop.vectors > 0, "the hot loop has no arithmetic on full vectors"
    assert loop.scalars == 0, f"{loop.scalars} of the hot loop's instructions compute single elements"
    assert loop.narrower == 0, f"{loop.narrower} of the hot loop's instructions compute narrower vectors"
    assert loop.fused > 0 or not (fused and TARGET.has_fma), "the hot loop has no fused multiply-add"
    assert loop.spilled == 0 or crowded, f"{loop.spilled} vectors of the hot loop are spilled"
    assert loop.reloaded == 0 or crowded or reloading, f"{loop.reloaded} vectors of the hot loop come from the stack"


def shapes_of(name: str) -> list[tuple[str, int, int]]:
    """Shapes of a kernel for float32, of the full width: the middle one of its first and of its last variant."""
    shapes = [shape for shape in KERNELS[name][1] if not shape[0].startswith(("narrow", "from"))]
    if name == "reduce_planes":
        shapes = [shape for shape in shapes if shape[2] == lanes(FLOAT32)]
    if name in ("depthwise", "small_pool", "sorted_median"):  # 3 or 3x3: what networks use
        shapes = [shape for shape in shapes if shape[2] == 3 and shape[1] in (1, 3)]
    if name == "large_pool":  # windows of one to two vectors, at stride 1
        shapes = [shape for shape in shapes if shape[0].endswith("step 1 stride 1") and shape[2] == lanes(FLOAT32)]
    if name in ("interleave", "pack_channel"):  # each stride at which vectors are put together, or taken apart
        strides = INTERLEAVED_STRIDES if name == "interleave" else PACKED_STRIDES
        # As many vectors as there are registers do not stay in them.
        return [(f"stride {stride}", 1, 1) for stride in strides if stride < TARGET.registers]
    variants = [shape[0] for shape in shapes]
    chosen = [[shape for shape in shapes if shape[0] == variant] for variant in (variants[0], variants[-1])]
    return list(dict.fromkeys(of_variant[len(of_variant) // 2] for of_variant in chosen))


@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in KERNELS if name not in SCALAR and KERNELS[name][1] for shape in shapes_of(name)],
    ids=str,
)
def test_the_hot_loop_is_on_vectors(name, shape):
    assembly = KERNELS[name][0].assembly(spec_for(FLOAT32, *shape))
    if name in DRIVERS:
        assert all(examine(lines).work == 0 for lines in loops(assembly)), "a driver with arithmetic of its own"
    elif name in MOVING:
        found = [examine(lines) for lines in loops(assembly)]
        assert max(loop.moved - loop.spilled for loop in found) > 0, "no loop moves full vectors"
    else:
        loop = busiest(assembly, name not in AROUND, name in TURNING)
        require_vectors(loop, name in FUSED, name in CROWDED, name in RELOADING)


@pytest.mark.parametrize("variant", sorted({shape[0] for shape in KERNELS["row_of_tiles"][1]} - {"pixels"}))
def test_the_widest_tile_stays_in_registers(variant):
    """In every loop that multiplies, whatever is left out of it."""
    shapes = [shape[1:] for shape in KERNELS["row_of_tiles"][1] if shape[0] == variant]
    assembly = row_of_tiles.assembly(spec_for(FLOAT32, variant, *max(shapes, key=prod)))
    found = [loop for loop in map(examine, loops(assembly, innermost=False)) if loop.fused]
    assert found or not TARGET.has_fma
    for loop in found:
        require_vectors(loop, fused=True)


def test_what_is_excused_is_in_the_table():
    assert set(KERNELS) >= DRIVERS | SCALAR | MOVING | FUSED | TURNING | CROWDED | RELOADING | AROUND


# ------------------------------------------------------------------------------ loops that the checks have to reject

SABOTAGE = Layout("sabotage", {"count": "integer"})


@partial(kernel, layout=SABOTAGE)
def scalarised(call, task, thread):
    """A sum of products, element by element: each product waits for the one before."""
    total = simd.scalar(call.spec, 0.0)
    for i in range(call.count):
        total = simd.fma(call.x[i], call.weights[i], total)
    call.out[0] = total


@partial(kernel, layout=SABOTAGE)
def vectorised(call, task, thread):
    """The same on vectors."""
    spec = call.spec
    total = splat(spec, 0.0)
    for i in range(0, call.count, lanes_of(spec)):
        total = simd.fma(load(spec, call.x + i), load(spec, call.weights + i), total)
    store(spec, call.out, total)


@partial(kernel, layout=SABOTAGE)
def calling(call, task, thread):
    """Powers, each of which is a call of the C library."""
    spec = call.spec
    total = splat(spec, 0.0)
    for i in range(0, call.count, lanes_of(spec)):
        total = total + prepare(spec, load(spec, call.x + i), simd.scalar(spec, 3.0))
    store(spec, call.out, total)


def test_a_kernel_on_vectors_passes():
    require_vectors(busiest(vectorised.assembly(spec_for(FLOAT32, "", 1, 1))), fused=True)


@pytest.mark.parametrize(
    ("routine", "shape", "complaint"),
    [
        (scalarised, ("", 1, 1), "no arithmetic on full vectors"),
        (calling, ("powersum", 1, 1), "no loop without calls"),
        (row_of_tiles, ("channels", 4, TARGET.registers // 2), "are spilled"),  # twice what there is
    ],
    ids=["scalars", "calls", "spills"],
)
def test_a_kernel_that_lost_its_vectors_fails(routine, shape, complaint):
    with pytest.raises(AssertionError, match=complaint):
        require_vectors(busiest(routine.assembly(spec_for(FLOAT32, *shape))), fused=True)


def test_products_that_are_not_fused_fail():
    if not TARGET.has_fma:
        pytest.skip("this processor has no fused multiply-add")
    loop = busiest(KERNELS["pool"][0].assembly(spec_for(FLOAT32, "sum", 1, 1)))
    require_vectors(loop)
    with pytest.raises(AssertionError, match="no fused multiply-add"):
        require_vectors(loop, fused=True)


def test_loops_are_found_through_branches():
    """A loop of three blocks around one of one block; the way through the call is none of a loop."""
    text = """
    outer:
        vaddps %zmm0, %zmm1, %zmm1
        je .cold
    .inner:
        vmulps (%rax), %zmm2, %zmm2
        jne .inner
        jmp .join
    .cold:
        vmovaps %zmm1, 64(%rsp)
        callq *%rbx
    .join:
        vmaxps %zmm3, %zmm4, %zmm4
        jne outer
        retq
    """
    text = "\n".join(line.strip().replace(" ", "\t", 1) for line in text.splitlines())
    assert loops(text) == [["vmulps\t(%rax), %zmm2, %zmm2", "jne\t.inner"]]
    around = next(lines for lines in loops(text, innermost=False) if "jne\touter" in lines)
    assert [line.split()[0] for line in around] == ["vaddps", "je", "jmp", "vmaxps", "jne"]
