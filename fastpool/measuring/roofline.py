"""Pictures of measured speed: the roofline, and ratios to others. matplotlib is imported where it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Colours that are told apart by most kinds of colour vision (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FORMATS = (".png", ".svg", ".pdf")
_ROWS = 54  # lines of a column of the list of layers


@dataclass(frozen=True)
class Point:
    """One layer: what it computes and moves by definition, and how long each engine takes."""

    name: str
    group: str
    flops: float
    bytes: float
    seconds: Mapping[str, float]  #: engine -> seconds, ours first


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, FigureCanvasAgg(figure)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Date": None} if path.suffix == ".svg" else None)


def _name_slopes(figure: Any, axes: Any, slopes: Mapping[str, float]) -> None:
    """Write along each line y = slope * x, at its lower end."""
    figure.draw_without_rendering()  # settles the layout, and so the angle
    x, end = axes.get_xlim()
    for text, slope in slopes.items():
        start = max(1.2 * x, 1.2 * axes.get_ylim()[0] / slope)
        (x0, y0), (x1, y1) = axes.transData.transform([(start, slope * start), (end, slope * end)])
        angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
        axes.annotate(
            text,
            (start, slope * start),
            (-3, 3),
            textcoords="offset points",
            rotation=angle,
            rotation_mode="anchor",
            color="0.35",
            fontsize=8,
        )


def draw_roofline(
    points: Sequence[Point], limits: Mapping[str, float], labels: Mapping[str, str], path: Path, footnote: str
) -> None:
    """Draw every layer as a numbered point under the machine's limits, and the list of the numbers beside it.

    `limits` has the rates of `Limits`; `labels` the name of every engine, ours first: its points are filled, those of
    the others hollow.
    """
    columns = -(-len(points) // _ROWS)
    figure, _ = _figure(11 + 3.4 * columns, 10)
    axes, aside = figure.subplots(1, 2, width_ratios=(11, 3.4 * columns))
    intensities = [point.flops / point.bytes for point in points]
    low, high = min(*intensities, 0.2) / 1.5, max(*intensities, 100.0) * 1.5
    roofs = (("copy", "memory", "-"), ("cached_copy", "second-level caches", "--"))
    for kind, _, style in roofs:
        ridge = limits["flops"] / limits[kind]
        axes.plot([low, ridge], [low * limits[kind], limits["flops"]], style, color="0.35", lw=1.2, zorder=1)
    start = limits["flops"] / limits["cached_copy"]
    axes.plot([start, high], [limits["flops"]] * 2, "-", color="0.35", lw=1.2, zorder=1)
    axes.annotate(
        f"fused multiply-adds: {limits['flops'] / 1e9:.0f} GFLOP/s",
        (high, limits["flops"]),
        (-4, 5),
        textcoords="offset points",
        ha="right",
        color="0.35",
        fontsize=8,
    )
    groups = list(dict.fromkeys(point.group for point in points))
    ours, *others = labels
    rates = []
    for number, point in enumerate(points, 1):
        colour = COLOURS[groups.index(point.group) % len(COLOURS)]
        x = point.flops / point.bytes
        for index, engine in enumerate(others):
            if engine in point.seconds:
                rates.append(point.flops / point.seconds[engine])
                axes.plot(
                    x, rates[-1], MARKERS[1 + index % (len(MARKERS) - 1)], mfc="none", mec=colour, ms=5, alpha=0.6
                )
        rates.append(point.flops / point.seconds[ours])
        axes.plot(x, rates[-1], MARKERS[0], color=colour, ms=5.5, zorder=3)
        axes.annotate(str(number), (x, rates[-1]), (3, 3), textcoords="offset points", fontsize=6.5, color=colour)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(min(rates) / 2, 2 * max(*rates, limits["flops"])))
    axes.set_xlabel("operations per byte: each input, weight and output once (FLOP/B)")
    axes.set_ylabel("operations per second, as defined, not as carried out (FLOP/s)")
    _name_slopes(
        figure, axes, {f"{name}: {limits[kind] / 1e9:.0f} GB/s copied": limits[kind] for kind, name, _ in roofs}
    )
    axes.grid(True, which="major", color="0.9", lw=0.6)
    axes.set_axisbelow(True)
    handles = [axes.plot([], [], MARKERS[0], color="0.2", label=labels[ours])[0]]
    handles += [
        axes.plot([], [], MARKERS[1 + i % (len(MARKERS) - 1)], mfc="none", mec="0.2", label=labels[engine])[0]
        for i, engine in enumerate(others)
    ]
    handles += [
        axes.plot([], [], "-", lw=4, color=COLOURS[i % len(COLOURS)], label=group)[0] for i, group in enumerate(groups)
    ]
    axes.legend(handles=handles, loc="lower right", fontsize=8, frameon=True)
    axes.set_title(f"Roofline of {limits['threads']:.0f} threads", fontsize=11, loc="left")
    aside.axis("off")
    aside.set(xlim=(0, columns), ylim=(_ROWS, 0))
    for index, point in enumerate(points):
        colour = COLOURS[groups.index(point.group) % len(COLOURS)]
        place = index // _ROWS, index % _ROWS + 0.5
        aside.text(*place, f"{index + 1:3d}  {point.name}", fontsize=7, color=colour, va="center")
    figure.supxlabel(footnote, fontsize=7, x=0.01, ha="left", color="0.35", wrap=True)
    _save(figure, path)


def draw_ratios(points: Sequence[Point], labels: Mapping[str, str], path: Path, footnote: str) -> None:
    """Draw for every layer how many times longer each other engine takes than ours, as dots on a log scale."""
    ours, *others = labels
    half = -(-len(points) // 2)
    figure, _ = _figure(15, 2 + 0.2 * half)
    parts = figure.subplots(1, 2, sharex=True)
    ratios = [p.seconds[e] / p.seconds[ours] for p in points for e in others if e in p.seconds]
    for axes, part in zip(parts, (points[:half], points[half:]), strict=True):
        for row, point in enumerate(part):
            if row % 2 == 0:
                axes.axhspan(row - 0.5, row + 0.5, color="0.96", lw=0)
            for index, engine in enumerate(others):
                if engine in point.seconds:
                    axes.plot(
                        point.seconds[engine] / point.seconds[ours],
                        row,
                        MARKERS[1 + index % (len(MARKERS) - 1)],
                        color=COLOURS[index % len(COLOURS)],
                        ms=5,
                        alpha=0.85,
                    )
        axes.axvline(1, color="0.2", lw=1)
        axes.set(xscale="log", xlim=(min(*ratios, 1.0) / 1.15, max(ratios) * 1.15), ylim=(half - 0.5, -0.5))
        ticks = [t for t in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if min(*ratios, 1.0) / 1.15 <= t <= max(ratios) * 1.15]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_yticks(range(len(part)), [point.name for point in part], fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x", color="0.85", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_xlabel(f"time of the other / time of {labels[ours]}: to the right of 1, {labels[ours]} is faster")
    handles = [
        parts[0].plot(
            [],
            [],
            MARKERS[1 + i % (len(MARKERS) - 1)],
            color=COLOURS[i % len(COLOURS)],
            ls="none",
            label=labels[engine],
        )[0]
        for i, engine in enumerate(others)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(others), fontsize=9, frameon=False)
    figure.supxlabel(footnote, fontsize=7, x=0.01, ha="left", color="0.35", wrap=True)
    _save(figure, path)
