"""Tables of measured speed, as Markdown: a summary by network and kind, every shape, and footnotes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bench.cases import Case, ConvCase

MISSING = "n/a"


@dataclass(frozen=True)
class Row:
    """The measurements of one case. Engines that cannot compute it are missing from the mappings."""

    case: Case
    seconds: dict[str, float]  # engine -> median over the rounds
    ratios: dict[str, float]  # rival -> median over the rounds of (rival's time / ours)
    variants: dict[str, str] = field(default_factory=dict)  # engine -> way it chose


@dataclass(frozen=True)
class Report:
    """All measurements of one run, and what they were taken with. The first engine is ours, the others are rivals."""

    rows: Sequence[Row]
    engines: Sequence[str]
    labels: dict[str, str]  # engine -> heading
    dtype: str
    threads: int
    footnotes: Sequence[str]

    @property
    def rivals(self) -> Sequence[str]:
        """Every engine but ours."""
        return self.engines[1:]

    def lowest(self) -> tuple[float, str, Case] | None:
        """Return the lowest ratio of all, with the rival and the case that it belongs to."""
        found = [(ratio, rival, row.case) for row in self.rows for rival, ratio in row.ratios.items()]
        return min(found, key=lambda item: item[0], default=None)


#: Lines of the README between which `insert` writes.
BEGIN, END = "<!-- written by bench.speed: begin -->", "<!-- written by bench.speed: end -->"


def insert(text: str, section: str) -> str:
    """Replace what stands between the two marks of a text."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the text must have the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{section.strip()}\n\n{END}{after}"


def markdown(report: Report) -> str:
    """Return the whole report."""
    convolutions = [row for row in report.rows if isinstance(row.case, ConvCase)]
    poolings = [row for row in report.rows if not isinstance(row.case, ConvCase)]
    sections = _summaries(report, convolutions, poolings)
    sections.append(
        "\n\n".join(
            [
                "<details>\n<summary>Every shape</summary>",
                *(_shapes(report, rows) for rows in (convolutions, poolings) if rows),
                "</details>",
            ]
        )
    )
    return "\n\n".join([*sections, _notes(report)]) + "\n"


def summary(report: Report, links: Sequence[str] = ()) -> str:
    """Return the report without the table of every shape, and with some more paragraphs before the footnotes."""
    convolutions = [row for row in report.rows if isinstance(row.case, ConvCase)]
    poolings = [row for row in report.rows if not isinstance(row.case, ConvCase)]
    return "\n\n".join([*_summaries(report, convolutions, poolings), *links, _notes(report)]) + "\n"


def _notes(report: Report) -> str:
    return "\n".join(f"- {note}" for note in report.footnotes)


def _summaries(report: Report, convolutions: Sequence[Row], poolings: Sequence[Row]) -> list[str]:
    """Return the introduction and one table for each way of grouping."""
    sections = [_introduction(report)]
    if convolutions:
        sections.append(_summary(report, "Convolutions by network", convolutions, lambda case: case.net))
        sections.append(_summary(report, "Convolutions by kind", convolutions, lambda case: case.kind))
    if poolings:
        sections.append(_summary(report, "Pooling and subsampling", poolings, lambda case: case.kind))
    return sections


def _introduction(report: Report) -> str:
    """Say what the figures are."""
    ours = report.labels[report.engines[0]]
    lines = [
        f"Times are in milliseconds, {report.dtype}, {report.threads} threads for everybody. A ratio is the other's "
        f"time divided by that of {ours}: above 1, {ours} is faster. Groups show the sum of the times, each layer as "
        "often as its network has it, the geometric mean of the ratios of its shapes, and the lowest of them."
    ]
    worst = report.lowest()
    if worst is not None:
        ratio, rival, case = worst
        lines.append(f"The lowest ratio of all is **{number(ratio)}** ({report.labels[rival]}, {case.id}).")
    return "\n\n".join(lines)


def _summary(report: Report, title: str, rows: Iterable[Row], key: Callable[[Case], str]) -> str:
    """Return one table with a line for each group of rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row.case), []).append(row)
    header = [title, "shapes", report.labels[report.engines[0]]]
    for rival in report.rivals:
        header += [report.labels[rival], "ratio", "lowest"]
    lines = []
    for name, members in groups.items():
        line = [name, str(len(members)), number(_total(members, report.engines[0]))]
        for rival in report.rivals:
            ratios = [row.ratios[rival] for row in members if rival in row.ratios]
            if len(ratios) == len(members):
                line += [number(_total(members, rival)), f"**{number(statistics.geometric_mean(ratios))}**"]
            else:  # a sum over some of the shapes would mislead
                line += [MISSING, number(statistics.geometric_mean(ratios)) if ratios else MISSING]
            line.append(number(min(ratios)) if ratios else MISSING)
        lines.append(line)
    return table(header, lines)


def _total(rows: Iterable[Row], engine: str) -> float:
    """Return milliseconds for all rows, each as often as its network has it."""
    return sum(1e3 * row.seconds[engine] * row.case.count for row in rows)


def _shapes(report: Report, rows: Sequence[Row]) -> str:
    """Return the table of single shapes, with what ours reaches: GFLOP/s for convolutions, else GB/s."""
    ours = report.engines[0]
    convolution = isinstance(rows[0].case, ConvCase)
    header = ["network", "layer", report.labels[ours], "GFLOP/s" if convolution else "GB/s"]
    for rival in report.rivals:
        header += [report.labels[rival], "ratio"]
    lines = []
    for row in rows:
        work = row.case.flops if convolution else row.case.bytes(report.dtype)
        seconds = row.seconds[ours]
        line = [row.case.net, row.case.layer, number(1e3 * seconds), number(1e-9 * work / seconds)]
        for rival in report.rivals:
            if rival in row.ratios:
                line += [f"{number(1e3 * row.seconds[rival])} ({row.variants[rival]})", number(row.ratios[rival])]
            else:
                line += [MISSING, MISSING]
        lines.append(line)
    return table(header, lines)


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns after the first that hold numbers are set flush right."""
    rows = [list(line) for line in lines]
    alignment = []
    for column in range(len(header)):
        cells = [row[column].strip("*") for row in rows]
        alignment.append("---:" if cells and all(cell[:1].isdigit() or cell == MISSING for cell in cells) else "---")
    if alignment:
        alignment[0] = "---"
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(header), alignment, *rows])


def number(value: float) -> str:
    """Format with three significant digits, never in exponents."""
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
