"""Kernel, strides, dilations and padding of convolutions and poolings, as the public functions take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastpool.onnx.errors import ModelError
from fastpool.onnx.graph import Node

AUTO_PADS = {"NOTSET": None, "VALID": "valid", "SAME_UPPER": "same_upper", "SAME_LOWER": "same_lower"}


@dataclass(frozen=True)
class Window:
    """Arguments of a window, one for each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]


def window_of(node: Node, axes: int, kernel: Sequence[int] | None = None) -> Window:
    """Read a node's window; a convolution's kernel is that of its weights."""
    given = node.attributes.integers("kernel_shape", axes, 1)
    if kernel is None:
        if given is None:
            raise ModelError(f"{node.label} lacks the attribute 'kernel_shape'")
        kernel = given
    elif given is not None and given != list(kernel):
        raise ModelError(f"{node.label}: the attribute 'kernel_shape' is {given}, the weights' {list(kernel)}")
    ones = [1] * axes
    return Window(
        tuple(kernel),
        tuple(node.attributes.integers("strides", axes, 1) or ones),
        tuple(node.attributes.integers("dilations", axes, 1) or ones),
        padding_of(node, axes),
    )


def padding_of(node: Node, axes: int) -> str | tuple[tuple[int, int], ...]:
    """Read a node's padding: the name of a rule, or what stands at the begin and end of each axis."""
    rule = AUTO_PADS[node.attributes.string("auto_pad", "NOTSET", tuple(AUTO_PADS))]
    if rule is not None:
        return rule
    pads = node.attributes.integers("pads", 2 * axes, 0) or [0] * (2 * axes)
    return tuple(zip(pads[:axes], pads[axes:], strict=True))
