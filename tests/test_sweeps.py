"""The cases of a sweep that run: every value of every parameter occurs in them."""

import itertools

from sweeps import EXHAUSTIVE, covering, examples, some

PARAMETERS = {"dtype": (int, float), "tile": tuple(range(7)), "source": ("own", "shared", "in place")}
CASES = {
    f"case {number}": dict(zip(PARAMETERS, values, strict=True))
    for number, values in enumerate(itertools.product(*PARAMETERS.values()))
}


def values_in(names):
    """Parameters and their values that occur in cases."""
    return {pair for name in names for pair in CASES[name].items()}


def test_every_value_occurs():
    found = covering(CASES)
    assert values_in(found) == values_in(CASES)
    assert 7 <= len(found) == len(set(found)) <= 12  # as many as the longest parameter has values, or all of them
    assert found == covering(dict(reversed(CASES.items()))), "workers must agree, whatever their order"


def test_parts_of_loops(monkeypatch):
    monkeypatch.delenv(EXHAUSTIVE, raising=False)
    assert (list(some(range(7), 3)), examples(60)) == ([0, 3, 6], 30)
    monkeypatch.setenv(EXHAUSTIVE, "1")
    assert (list(some(range(7), 3)), examples(60)) == (list(range(7)), 60)
