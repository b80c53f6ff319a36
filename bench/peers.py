"""Other libraries as engines, each in its best public configuration. All are optional and imported where used."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Arrays, Case, ConvCase, aligned
from bench.layers import UnsupportedError, one_convolution
from bench.timing import fastest

Run = Callable[[], np.ndarray]

TORCH_NOTE = (
    "eager mode under `inference_mode`, NCHW in and out; the faster, for each shape, of the default and the "
    "channels-last path. Eager oneDNN reorders weights, input and output in every call"
)
ONNXRUNTIME_NOTE = "CPU provider, one-node graph, all graph optimisations, I/O binding to fixed arrays"
OPENVINO_NOTE = "CPU plug-in, one-node graph, LATENCY hint, f32 precision, shared input tensor"


NCNN_NOTE = (
    "Python wheel, one-layer network, float32 storage and arithmetic, its own choice among Winograd, sgemm and packed "
    "kernels, batch 1 only; it allocates the output in every call"
)


def torch_layer(path: str, x: np.ndarray, threads: int) -> Run:
    """Load a network of one convolution, transposed or not, with constant weights."""
    import torch
    import torch.nn.functional as functional

    torch.set_num_threads(threads)
    layer = one_convolution(path)
    axes, weight, bias = x.ndim - 2, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
    operation = getattr(functional, f"conv{'_transpose' * layer.transposed}{axes}d")

    def run(x: Any, weight: Any) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = operation(x, weight, bias, *layer.options).contiguous().numpy()
            return found

    given = torch.from_numpy(x)

    def channels_last() -> Run:
        last = torch.channels_last if axes == 2 else torch.channels_last_3d
        turned = weight.contiguous(memory_format=last)
        return lambda: run(given.contiguous(memory_format=last), turned)

    ways: dict[str, Callable[[], Run]] = {"eager": lambda: lambda: run(given, weight)}
    if axes > 1:
        ways["eager, channels last"] = channels_last
    return fastest(ways)[1]


def torch_eager(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Call `torch.nn.functional` on tensors that share the arrays' memory."""
    import torch
    import torch.nn.functional as functional

    torch.set_num_threads(threads)
    x = torch.from_numpy(arrays.x)
    weight = None if arrays.weight is None else torch.from_numpy(arrays.weight)
    bias = None if arrays.bias is None else torch.from_numpy(arrays.bias)[:, None, None]

    def operation(x: Any, weight: Any) -> Any:
        """Compute the case."""
        if isinstance(case, ConvCase):
            return functional.conv2d(x, weight, None, case.stride, case.pad, case.dilation, case.groups)
        if case.op == "max":
            return functional.max_pool2d(x, case.kernel, case.stride, case.pad, 1, case.ceil)
        if case.op == "avg":
            return functional.avg_pool2d(x, case.kernel, case.stride, case.pad, case.ceil)
        total = functional.avg_pool2d(x, case.kernel, case.stride, case.pad, case.ceil, divisor_override=1)
        return total.mul_(weight[:, None, None]).add_(bias)

    def default() -> np.ndarray:
        """Leave everything in NCHW."""
        with torch.inference_mode():
            return operation(x, weight).numpy()

    last = torch.channels_last
    weight_last = weight.contiguous(memory_format=last) if isinstance(case, ConvCase) else weight

    def channels_last() -> np.ndarray:
        """Convert the input to NHWC and the output back, in every call."""
        with torch.inference_mode():
            return operation(x.contiguous(memory_format=last), weight_last).contiguous().numpy()

    return fastest({"eager": lambda: default, "eager, channels last": lambda: channels_last})


