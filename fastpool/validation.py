"""Every check of an argument in the package: each names the argument, what it got and what is allowed.

Everything is checked before anything is computed, allocated or written, because kernels trust the sizes that reach
them.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastpool.dtypes import ELEMENT_TYPES, FLOATS, INTEGERS, ElementType, learn
from fastpool.geometry import DATA_PADDING_MODES, Axis, Pads, extent, output_size, same_padding

#: Largest size, stride, padding or dilation: products of two stay exact in the kernels' 64-bit integers.
LARGEST = 2**31 - 1
#: Largest result in bytes that is attempted; beyond, an argument must be wrong (the address space ends at 2**47).
LARGEST_BYTES = 2**46

PADDING_STRINGS = ("valid", "same", "same_upper", "same_lower")
PADDING_MODES = ("zeros", *DATA_PADDING_MODES)
ALGORITHMS = ("auto", "direct", "winograd")
ACTIVATIONS = {"relu": (0.0, None), "relu6": (0.0, 6.0)}


def shown(value: Any) -> str:
    """Short text of any value: of some hostile ones even `repr` fails (Python prints no integer of 5000 digits)."""
    try:
        text = repr(value)
    except Exception:
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 100 else text[:97] + "..."


def native(value: np.ndarray) -> Any:
    """Dtype in native byte order; a dtype that has none as it is."""
    try:
        return value.dtype.newbyteorder("=")
    except TypeError:
        return value.dtype


def integer(value: Any, name: str, low: int, high: int = LARGEST) -> int:
    """Return `value` as an int of [low, high]; bools and floats are not integers."""
    if type(value) is not int:
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            value = operator.index(value)
        except Exception:
            raise TypeError(f"{name} must be an integer, got {shown(value)} ({type(value).__name__})") from None
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {_short(value)}")
    return int(value)


def _short(value: int) -> str:
    text = str(value) if abs(value) < 10**30 else f"about 10**{value.bit_length() * 3 // 10}"
    return text


def is_sequence(value: Any) -> bool:
    """Whether a value is taken as one item for each axis."""
    return isinstance(value, list | tuple | range) or (type(value) is np.ndarray and value.ndim == 1)


def per_axis(value: Any, name: str, axes: int, low: int) -> tuple[int, ...]:
    """One int for each axis, from an int, or a sequence of one or `axes` ints."""
    if type(value) is int:
        return (integer(value, name, low),) * axes
    if is_sequence(value):
        items = list(value)
        if len(items) == 1:
            items = items * axes
        if len(items) != axes:
            raise ValueError(f"{name} must be an integer or {axes} of them, got {shown(value)}")
        return tuple(integer(item, f"{name}[{i}]", low) for i, item in enumerate(items))
    return (integer(value, name, low),) * axes


def stride_or_kernel(stride: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Stride of a pooling: that of the kernel where none (None or an empty sequence) is given."""
    if stride is None or (isinstance(stride, list | tuple) and len(stride) == 0):
        return kernel
    return per_axis(stride, "stride", len(kernel), 1)


