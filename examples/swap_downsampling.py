"""Swap the downsampling of a network, and measure what it costs: ``python -m examples.swap_downsampling [MODEL]``.

MODEL is an ONNX file of one float32 input, or the name of a network of ``bench.networks``, whose weights are random.
Two variants are made of it: one in which a strided convolution stands in the place of each max pooling, as in
Springenberg et al. (2015), and one in which each strided convolution goes by single steps and max pooling follows.
Their outputs have the shape of the original's, not its values: a network with other layers has to be trained again.

It needs ``fastpool[onnx]``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import fastpool.onnx
from bench.latency import input_shape
from bench.networks import NETWORKS
from bench.networks.count import multiply_adds, parameters
from bench.report import number, table
from bench.timing import measure_call, measure_in_turns, median_ratio

ROUNDS = 5
Shapes = dict[str, list[int]]
#: What stands in the place of a node: nodes, and weights by name. None leaves the node as it is.
Replacement = tuple[list[onnx.NodeProto], dict[str, np.ndarray]] | None


def pooling_to_convolution(node: onnx.NodeProto, shapes: Shapes) -> Replacement:
    """Replace a max pooling by a convolution of the same windows and a rectification."""
    if node.op_type != "MaxPool":
        return None
    window = attributes(node)
    kernel, strides, begin = window["kernel_shape"], window["strides"], window["pads"][:2]
    source, wanted = shapes[node.input[0]], shapes[node.output[0]]
    reach = [(out - 1) * step + k for out, step, k in zip(wanted[2:], strides, kernel, strict=True)]
    # Convolutions know no ceil_mode: zeros stand where the last windows hang over.
    end = [max(0, far - first - size) for far, first, size in zip(reach, begin, source[2:], strict=True)]
    channels = source[1]
    deviation = math.sqrt(2 / (channels * math.prod(kernel)))  # keeps the values' size (He et al., 2015)
    weight = np.random.default_rng(0).normal(0, deviation, (channels, channels, *kernel)).astype(np.float32)
    name, inner = f"{node.output[0]}.weight", f"{node.output[0]}.convolved"
    arguments = {"kernel_shape": kernel, "strides": strides, "pads": [*begin, *end]}
    conv = helper.make_node("Conv", [node.input[0], name], [inner], **arguments)
    return [conv, helper.make_node("Relu", [inner], [node.output[0]])], {name: weight}


def convolution_to_pooling(node: onnx.NodeProto, shapes: Shapes) -> Replacement:
    """Let a convolution of stride 2 go by single steps, and pool the maxima of 3x3 pixels."""
    if node.op_type != "Conv" or attributes(node)["strides"] != [2, 2]:
        return None
    inner = f"{node.output[0]}.full"
    conv = helper.make_node("Conv", node.input, [inner], **attributes(node) | {"strides": [1, 1]})
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    return [conv, helper.make_node("MaxPool", [inner], [node.output[0]], **window)], {}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a convolution or pooling of two dimensions, the usual ones in any case."""
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if given.pop("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ValueError(f"{node.name or node.output[0]}: explicit pads are wanted")
    return {"strides": [1, 1], "pads": [0] * 4} | given


def swap(
    model: onnx.ModelProto, replace: Callable[[onnx.NodeProto, Shapes], Replacement]
) -> tuple[onnx.ModelProto, int]:
    """Return a model in which nodes are replaced, with the shapes of its values, and the number of these nodes."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    swapped = onnx.ModelProto()
    swapped.CopyFrom(model)
    graph, count = swapped.graph, 0
    del graph.node[:], graph.value_info[:]
    for node in model.graph.node:
        replacement = replace(node, shapes)
        if replacement is None:
            graph.node.append(node)
            continue
        count += 1
        graph.node.extend(replacement[0])
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in replacement[1].items())
    return onnx.shape_inference.infer_shapes(swapped, strict_mode=True), count


def read(source: str) -> onnx.ModelProto:
    """Return the model of a file, or a network by name, for one image and with the shapes of all values."""
    if source in NETWORKS:
        return NETWORKS[source].build(1, 0)
    model, shape = onnx.load(source), input_shape(Path(source))
    weights = {weight.name for weight in model.graph.initializer}
    (given,) = (value for value in model.graph.input if value.name not in weights)
    for dim, size in zip(given.type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    for value in model.graph.output:  # they are found anew, for this input
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def variants_of(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """Return the model and what is made of it, by what was done."""
    found = {"as it is": model}
    for kind, replace in (
        ("max poolings -> strided convolutions", pooling_to_convolution),
        ("strided convolutions -> max pooling", convolution_to_pooling),
    ):
        swapped, count = swap(model, replace)
        if count:
            found[f"{count} {kind}"] = swapped
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    description = (__doc__ or "").partition(":")[0]
    parser = argparse.ArgumentParser(prog="python -m examples.swap_downsampling", description=description)
    known = ", ".join(NETWORKS)
    parser.add_argument("model", nargs="?", default="squeezenet", help=f"a file, or of {known} (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.model not in NETWORKS and not Path(options.model).is_file():
        parser.error(f"model: {options.model!r} is no file and none of {known}")
    try:
        variants = variants_of(read(options.model))
    except ValueError as error:
        parser.error(f"model: {error}")
    blocks = {}
    for name, model in variants.items():
        shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        blocks[name] = partial(measure_call, partial(fastpool.onnx.load(model), x))
    times = measure_in_turns(blocks, ROUNDS)
    before = times["as it is"]
    lines = [
        [
            name,
            f"{1e-6 * parameters(model):.3g}",
            f"{1e-6 * multiply_adds(model):.4g}",
            number(1e3 * statistics.median(times[name])),
            number(median_ratio(times[name], before)),
        ]
        for name, model in variants.items()
    ]
    print(table([options.model, "M parameters", "M multiply-adds", "ms", "times as long"], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