def onnx_graph(case: Case, arrays: Arrays) -> bytes:
    """Serialise the case as a graph of one node; subsampling is a depthwise convolution of equal weights."""
    import onnx
    from onnx import helper, numpy_helper

    element = helper.np_dtype_to_tensor_dtype(arrays.x.dtype)
    weights: dict[str, np.ndarray] = {}
    if isinstance(case, ConvCase):
        operator, weights["weight"] = "Conv", arrays.weight
        attributes = _onnx_window(case.kh, case.stride, case.pad) | {"group": case.groups}
        attributes |= {"kernel_shape": [case.kh, case.kw], "dilations": [case.dilation] * 2}
    elif case.op == "sub":
        operator, attributes = "Conv", _onnx_window(case.kernel, case.stride, case.pad) | {"group": case.c}
        shape = (case.c, 1, case.kernel, case.kernel)
        weights["weight"] = np.ascontiguousarray(np.broadcast_to(arrays.weight[:, None, None, None], shape))
        weights["bias"] = arrays.bias
        out_h, out_w = case.output_shape[2:]  # Conv knows no ceil_mode: zeros stand where the last windows hang over
        reach_h, reach_w = ((out - 1) * case.stride + case.kernel - case.pad for out in (out_h, out_w))
        attributes["pads"] = [case.pad] * 2 + [max(case.pad, reach_h - case.h), max(case.pad, reach_w - case.w)]
    else:
        operator = "MaxPool" if case.op == "max" else "AveragePool"
        attributes = _onnx_window(case.kernel, case.stride, case.pad) | {"ceil_mode": int(case.ceil)}
        if case.op == "avg":
            attributes["count_include_pad"] = 1
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *weights], ["y"], **attributes)],
        "case",
        [helper.make_tensor_value_info("x", element, case.input_shape)],
        [helper.make_tensor_value_info("y", element, case.output_shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _onnx_window(kernel: int, stride: int, pad: int) -> dict[str, Any]:
    """Return the attributes that Conv and the poolings share."""
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}


def onnxruntime(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Build a session with everything optimised, and bind input and output once."""
    try:
        return "session", onnxruntime_model(onnx_graph(case, arrays), arrays.x, threads)
    except Exception as error:  # its classes are private; NotImplemented means that no kernel takes this dtype
        if "NOT_IMPLEMENTED" in str(error):
            raise UnsupportedError(f"no {arrays.x.dtype} kernel") from error
        raise


def onnxruntime_model(model: bytes | str, x: np.ndarray, threads: int) -> Run:
    """Build a session of a model, or of the file that has it, and bind its input and output once."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,), (wanted,) = session.get_inputs(), session.get_outputs()
    shape = wanted.shape
    if not all(isinstance(size, int) for size in shape):  # the model leaves it open, a run tells
        shape = session.run(None, {given.name: x})[0].shape
    out = aligned(tuple(shape), x.dtype)
    binding = session.io_binding()
    source = ort.OrtValue.ortvalue_from_numpy(x)
    binding.bind_ortvalue_input(given.name, source)
    binding.bind_output(wanted.name, "cpu", 0, out.dtype.type, out.shape, out.ctypes.data)

    def run() -> np.ndarray:
        """Run the session on the bound arrays."""
        session.run_with_iobinding(binding)
        return out

    run.keeps = x, source  # the binding points to their memory and does not own it
    return run


def openvino(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Compile the graph for latency, and let the request read the array's own memory."""
    if arrays.x.dtype != np.float32:
        raise UnsupportedError("the CPU plug-in computes in float32")
    if not isinstance(case, ConvCase) and case.op == "avg" and case.ceil:
        raise UnsupportedError("the divisor of a window that hangs over is another one here")
    return "request", openvino_model(onnx_graph(case, arrays), arrays.x, threads)


def openvino_model(model: bytes | str, x: np.ndarray, threads: int) -> Run:
    """Compile a model, or the file that has it, for latency, and let the request read the array's own memory."""
    import openvino as ov

    core = ov.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    network = core.read_model(model)
    network.reshape(x.shape)  # where the model leaves it open
    compiled = core.compile_model(network, "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    result = request.get_output_tensor().data

    def run() -> np.ndarray:
        """Run the request."""
        request.infer()
        return result

    run.keeps = x  # the shared tensor points to its memory and does not own it
    return run


def ncnn_layer(case: Case) -> tuple[str, dict[int, int]]:
    """Return the type of ncnn's layer for a case, and its numbered parameters."""
    if isinstance(case, ConvCase):
        kernel = {0: case.out_c, 1: case.kw, 11: case.kh, 2: case.dilation, 3: case.stride, 4: case.pad}
        weights = {5: 0, 6: _product(case.weight_shape)}
        return (
            ("Convolution", kernel | weights)
            if case.groups == 1
            else ("ConvolutionDepthWise", kernel | weights | {7: case.groups})
        )
    if case.op == "sub":
        window = {0: case.c, 1: case.kernel, 3: case.stride, 4: case.pad, 5: 1, 6: case.c * case.kernel**2, 7: case.c}
        if case.ceil:
            raise UnsupportedError("a convolution knows no ceil_mode")
        return "ConvolutionDepthWise", window
    rounding = {5: 0 if case.ceil else 1}
    return "Pooling", {0: int(case.op == "avg"), 1: case.kernel, 2: case.stride, 3: case.pad, 6: 1} | rounding


def ncnn(case: Case, arrays: Arrays, threads: int) -> tuple[str, Run]:
    """Load a network of one layer, and run it on a matrix that shares the array's memory."""
    import ncnn as library

    if arrays.x.dtype != np.float32 or case.n != 1:
        raise UnsupportedError("float32 and batch 1 only")
    if not isinstance(case, ConvCase) and case.op == "avg" and case.ceil:
        raise UnsupportedError("the divisor of a window that hangs over is another one here")
    kind, parameters = ncnn_layer(case)
    numbers = " ".join(f"{key}={value}" for key, value in parameters.items())
    text = f"7767517\n2 2\nInput x 0 1 x\n{kind} y 1 1 x y {numbers}\n"
    flag = np.zeros(1, np.uint32).tobytes()  # the weights follow as plain float32
    model = b""
    if isinstance(case, ConvCase):
        model = flag + arrays.weight.tobytes()
    elif case.op == "sub":
        model = flag + np.repeat(arrays.weight, case.kernel**2).tobytes() + arrays.bias.tobytes()
    net = library.Net()
    net.opt.num_threads = threads
    for half in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed"):
        if hasattr(net.opt, half):
            setattr(net.opt, half, False)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.param").write_text(text, encoding="ascii")
        (Path(folder) / "net.bin").write_bytes(model)
        if net.load_param(f"{folder}/net.param") or net.load_model(f"{folder}/net.bin"):
            raise UnsupportedError(f"ncnn does not load {case.id}")
    source = library.Mat(arrays.x[0])

    def run() -> np.ndarray:
        """Extract the output."""
        extractor = net.create_extractor()
        extractor.input("x", source)
        _, run.result = extractor.extract("y")  # the array is a view and does not own it
        return np.array(run.result, copy=False)[np.newaxis]

    run.keeps = arrays, net, source
    return "extractor", run


def _product(shape: tuple[int, ...]) -> int:
    """Count elements."""
    return int(np.prod(shape))
