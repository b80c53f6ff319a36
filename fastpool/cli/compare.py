"""`fastpool compare`: every way to downsample on one picture, measured, tabulated, and on one contact sheet."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fastpool.cli.errors import CommandError
from fastpool.cli.extra import require_cli_extra


def compare(image: str | None, *, factor: int, out: str, rounds: int, as_json: bool) -> None:
    """Run the comparison; `image` None is the photograph that matplotlib carries."""
    require_cli_extra()
    from fastpool.cli.picture import sample_path

    source = sample_path() if image is None else Path(image)
    target = _writable_png(out, source)
    try:
        _compare(source, factor, target, rounds, as_json)
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        raise CommandError(f"not enough memory for this picture, take a smaller one: {source}{reason}") from error


def _compare(source: Path, factor: int, target: Path, rounds: int, as_json: bool) -> None:
    from rich.console import Console
    from rich.progress import track

    import fastpool
    from fastpool.cli.measure import measure
    from fastpool.cli.picture import load_picture
    from fastpool.cli.report import print_json, print_table
    from fastpool.cli.sheet import draw_sheet
    from fastpool.cli.ways import WAYS

    picture = load_picture(source, factor)
    progress = Console(stderr=True)
    measurements = [
        measure(way, picture.pixels, factor, rounds)
        for way in track(WAYS, "comparing", console=progress, transient=True, disable=not progress.is_terminal)
    ]
    machine = fastpool.info()
    sheet = draw_sheet(picture, factor, measurements, machine)
    try:
        target.write_bytes(sheet)
    except OSError as error:
        raise CommandError(f"argument --out: cannot write {target}: {error.strerror or error}") from error
    if as_json:
        print_json(picture, str(source), factor, measurements, str(target), machine)
    else:
        print_table(picture, factor, measurements, str(target))


def _writable_png(out: str, source: Path) -> Path:
    """Refuse, before any work is done, a contact sheet that could not be written."""
    target = Path(out)
    if target.suffix.lower() != ".png":
        raise CommandError(f"argument --out: the contact sheet is a PNG, its name must end in .png, got {out!r}")
    if not target.parent.is_dir():
        raise CommandError(f"argument --out: no such directory: {target.parent}")
    try:
        existing: os.stat_result | None = target.stat()
    except FileNotFoundError:
        existing = None
    except (OSError, ValueError) as error:  # a folder that may not be searched, a name too long or with a null
        raise CommandError(f"argument --out: cannot write {out}: {getattr(error, 'strerror', None) or error}") from None
    if existing and stat.S_ISDIR(existing.st_mode):
        raise CommandError(f"argument --out: is a directory: {out}")
    if existing and source.is_file() and os.path.samestat(existing, source.stat()):
        raise CommandError(f"argument --out: would overwrite the picture: {out}")
    if not os.access(target if existing else target.parent, os.W_OK):
        raise CommandError(f"argument --out: cannot write, permission denied: {out}")
    return target
