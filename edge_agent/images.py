"""Images as arrays of pixels: .npy, binary PGM and PPM by numpy alone, every other format by Pillow if it is there.

Pixels are numbers from 0 to 255 (16-bit ones to 65535), row by row, red, green and blue of each, as in training.
"""

import importlib
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.sample import SampleRefused

_NETPBM: Final = re.compile(rb"P([56])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s")
_BY_PILLOW: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
SUFFIXES: Final = frozenset({".npy", ".pgm", ".ppm"}) | _BY_PILLOW


def pixels(file: Path) -> "np.ndarray[Any, np.dtype[Any]]":
    """Return the (height, width) or (height, width, 3) pixels in `file`, of a .npy what it holds.

    Raises SampleRefused, which names the file.
    """
    try:
        if file.suffix.lower() == ".npy":
            with file.open("rb") as opened:
                found: np.ndarray[Any, np.dtype[Any]] = np.load(opened, allow_pickle=False)
            return found
        if file.suffix.lower() in (".pgm", ".ppm"):
            return _netpbm(file.read_bytes())
        return _by_pillow(file)
    except SampleRefused:
        raise
    except OSError as error:
        raise SampleRefused(f"{file}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # numpy's and Pillow's readers raise anything at a damaged file
        raise SampleRefused(f"{file}: not an image that can be read ({str(error) or repr(error)})") from error


def _netpbm(data: bytes) -> "np.ndarray[Any, np.dtype[Any]]":
    """Return the pixels of a binary PGM (P5) or PPM (P6)."""
    head = _NETPBM.match(data)
    if head is None:
        raise ValueError("neither a binary PGM (P5) nor a binary PPM (P6)")
    channels = 3 if head[1] == b"6" else 1
    width, height, most = (int(head[group]) for group in (2, 3, 4))
    dtype = np.dtype("u1" if most < 256 else ">u2")
    if not 0 < most < 65536 or len(data) - head.end() < width * height * channels * dtype.itemsize:
        raise ValueError(f"announces {width} x {height} pixels up to {most}, and holds {len(data) - head.end()} bytes")
    values = np.frombuffer(data, dtype, width * height * channels, head.end())
    return values.reshape((height, width, 3) if channels == 3 else (height, width))


def _by_pillow(file: Path) -> "np.ndarray[Any, np.dtype[Any]]":
    try:
        image: Any = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise SampleRefused(
            f"{file}: this format takes Pillow, which is not installed here: convert it to .ppm, .pgm or .npy, "
            "or bring Pillow's wheel along"
        ) from error
    with image.open(file) as opened:  # an image that Pillow does not know is an OSError
        return np.asarray(opened if opened.mode in ("L", "RGB") else opened.convert("RGB"))
