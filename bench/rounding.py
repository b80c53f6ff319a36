"""Rounding errors of every Winograd form, and of the direct sum: ``python -m bench.rounding``."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastpool.plans.winograd_forms import WinogradForm

CHANNELS, MANY, SIZE = 64, 512, 42


def exact(x: np.ndarray, weight: np.ndarray, strides: list[int]) -> np.ndarray:
    """Return the convolution in long double, for float32 in float64."""
    wide = np.float64 if x.dtype == np.float32 else np.longdouble
    pads = [(taps - 1) // 2 for taps in weight.shape[2:]]
    padded = np.pad(x[0], ((0, 0), *((pad, pad) for pad in pads))).astype(wide)
    rows, columns = (
        (SIZE + 2 * pad - taps) // stride + 1 for pad, taps, stride in zip(pads, weight.shape[2:], strides, strict=True)
    )
    total = np.zeros((len(weight), rows, columns), wide)
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            seen = padded[:, i : i + rows * strides[0] : strides[0], j : j + columns * strides[1] : strides[1]]
            for channel in range(len(padded)):
                total += weight[:, channel, i, j, None, None].astype(wide) * seen[channel]
    return total


def error(dtype: str, filters: tuple[int, int, int, int], form: WinogradForm | None, channels: int) -> float:
    """Return the largest error, as a part of the largest result; the direct sum's without a form."""
    import fastpool
    from fastpool import layer
    from fastpool.plans import convolution, winograd_axes

    kernel, strides = filters[:2], list(filters[2:])
    x = np.random.default_rng(0).standard_normal((1, channels, SIZE, SIZE)).astype(dtype)
    weight = np.random.default_rng(1).standard_normal((CHANNELS, channels, *kernel)).astype(dtype)
    forms, winograd_axes.FORMS = winograd_axes.FORMS, {filters: (form,) if form else ()}
    try:
        convolution.plan_convolution.cache_clear()
        layer._layers.clear()
        algorithm = "winograd" if form else "direct"
        result = fastpool.conv2d(x, weight, None, strides, [(taps - 1) // 2 for taps in kernel], algorithm=algorithm)
    finally:
        winograd_axes.FORMS = forms
        convolution.plan_convolution.cache_clear()
        layer._layers.clear()
    expected = exact(x, weight, strides)
    return float(np.abs(result[0] - expected).max() / np.abs(expected).max())


def table() -> str:
    """Return the table as Markdown."""
    from fastpool.dtypes import ELEMENT_TYPES
    from fastpool.plans.winograd_forms import FORMS

    lines = [
        f"| filter | form | multiplications | float32 | float32, {MANY} channels | float64 |",
        "|---|---|---|---|---|---|",
    ]
    for filters, forms in FORMS.items():
        rows, columns, _, stride = filters
        if rows > columns == 1:  # what filters rows alone rounds as what filters columns alone
            continue
        name = f"{rows}x{columns}" + (f" stride {stride}" if stride > 1 else "")
        ahead = [form for form in forms if not form.on_the_fly]  # the sums are the same, but for their order
        for form in (None, *sorted(ahead, key=lambda form: form.outputs)):
            count = form.multiplications * form.fold / prod(form.tile_outputs) if form else float(rows * columns)
            cells = [
                f"{error(dtype, filters, form, channels):.1e}"
                if form is None or form.suits(ELEMENT_TYPES[np.dtype(dtype)])
                else ""
                for dtype, channels in (("float32", CHANNELS), ("float32", MANY), ("float64", CHANNELS))
            ]
            label = f"F({form.outputs}, {form.taps})" + " folded" * form.folded if form else "direct"
            lines.append(f"| {name} | {label} | {count:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