def pads(
    padding: Any, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """(begin, end) of each axis from any form of padding."""
    axes = len(sizes)
    if isinstance(padding, str):
        if padding not in PADDING_STRINGS:
            raise ValueError(
                f"padding must be one of {PADDING_STRINGS}, integers or (begin, end) pairs, got {shown(padding)}"
            )
        if padding == "valid":
            return ((0, 0),) * axes
        lower = padding == "same_lower"
        return tuple(same_padding(*of_axis, lower) for of_axis in zip(sizes, kernel, stride, dilation, strict=True))
    if type(padding) is np.ndarray and padding.ndim == 2:
        padding = list(padding)
    if is_sequence(padding) and any(is_sequence(p) for p in padding):
        if len(padding) != axes or not all(is_sequence(p) and len(p) == 2 for p in padding):
            raise ValueError(f"padding must have one (begin, end) pair for each of {axes} axes, got {shown(padding)}")
        return tuple(
            (integer(begin, f"padding[{i}][0]", 0), integer(end, f"padding[{i}][1]", 0))
            for i, (begin, end) in enumerate(padding)
        )
    return tuple((p, p) for p in per_axis(padding, "padding", axes, 0))


def _listed(dtypes: Iterable[np.dtype]) -> str:
    names = [str(dtype) for dtype in dtypes if str(dtype) != "bfloat16"]
    if "float16" in names:
        names.insert(names.index("float16") + 1, "bfloat16")
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def is_masked(value: Any) -> bool:
    """Whether it is a masked array: there is none as long as nobody has loaded their module, which takes its time."""
    return type(value) is not np.ndarray and "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray)


def array(value: Any, name: str, allowed: dict[np.dtype, ElementType] = FLOATS, beside: str = "") -> np.ndarray:
    """Check for a plain NumPy array of one of the dtypes that are allowed, at least beside what `beside` says."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(value).__name__}")
    if is_masked(value):
        raise TypeError(f"{name} must be a plain NumPy array, got a masked one, whose mask would be ignored")
    if value.dtype not in allowed and native(value) not in allowed and not learn(value.dtype, allowed):
        condition = f" beside {beside}" if beside else ""
        raise TypeError(f"{name} must have dtype {_listed(allowed)}{condition}, got {value.dtype}")
    return value


def element_type(value: np.ndarray, table: dict[np.dtype, ElementType] = ELEMENT_TYPES) -> ElementType:
    """Entry of a dtype table, in native byte order."""
    return table[native(value)]


def same_dtype(value: np.ndarray, name: str, other: np.ndarray, other_name: str = "x") -> None:
    """Refuse mixed precision, which would hide a conversion in every call."""
    if native(value) != native(other):
        raise TypeError(f"{name} must have the dtype of {other_name}, {other.dtype}, got {value.dtype}")


def same_element(value: np.ndarray, name: str, element: ElementType, other_name: str) -> None:
    """Refuse mixed precision, against what another array was found to be."""
    if value.dtype != element.dtype and native(value) != element.dtype:
        raise TypeError(f"{name} must have the dtype of {other_name}, {element.dtype}, got {value.dtype}")


def images(x: Any, axes: int, allowed: dict[np.dtype, ElementType] = FLOATS) -> np.ndarray:
    """Check x: (N, C, *spatial) or (C, *spatial), nothing empty but the batch."""
    array(x, "x", allowed)
    if x.ndim not in (axes + 1, axes + 2):
        layout = "(N, C, " + ", ".join("DHW"[-axes:]) + ")"
        raise ValueError(f"x must have shape {layout} or the same without N, got {x.shape}")
    if 0 in x.shape[-axes - 1 :]:
        raise ValueError(f"x must not be empty in its channels or spatial dimensions, got shape {x.shape}")
    if max(x.shape) > LARGEST:
        raise ValueError(f"x must not be longer than {LARGEST} in any dimension, got shape {x.shape}")
    return x  # type: ignore[no-any-return]


def windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Pads,
    ceil_mode: bool,
    kernel_name: str,
) -> tuple[Axis, ...]:
    """Windows of each axis; refuse a kernel that does not fit."""
    axes = []
    for size, k, s, d, pad in zip(sizes, kernel, stride, dilation, padding, strict=True):
        out = output_size(size, k, s, d, pad, ceil_mode)
        if out <= 0:
            raise ValueError(
                f"{kernel_name} must fit into the padded input: it spans {extent(k, d)} (size {k}, dilation {d}), "
                f"the input {size} + padding {pad[0]} + {pad[1]}"
            )
        if size + sum(pad) > LARGEST:
            raise ValueError(f"padding must not make an axis longer than {LARGEST}, got {size} + {pad[0]} + {pad[1]}")
        # The distance of taps that are one does not matter.
        axes.append(Axis(size, k, s, d if k > 1 else 1, *pad, out))
    return tuple(axes)


def result_shape(shape: tuple[int, ...], element: ElementType, name: str) -> tuple[int, ...]:
    """Refuse a result that cannot be."""
    count = element.size
    for size in shape:
        count *= size
    if count > LARGEST_BYTES:
        raise ValueError(f"{name} must not ask for a result of {_short(count)} bytes, got one of shape {shape}")
    return shape


def weights(weight: Any, axes: int) -> None:
    """Check a convolution's weight (out, in / groups, *kernel)."""
    array(weight, "weight", ELEMENT_TYPES)
    if weight.ndim != axes + 2:
        raise ValueError(
            f"weight must have {axes + 2} dimensions (out, in / groups, *kernel), got shape {weight.shape}"
        )
    if 0 in weight.shape:
        raise ValueError(f"weight must not be empty, got shape {weight.shape}")


def groups(out_channels: int, count: int) -> None:
    """Check that groups divide the output channels."""
    if out_channels % count:
        raise ValueError(f"groups must divide the {out_channels} output channels of weight, got {count}")


def channels(x_channels: int, weight_channels: int, groups: int) -> None:
    """Check the channels of x against those of a weight."""
    if x_channels != weight_channels * groups:
        raise ValueError(
            f"x must have {weight_channels * groups} channels "
            f"(weight.shape[1] = {weight_channels} times groups = {groups}), got {x_channels}"
        )


def per_channel(
    value: Any,
    name: str,
    count: int,
    other: np.ndarray,
    other_name: str = "x",
    allowed: dict[np.dtype, ElementType] = FLOATS,
) -> None:
    """Check a vector of one number for each channel."""
    array(value, name, allowed)
    same_dtype(value, name, other, other_name)
    _vector(value, name, count)


def integer_per_channel(value: Any, name: str, count: int, sums: ElementType, weight: np.ndarray) -> None:
    """Check a vector of one integer for each channel, which sums of that type can be added to."""
    safe = {dtype: element for dtype, element in INTEGERS.items() if np.can_cast(dtype, sums.dtype, "safe")}
    array(value, name, safe, f"weight of {weight.dtype} and sums of {sums.dtype}")
    _vector(value, name, count)


def _vector(value: np.ndarray, name: str, count: int) -> None:
    if value.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), got {value.shape}")


