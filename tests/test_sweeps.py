"""The cases of a sweep that run: every value of every parameter, or every pair of values, occurs in them."""

import itertools

import pytest
from sweeps import EXHAUSTIVE, covering, examples, some

PARAMETERS = {"dtype": (int, float), "tile": tuple(range(7)), "source": ("own", "shared", "in place")}
CASES = {
    f"case {number}": dict(zip(PARAMETERS, values, strict=True))
    for number, values in enumerate(itertools.product(*PARAMETERS.values()))
}


def combinations(names, strength):
    """Combinations of so many values that occur in cases."""
    return {c for name in names for c in itertools.combinations(CASES[name].items(), strength)}


@pytest.mark.parametrize(("strength", "fewest"), [(1, 7), (2, 21), (3, 42)])
def test_every_combination_occurs(strength, fewest):
    found = covering(CASES, strength)
    assert combinations(found, strength) == combinations(CASES, strength)
    assert fewest <= len(found) == len(set(found)) <= 2 * fewest
    assert found == covering(dict(reversed(CASES.items())), strength), "workers must agree, whatever their order"


def test_parts_of_loops(monkeypatch):
    monkeypatch.delenv(EXHAUSTIVE, raising=False)
    assert (list(some(range(7), 3)), examples(60)) == ([0, 3, 6], 30)
    monkeypatch.setenv(EXHAUSTIVE, "1")
    assert (list(some(range(7), 3)), examples(60)) == (list(range(7)), 60)
