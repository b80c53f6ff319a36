"""`fastpool info`: what the library knows of the machine and of itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any


def show_info(*, as_json: bool) -> None:
    """Print `fastpool.info()` to standard output. The table is plain text, so that no extra is needed to report it."""
    import fastpool

    facts = fastpool.info()
    if as_json:
        json.dump(facts, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
        return
    rows = list(_flatten(facts))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _flatten(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, value) lines, a nested mapping's names after that of the mapping."""
    for name, value in facts.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{label} ")
        elif isinstance(value, (list, tuple)):
            yield label, ", ".join(map(str, value)) or "none"
        else:
            yield label, str(value)