def activation(value: Any, of_integers: bool = False) -> tuple[float, float]:
    """Bounds of an activation: None, a name or a (low, high) pair with None for an open end.

    For integers they are the outermost integers within the bounds, in the range of int64, and exact.
    """
    if value is None:
        value = (None, None)
    if isinstance(value, str):
        if value not in ACTIVATIONS:
            raise ValueError(
                f"activation must be None, one of {tuple(ACTIVATIONS)} or a (low, high) pair, got {shown(value)}"
            )
        value = ACTIVATIONS[value]
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(
            f"activation must be None, one of {tuple(ACTIVATIONS)} or a (low, high) pair, got {shown(value)}"
        )
    bounds = []
    for bound, open_end in zip(value, (-np.inf, np.inf), strict=True):
        if bound is not None and (
            isinstance(bound, bool) or not isinstance(bound, int | float | np.integer | np.floating)
        ):
            raise TypeError(f"activation must have numbers or None for bounds, got {shown(value)}")
        bounds.append(open_end if bound is None else _as_float(bound, "activation"))
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"activation must have low <= high, got {shown(value)}")
    if of_integers:
        return _whole(value[0], bounds[0], np.ceil), _whole(value[1], bounds[1], np.floor)
    return bounds[0], bounds[1]


def _whole(bound: Any, as_float: float, rounded: Any) -> int:
    """Nearest integer on one side of a bound, within int64; a float would hold only 53 bits of an integer bound."""
    limits = np.iinfo(np.int64)
    if not np.isfinite(as_float):
        return int(limits.max if as_float > 0 else limits.min)
    whole = int(bound) if isinstance(bound, int | np.integer) else int(rounded(bound))
    return max(int(limits.min), min(whole, int(limits.max)))


def padding_mode(value: Any) -> str:
    """Check the name of a padding mode."""
    if not isinstance(value, str) or value not in PADDING_MODES:
        raise ValueError(f"padding_mode must be one of {PADDING_MODES}, got {shown(value)}")
    return value


def algorithm(value: Any, of_integers: bool = False) -> str:
    """Check the name of an algorithm of convolution; integers have but one."""
    if not isinstance(value, str) or value not in ALGORITHMS:
        raise ValueError(f"algorithm must be one of {ALGORITHMS}, got {shown(value)}")
    if of_integers and value == "winograd":
        raise ValueError(
            "algorithm must be 'auto' or 'direct' for integers, as Winograd's takes fractions, got 'winograd'"
        )
    return "direct" if of_integers else value


def flag(value: Any, name: str) -> bool:
    """Check for a bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a bool, got {shown(value)}")
    return bool(value)


def number(value: Any, name: str) -> float:
    """Check for a real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    return _as_float(value, name)


def generator(seed: Any, name: str) -> np.random.Generator:
    """Generator of random numbers: the one given, or one with this seed; None is a seed that never comes again."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(None if seed is None else integer(seed, name, 0, 2**128 - 1))


def _as_float(value: Any, name: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must fit into a float, got {shown(value)}") from None


def residual(value: Any, shape: tuple[int, ...], element: ElementType) -> None:
    """Check the array that is added to the result."""
    array(value, "residual", ELEMENT_TYPES)
    if native(value) != element.dtype:
        raise TypeError(f"residual must have the dtype of the result, {element.dtype}, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"residual must have the shape of the result, {shape}, got {value.shape}")


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:  # undecided within reason: be careful
        return True


def _check_apart(value: np.ndarray) -> None:
    """Check that no two elements of `out` lie on one another."""
    reach = 0
    for step, size in sorted(
        (abs(step), size) for step, size in zip(value.strides, value.shape, strict=True) if size > 1
    ):
        if value.size and step < reach + value.itemsize:
            raise ValueError(f"out must not overlap itself, got strides {value.strides}")
        reach += step * (size - 1)


def out(
    value: Any, shape: tuple[int, ...], x: np.ndarray, element: ElementType | None = None, **inputs: np.ndarray | None
) -> None:
    """Check an array for the result: shape, dtype (x's if none is given), writeable, apart from all inputs."""
    if not isinstance(value, np.ndarray) or is_masked(value):
        raise TypeError(f"out must be a NumPy array, got {type(value).__name__}")
    dtype = native(x) if element is None else element.dtype
    if value.dtype != dtype:
        raise TypeError(f"out must have dtype {dtype}, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"out must have the shape of the result, {shape}, got {value.shape}")
    if not value.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array")
    if not value.flags.c_contiguous:
        _check_apart(value)
    for name, array_ in {"x": x, **inputs}.items():
        if array_ is not None and _overlap(value, array_):
            raise ValueError(f"out must not overlap {name}")
