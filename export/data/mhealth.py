"""UCI MHEALTH: body-worn sensors at 50 Hz, ten people, twelve activities; each row is one reading.

Read from the original `mHealth_subject1..10.log` (a folder or a zip of them: 23 channels and a label, 0 where
nothing was recorded, which is left out), or from the archive of CSV files with 12 channels and 11 activities.
"""

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.session import Floats
from export.data.archive import read_files
from export.data.rows import GREATEST, DataError, Integers, Rows

TITLE = "UCI MHEALTH: 12 activities, 10 people, one reading of 23 channels a row (or 11 and 12)"
ORIGIN = (
    "download MHEALTH from the UCI Machine Learning Repository, "
    "then `fogguard data import mhealth MHEALTHDATASET.zip` (a folder of the .log files does too)"
)
ACTIVITIES = (
    "standing still", "sitting", "lying down", "walking", "climbing stairs", "waist bends", "arm elevation",
    "knees bending", "cycling", "jogging", "running", "jump front and back",
)  # fmt: skip
VERIFIED = {
    "8512813c227be5c31caed1cfb210670dabd02f6ba7939aebb8492e4f424e8db2": "12 channels, 11 activities, 332,853 rows"
}
_LOG = re.compile(r"mHealth_subject(\d+)\.log$")
_CSV = re.compile(r"subject(\d+)_activity(\d+)\.csv$")
_WANTED = re.compile(f"{_LOG.pattern}|{_CSV.pattern}")


class _Part(NamedTuple):
    values: Floats
    activities: Integers
    subject: int


def read(source: Path) -> Rows:
    """Read the originals or the archive at `source`, a folder or an archive; raises DataError."""
    parts = [_parse(Path(name).name, data) for name, data in read_files(source, _WANTED)]
    if not parts:
        raise DataError(f"{source}: holds neither mHealth_subject<N>.log nor subject<N>_activity<M>.csv; {ORIGIN}")
    if len({part.values.shape[1] for part in parts}) > 1:
        raise DataError(f"{source}: mixes files of 23 and of 12 channels: give one kind")
    activities = np.concatenate([part.activities for part in parts])
    present = np.unique(activities)
    return Rows(
        "mhealth",
        {"iot": np.concatenate([part.values for part in parts])},
        np.searchsorted(present, activities),
        tuple(ACTIVITIES[activity - 1] for activity in present),
        np.concatenate([np.full(len(part.activities), part.subject) for part in parts]),
    )


def _parse(name: str, data: bytes) -> _Part:
    try:
        if csv := _CSV.search(name):
            table = _table(data, range(1, 14), delimiter=",", skip=1)
            return _Part(table[:, :-1].astype("f4"), table[:, -1].astype(np.int64), int(csv[1]))
        table = _table(data, range(24), delimiter=None, skip=0)
        table = table[table[:, -1] > 0]
        subject = re.findall(r"\d+", name)[-1]
        return _Part(table[:, :-1].astype("f4"), table[:, -1].astype(np.int64), int(subject))
    except ValueError as error:
        raise DataError(f"{name}: {error}; {ORIGIN}") from error


def _table(data: bytes, columns: range, delimiter: str | None, skip: int) -> npt.NDArray[np.float64]:
    """Return the columns, the label last, of a text of numbers; raises ValueError."""
    table = np.loadtxt(io.BytesIO(data), delimiter=delimiter, skiprows=skip, usecols=columns, ndmin=2)
    if len(table) == 0 or not np.abs(table).max() <= GREATEST:
        raise ValueError("has no rows, or values that are no numbers")
    if not ((table[:, -1] >= 0) & (table[:, -1] <= len(ACTIVITIES))).all():
        raise ValueError(f"has labels outside 0 to {len(ACTIVITIES)}")
    return table
