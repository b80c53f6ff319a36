"""The packages that the command needs beyond the library's own."""

from __future__ import annotations

from importlib import import_module

from fastpool.cli.errors import CommandError

CLI_EXTRA = ("PIL", "matplotlib", "rich")


def require_cli_extra() -> None:
    """Import every package of the `cli` extra, or say how to get it."""
    for package in CLI_EXTRA:
        try:
            import_module(package)
        except ImportError as error:
            raise CommandError(
                f'this command needs {package}, which cannot be imported: pip install "fastpool[cli]"'
            ) from error
