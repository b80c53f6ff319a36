"""`fastpool run`: an ONNX model on an array, a picture or random numbers."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastpool.cli.errors import CommandError
from fastpool.units import printable, seconds_text

if TYPE_CHECKING:
    from fastpool.onnx.graph import Input
    from fastpool.onnx.model import Model

#: Mean and standard deviation of the colours of ImageNet, by which networks for it take pictures.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Height and width of a picture for a model that takes any.
_USUAL_SIZE = 224
_ARRAYS = (".npy", ".npz")
#: Classes that are shown of a picture.
_TOP = 5


def run_model(
    model_path: str, input_path: str | None, *, profile: bool, picture: str | None, top: int | None, repeat: int
) -> None:
    """Run a model and print what comes of it."""
    try:
        from fastpool.onnx import ModelError, load
    except ImportError as error:
        raise CommandError(str(error)) from error
    if picture is not None:
        _require_folder(picture)
    try:
        model = load(model_path)
        inputs = _inputs(model, input_path)
        outputs, seconds = _timed(model, inputs, repeat)
        print(f"{printable(Path(model_path).name)}: {_described(inputs, input_path)}")
        for name, array in outputs.items():
            _show(name, array, _TOP if top is None and _is_picture(input_path) else top)
        print(f"time: {seconds_text(seconds)}" + (f", median of {repeat} runs" if repeat > 1 else ""))
        if profile or picture is not None:
            measured = model.profile(inputs, max(repeat, 5))
            print(measured)
            if picture is not None:
                measured.picture(picture)
    except ModelError as error:
        raise CommandError(f"{model_path}: {error}" if model_path not in str(error) else str(error)) from error
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from error
    except MemoryError as error:
        raise CommandError(f"not enough memory for {model_path}") from error
    except OSError as error:
        raise CommandError(f"cannot write {picture}: {error.strerror or error}") from error


def _require_folder(picture: str) -> None:
    """Refuse, before any work is done, a picture that could not be written."""
    path = Path(picture)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise CommandError(f"argument --picture: the name must end in .png, .svg or .pdf, got {picture!r}")
    if not path.parent.is_dir() or path.is_dir():
        raise CommandError(f"argument --picture: cannot write {picture}")
    from fastpool.cli.extra import require_cli_extra

    require_cli_extra()


def _timed(model: Model, inputs: dict[str, np.ndarray], repeat: int) -> tuple[dict[str, np.ndarray], float]:
    """Outputs, and the median of `repeat` runs after one that prepares, if there are several."""
    if repeat > 1:
        model.run(inputs)
    times = []
    for _ in range(repeat):
        start = perf_counter()
        outputs = model.run(inputs)
        times.append(perf_counter() - start)
    return outputs, median(times)


def _is_picture(path: str | None) -> bool:
    return path is not None and Path(path).suffix.lower() not in _ARRAYS


def _inputs(model: Model, path: str | None) -> dict[str, np.ndarray]:
    if path is None:
        return model.random_inputs()
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        return _arrays(path)
    if len(model.input_names) != 1:
        raise CommandError(
            f"the model has {len(model.input_names)} inputs, {', '.join(map(printable, model.input_names))}: "
            "give a .npz file with an array for each"
        )
    ((name, declared),) = model.inputs.items()
    return {name: _array(path) if suffix == ".npy" else _picture(path, declared)}


def _array(path: str) -> np.ndarray:
    return _loaded(path)  # type: ignore[no-any-return]


def _arrays(path: str) -> dict[str, np.ndarray]:
    with _loaded(path) as archive:
        try:
            return {name: archive[name] for name in archive.files}
        except Exception as error:
            raise CommandError(f"cannot read {path}: {error}") from error


def _loaded(path: str) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise CommandError(f"no such file: {path}") from None
    except Exception as error:  # NumPy raises ValueError, EOFError, BadZipFile, OSError, ...
        raise CommandError(f"cannot read the array {path}: {getattr(error, 'strerror', None) or error}") from error


def _picture(path: str, declared: Input) -> np.ndarray:
    """A picture as networks for ImageNet take it; grey, from 0 to 1, for a model of one channel."""
    from fastpool.cli.extra import require_cli_extra

    require_cli_extra()
    from PIL import Image

    from fastpool.cli.picture import read_rgb

    shape = declared.shape
    if shape is None or len(shape) != 4 or shape[1] not in (1, 3) or declared.dtype != np.float32:
        raise CommandError(
            f"input {printable(declared.name)!r} takes no picture, which is float32 of shape (N, 3 or 1, H, W): "
            "give a .npy file"
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise CommandError(f"input {printable(declared.name)!r} takes {shape[0]} pictures at once: give a .npy file")
    height, width = (size if isinstance(size, int) else _USUAL_SIZE for size in shape[2:])
    rgb = read_rgb(Path(path))
    planes = [
        Image.fromarray(np.ascontiguousarray(rgb[:, :, channel])).resize((width, height), Image.Resampling.BILINEAR)
        for channel in range(3)
    ]
    x = np.stack([np.asarray(plane, np.float32) for plane in planes])
    if shape[1] == 1:
        grey: np.ndarray = x.mean(0, dtype=np.float32)
        return grey[np.newaxis, np.newaxis]
    mean, deviation = (np.array(numbers, np.float32).reshape(3, 1, 1) for numbers in IMAGENET)
    normalised: np.ndarray = (x - mean) / deviation
    return normalised[np.newaxis]


def _described(inputs: dict[str, np.ndarray], path: str | None) -> str:
    source = "random numbers" if path is None else printable(path)
    shapes = ", ".join(f"{printable(name)} {array.dtype} {array.shape}" for name, array in inputs.items())
    return f"{source} as {shapes or 'no input'}"


def _show(name: str, array: Any, top: int | None) -> None:
    """Print the shape of an output, or its largest elements if it has a number for each class."""
    if not isinstance(array, np.ndarray):
        print(f"output {printable(name)}: {type(array).__name__} of {len(array)}")
        return
    print(f"output {printable(name)}: {array.dtype} {array.shape}")
    scores = array.reshape(array.shape[0], -1) if array.ndim > 1 and array.shape[0] else None
    if top is None or scores is None or array.dtype.kind != "f" or max(array.shape[2:], default=1) > 1:
        return
    for index, row in enumerate(scores):
        best = np.argsort(-row, kind="stable")[:top]
        print(
            (f"  image {index}: " if len(scores) > 1 else "  ")
            + ", ".join(f"class {place} {row[place]:.4g}" for place in best)
        )
