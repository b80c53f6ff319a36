"""Print the paper's comparison for the trained networks, run by fastpool: ``python -m examples.digits.compare``.

It needs ``fastpool[onnx]``. Where ONNX Runtime is installed, its classes are compared with ours.
"""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

import fastpool.onnx
from bench.networks.count import multiply_adds, parameters
from bench.report import number, table
from bench.timing import measure_call
from examples.digits import FOLDER, NETWORKS


def test_set() -> tuple[np.ndarray, np.ndarray]:
    """Return the images that no network was trained with, (N, 1, 8, 8) in [0, 1], and their classes."""
    with np.load(FOLDER / "test.npz") as stored:
        return stored["images"] / np.float32(16), stored["classes"]


def for_one_image(path: Path) -> onnx.ModelProto:
    """Return a model with all shapes, for one image."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def main() -> int:
    """Run the command."""
    x, classes = test_set()
    one = x[:1].copy()
    lines = []
    for name in NETWORKS:
        path = FOLDER / f"{name}.onnx"
        model, sized = fastpool.onnx.load(path), for_one_image(path)
        found = model(x).argmax(axis=1)
        wrong = float(np.mean(found != classes))
        chance = math.sqrt(wrong * (1 - wrong) / len(classes))
        line = [name, f"{100 * wrong:.1f} ± {100 * chance:.1f}", f"{parameters(sized):,}", f"{multiply_adds(sized):,}"]
        line.append(number(1e6 * measure_call(lambda model=model: model(one))))
        line.append(number(1e3 * measure_call(lambda model=model: model(x))))
        if find_spec("onnxruntime"):
            import onnxruntime

            (theirs,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
            line.append(f"{np.sum(found == theirs.argmax(axis=1))} of {len(x)}")
        lines.append(line)
    header = ["network", "error in %", "parameters", "multiply-adds", "one image, us", f"{len(x)} images, ms"]
    print(table(header + ["as ONNX Runtime"] * (len(lines[0]) - len(header)), lines))
    print(f"\nThe error's ± is what chance makes of {len(x)} images; another training gives another network, too.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
