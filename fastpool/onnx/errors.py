"""What is said of a model that cannot be run."""

from __future__ import annotations


class ModelError(ValueError):
    """A model is malformed, too large, or asks for what does not exist; the message names the node or the value."""


class Unsupported(Exception):  # noqa: N818 - never reaches a user
    """An operator's native implementation does not cover this case: the fallback does."""
