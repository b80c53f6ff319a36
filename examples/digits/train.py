"""Train the four networks, and write them and the test images next to this file: ``python -m examples.digits.train``.

It needs ``fastpool[train]``: PyTorch, scikit-learn (for the images) and onnx. The same seed gives the same files, as
far as PyTorch computes the same on another machine. With ``--seeds 5`` each network is trained five times, which tells
how much of a difference is chance; the first one is written.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from examples.digits import CLASSES, FOLDER, NETWORKS, Downsampling

TESTED = 500  # images that are held back, of 1797
OPSET, IR_VERSION = 17, 8
BATCH = 64
RATE, DECAY = 0.05, 1e-3


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return all images, (N, 1, 8, 8) with whole numbers from 0 to 16, and their classes, in random order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    return digits.images[order, None].astype(np.uint8), digits.target[order].astype(np.uint8)


def network(downsampling: Downsampling) -> nn.Sequential:
    """Return a network with fresh weights, without the final softmax."""
    modules: list[nn.Module] = []
    before = 1
    for kind, channels, kernel, stride in downsampling.layers():
        if kind == "max":
            modules.append(nn.MaxPool2d(kernel, stride, kernel // 2))
            continue
        conv = nn.Conv2d(before, channels, kernel, stride, kernel // 2)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        modules += [conv, nn.ReLU()] if channels != CLASSES else [conv]
        before = channels
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def train(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Train by stochastic gradient descent on images that are shifted by up to a pixel."""
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY, nesterov=True)
    steps = epochs * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.2)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            row, column = torch.randint(3, (2,)).tolist()
            shifted = padded[chosen, :, row : row + 8, column : column + 8]
            loss = nn.functional.cross_entropy(net(shifted), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()


def export(name: str, modules: Iterable[nn.Module]) -> onnx.ModelProto:
    """Return the network as a model for any number of images, with the shares of the classes as output."""
    nodes, weights, value = [], [], "x"

    def add(operator: str, *arrays: torch.Tensor, **attributes: object) -> None:
        nonlocal value
        label = f"{operator.lower()}{len(nodes)}"
        names = [f"{label}.{key}" for key, _ in zip(("weight", "bias"), arrays, strict=False)]
        weights.extend(
            numpy_helper.from_array(array.detach().numpy(), key) for key, array in zip(names, arrays, strict=True)
        )
        nodes.append(helper.make_node(operator, [value, *names], [f"{label}.y"], label, **attributes))
        value = f"{label}.y"

    for module in modules:
        if isinstance(module, nn.Conv2d):
            add("Conv", module.weight, module.bias, **window(module.kernel_size[0], module.stride[0]))
        elif isinstance(module, nn.MaxPool2d):
            add("MaxPool", **window(module.kernel_size, module.stride))
        elif isinstance(module, nn.ReLU):
            add("Relu")
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            add("GlobalAveragePool")
        elif isinstance(module, nn.Flatten):
            add("Flatten", axis=1)
        else:
            raise TypeError(f"module: {type(module).__name__} has no operator here")
    nodes.append(helper.make_node("Softmax", [value], ["y"], "softmax", axis=-1))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def window(kernel: int, stride: int) -> dict[str, list[int]]:
    """Return the attributes of centred windows."""
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}


def accuracy(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the part of the images that are given their class."""
    with torch.inference_mode():
        return float((net(x).argmax(1) == y).double().mean())


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    description = (__doc__ or "").partition(":")[0]
    parser = argparse.ArgumentParser(prog="python -m examples.digits.train", description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="where to (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=80, help="(default %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="how often to train each network (default %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in NETWORKS:
            parser.error(f"NAME: {name!r} is none of {', '.join(NETWORKS)}")
    if options.epochs < 1 or options.seeds < 1:
        parser.error("--epochs and --seeds must be at least 1")
    torch.use_deterministic_algorithms(True)
    pixels, classes = images()
    np.savez_compressed(options.folder / "test.npz", images=pixels[-TESTED:], classes=classes[-TESTED:])
    x, y = torch.from_numpy(pixels / np.float32(16)), torch.from_numpy(classes.astype(np.int64))
    for name in options.names or NETWORKS:
        figures = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            net = network(NETWORKS[name])
            train(net, x[:-TESTED], y[:-TESTED], options.epochs)
            figures.append(accuracy(net, x[-TESTED:], y[-TESTED:]))
            if seed == 0:
                (options.folder / f"{name}.onnx").write_bytes(export(name, net).SerializeToString())
        each = " ".join(f"{100 * figure:.1f}" for figure in figures)
        mean = f"{100 * statistics.fmean(figures):.2f}"
        print(f"{name}: of {TESTED} test images right, in percent: {each}; mean {mean}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
