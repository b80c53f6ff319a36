"""Pictures of what ``bench.speed`` measured: ``python -m bench.pictures FILE.json FOLDER``. matplotlib draws them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.engines import ENGINES
from bench.roofline import Point, draw_ratios, draw_roofline

RATIOS, ROOFLINE = "ratios.svg", "roofline.svg"


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the ratios and the roofline of a document of ``bench.speed --json``; return the files."""
    engines = document["settings"]["engines"]
    labels = {engine: ENGINES[engine].label for engine in engines}
    points = [
        Point(
            row["id"],
            row["net"] if row["family"] == "convolution" else row["family"],
            row["flops"],
            row["bytes"],
            {engine: row["seconds"][engine] for engine in engines if engine in row["seconds"]},
        )
        for row in document["rows"]
    ]
    versions = ", ".join(f"{package} {version}" for package, version in document["versions"].items())
    settings = document["settings"]
    footnote = (
        f"{document['cpu']}, {settings['threads']} threads, {settings['dtype']}, {settings['rounds']} rounds; "
        f"Python {document['python']}, {versions}; {document['date'][:10]}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    ours = engines[0]
    relative = [
        replace(point, seconds={ours: 1.0} | row["ratios"]) for point, row in zip(points, document["rows"], strict=True)
    ]
    draw_ratios(relative, labels, folder / RATIOS, footnote)
    draw_roofline(points, document["limits"], labels, folder / ROOFLINE, footnote)
    return [folder / RATIOS, folder / ROOFLINE]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("document", type=Path, metavar="FILE", help="what bench.speed --json wrote")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the pictures go")
    options = parser.parse_args(arguments)
    for path in draw(json.loads(options.document.read_text(encoding="utf-8")), options.folder):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
