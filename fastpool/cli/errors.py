"""What the command says when it cannot do what was asked: one line, and an exit code."""

from __future__ import annotations

EXIT_USAGE = 2
"""The command cannot start on what it was given: a bad argument, a bad picture, a missing extra."""

EXIT_WRONG_RESULT = 1
"""A result disagrees with its baseline: a defect of the library, never of the user's input."""


class CommandError(Exception):
    """An expected failure; its text is the whole message, `exit_code` what the process returns."""

    def __init__(self, message: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code
