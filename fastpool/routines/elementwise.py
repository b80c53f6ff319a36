"""Functions of each element, of one array or of two."""

from __future__ import annotations

from fastpool.routines.layout import Layout
from fastpool.routines.routine import kernel

ELEMENTWISE = Layout(
    "elementwise",
    {
        "planes": "integer",
        "length": "integer",  # elements of a plane
        "planes_per_task": "integer",
        "piece": "integer",  # elements of a plane that a task takes, whole vectors
        "pieces": "integer",
        "period": "integer",  # planes after which the numbers of the second array begin anew
        "pitch": "integer",  # elements of the second array from one plane's to the next's, or 0
        "alpha": "number",
        "beta": "number",
        "low": "number",
        "high": "number",
    },
)

#: Functions of one element, with alpha and beta.
UNARY = ("clip", "leaky", "hardsigmoid", "hardswish")

#: The same of float32 only.
SMOOTH = ("sigmoid", "swish", "tanh")

#: Functions of two elements, the second of an array of its own or the same in a plane.
BINARY = ("add", "sub", "mul", "div", "prelu")

elementwise = kernel("elementwise.elementwise", ELEMENTWISE)
