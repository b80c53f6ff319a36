"""Examples to run from a clone of the repository: ``python -m examples.NAME``."""
