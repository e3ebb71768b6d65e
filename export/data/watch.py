"""The smartwatch set of the `seglearn` wheel: shoulder exercises, cut into windows of two seconds.

140 recordings of ten people, 50 Hz, accelerometer and gyroscope of a watch. A window of 100 readings becomes
36 values: mean, standard deviation, least, greatest, mean absolute difference and root mean square per channel.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edge_agent.session import Floats
from export.data.rows import DataError, Rows

TITLE = "smartwatch: 7 shoulder exercises, 10 people, 36 features of 2 s windows"
ORIGIN = "it comes with the seglearn wheel: pip install 'fogguard[demo]'"
WINDOW = 100
_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"


def load() -> Rows:
    """Return the windows; raises DataError if the wheel is not installed or its file is another one."""
    package = find_spec("seglearn")  # found, not imported: the import wants pandas
    if package is None or not package.submodule_search_locations:
        raise DataError(f"data set watch is not on this machine: {ORIGIN}")
    file = Path(package.submodule_search_locations[0]) / "data" / "watch_dataset.npy"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
        raise DataError(f"{file}: not the smartwatch set of seglearn 1.2.5: pip install seglearn==1.2.5")
    # A pickle, opened only because the hash above says which one.
    recordings = np.load(file, allow_pickle=True).item()
    windows, labels, people = [], [], []
    for series, exercise, person in zip(recordings["X"], recordings["y"], recordings["subject"], strict=True):
        count = len(series) // WINDOW
        windows.append(series[: count * WINDOW].reshape(count, WINDOW, -1))
        labels += [int(exercise)] * count
        people += [int(person)] * count
    return Rows(
        "watch",
        {"iot": features(np.concatenate(windows))},
        np.array(labels),
        tuple(recordings["y_labels"]),
        np.array(people),
    )


def features(windows: Floats) -> Floats:
    """Return (windows, 6 x channels) values for (windows, readings, channels) readings."""
    steps = np.abs(np.diff(windows, axis=1)).mean(axis=1)
    rms = np.sqrt(np.square(windows).mean(axis=1))
    extremes = (windows.min(axis=1), windows.max(axis=1))
    return np.concatenate([windows.mean(axis=1), windows.std(axis=1), *extremes, steps, rms], axis=1).astype("f4")
