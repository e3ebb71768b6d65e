"""The multi-camera set: an object seen by six cameras at once, as six images of 32 x 32 pixels; black where unseen.

Read from `{train,test,holdout}_dir/{class}_images/c{camera}_{object}_{frame}.jpg`; the authors validate on `test_dir`
and test on `holdout_dir`. Objects without all six views are left out.
"""

import io
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from export.data.archive import read_files
from export.data.rows import DataError, Rows

TITLE = "multi-camera: car, bus or person, seen by six cameras at once, 32 x 32 pixels each (3072 values a sensor)"
ORIGIN = (
    "get the images of the multi-camera set (EPFL) that the authors of deepFogGuard cut out, "
    "then `fogguard data import camera FOLDER` (a zip or tar archive does too)"
)
VERIFIED = {"75e570efbefeb23a1810be7d553aa7b99811ef8ae3cfc48cca2910e882bfa545": "1,379 objects, 1,110 of them to train"}
PARTS = ("train", "test", "holdout")
CLASSES = ("person", "car", "bus")
CAMERAS = 6
SIDE = 32
_IMAGE = re.compile(r"(?:^|/)(train|test|holdout)_dir/(\w+)_images/c(\d)_(\d+)_(\d+)\.jpe?g$")


def read(source: Path) -> Rows:
    """Read the images at `source`, a folder or an archive; raises DataError."""
    views: dict[tuple[str, str, int, int], dict[int, bytes]] = defaultdict(dict)
    for name, content in read_files(source, _IMAGE):
        ((part, kind, camera, number, frame),) = _IMAGE.findall(name)
        if kind not in CLASSES:
            raise DataError(f"{name}: class {kind!r}, known are {', '.join(CLASSES)}")
        views[part, kind, int(number), int(frame)][int(camera)] = content
    whole = sorted(key for key, cameras in views.items() if sorted(cameras) == list(range(CAMERAS)))
    if not whole:
        raise DataError(f"{source}: holds no object with all six views; {ORIGIN}")
    images = [np.stack([_pixels(views[key][camera], key, camera) for key in whole]) for camera in range(CAMERAS)]
    return Rows(
        "camera",
        {f"camera{camera + 1}": values for camera, values in enumerate(images)},
        np.array([CLASSES.index(kind) for _, kind, _, _ in whole]),
        CLASSES,
        np.array([number for _, _, number, _ in whole]),
        np.array([PARTS.index(part) for part, _, _, _ in whole]),
    )


def _pixels(
    content: bytes, key: tuple[str, str, int, int], camera: int
) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Return (3072,) values from 0 to 255: rows of pixels, red, green and blue of each."""
    from PIL import Image, UnidentifiedImageError  # only an import of images needs Pillow

    where = f"{key[0]}_dir/{key[1]}_images/c{camera}_{key[2]}_{key[3]}.jpg"
    try:
        image = Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{where}: no image ({error})") from error
    if image.size != (SIDE, SIDE):
        raise DataError(f"{where}: {image.size[0]} x {image.size[1]} pixels, {SIDE} x {SIDE} are expected")
    return np.asarray(image, np.float32).ravel()
