"""What is left out of a body before it is compiled: what code of its spec never comes to."""

import numpy as np
import pytest
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from fastpool.dtypes import ELEMENT_TYPES
from fastpool.kernels._jit import compile_routine, device
from fastpool.kernels.simd import known
from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel, spec_for

FLOAT = ELEMENT_TYPES[np.dtype(np.float32)]
NOTHING = Layout("nothing", {})


@known
def _is_wide(spec):
    """Whether there are several columns."""
    return spec.width > 1


@intrinsic
def _of_narrow_tiles(typingctx, spec):
    """What only a tile of one column may come to."""
    if spec.width > 1:
        raise TypingError("compiled for a wide tile")
    return types.void(spec), lambda context, builder, sig, args: context.get_dummy_value()


@device
def _further_down(spec):
    """Ask within another function."""
    if not _is_wide(spec):
        _of_narrow_tiles(spec)


def _asks_for_narrow(call, task, thread):
    if not _is_wide(call.spec):
        _of_narrow_tiles(call.spec)


def _asks_for_wide(call, task, thread):
    spec = call.spec
    if _is_wide(spec):
        task += 1
    else:
        _of_narrow_tiles(spec)


def _asks_further_down(call, task, thread):
    _further_down(call.spec)


def _does_not_ask(call, task, thread):
    if task > 1:
        _of_narrow_tiles(call.spec)


@pytest.mark.parametrize("body", [_asks_for_narrow, _asks_for_wide, _asks_further_down])
@pytest.mark.parametrize("width", [1, 2])
def test_branches_never_taken_are_not_compiled(body, width):
    routine = kernel(body, NOTHING)
    assert compile_routine(routine, spec_for(FLOAT, "", 1, width), on_disk=False).load()


def test_branches_that_may_be_taken_are_compiled():
    assert compile_routine(kernel(_does_not_ask, NOTHING), spec_for(FLOAT, "", 1, 1), on_disk=False).load()
    with pytest.raises(TypingError, match="compiled for a wide tile"):
        compile_routine(kernel(_does_not_ask, NOTHING), spec_for(FLOAT, "", 1, 2), on_disk=False)
