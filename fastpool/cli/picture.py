"""A picture file -> an RGB array (1, 3, H, W) of float32 in [0, 1], cropped to a multiple of the factor."""

from __future__ import annotations

import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastpool.cli.errors import CommandError
from fastpool.units import printable

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 25_000_000
"""The im2col baseline of a 3x3 convolution holds 3 * 9 float32 numbers for every pixel: 2.7 GB at this size."""

SAMPLE = "grace_hopper.jpg"
"""The photograph that matplotlib carries: Commodore Grace Hopper, US Navy, in the public domain."""


@dataclass(frozen=True)
class Picture:
    """A picture that has been read; `pixels` is (1, 3, H, W), cropped, `width` and `height` are those of the file."""

    name: str
    width: int
    height: int
    pixels: NDArray[np.float32]


def sample_path() -> Path:
    """Where matplotlib keeps its photograph."""
    from matplotlib import cbook

    path = Path(cbook.get_sample_data(SAMPLE, asfileobj=False))
    if not path.is_file():
        raise CommandError(f"this matplotlib comes without its sample photograph {SAMPLE}: name a picture")
    return path


def load_picture(path: Path, factor: int) -> Picture:
    """Read a picture, turn it upright, convert it to RGB and crop it to a multiple of `factor` at right and bottom."""
    rgb = read_rgb(path)
    height, width = rgb.shape[:2]
    if factor > min(height, width):
        raise CommandError(f"argument --factor: {factor} does not fit, the picture is only {width} x {height} pixels")
    cropped = rgb[: height - height % factor, : width - width % factor]
    pixels = np.ascontiguousarray(cropped.transpose(2, 0, 1)[np.newaxis])
    return Picture(printable(path.name), width, height, pixels)


def read_rgb(path: Path) -> NDArray[np.float32]:
    """Return the picture as (H, W, 3) float32 in [0, 1]."""
    from PIL import Image, UnidentifiedImageError

    _require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files; what matters is refused below
            with Image.open(path) as image:
                _require_size(path, *image.size)
                return _to_rgb(image)
    except (CommandError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise CommandError(f"not a picture: {path}") from None
    except PermissionError:
        raise CommandError(f"cannot read, permission denied: {path}") from None
    except Image.DecompressionBombError:
        raise CommandError(f"picture too large, more than {MAX_PIXELS / 1e6:g} megapixels: {path}") from None
    except Exception as error:  # a damaged file: decoders raise OSError, SyntaxError, struct.error, and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CommandError(f"cannot read the picture {path}: {reason}") from error


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CommandError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:  # a folder that may not be searched, a name too long or with a null
        raise CommandError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise CommandError(f"is a directory, not a picture: {path}")
    if not stat.S_ISREG(mode):
        raise CommandError(f"not a regular file: {path}")


def _require_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise CommandError(
            f"picture too large: {width} x {height} is {width * height / 1e6:.1f} megapixels, "
            f"at most {MAX_PIXELS / 1e6:g} are compared: {path}"
        )


def _to_rgb(image: Image.Image) -> NDArray[np.float32]:
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        grey = _unit_range(np.asarray(upright))
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if upright.has_transparency_data:
        # Transparent pixels carry arbitrary colours: what one would see is the picture on white paper.
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    rgb: NDArray[np.float32] = np.asarray(upright.convert("RGB"), dtype=np.float32) / np.float32(255)
    return rgb


def _unit_range(grey: NDArray[Any]) -> NDArray[np.float32]:
    """Map grey values of more than 8 bits to [0, 1].

    Integers that fit 16 bits are taken on the scale of 65535 (what a 16-bit file means). Others, and floats beyond
    [0, 1], have no scale of their own: their smallest finite value becomes black, their largest white.
    """
    values = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    scale_16_bits = np.issubdtype(grey.dtype, np.integer)
    if scale_16_bits and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    elif not scale_16_bits and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return ((values - low) / max(high - low, np.finfo(np.float64).tiny)).astype(np.float32)
