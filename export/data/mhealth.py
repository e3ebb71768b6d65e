"""UCI MHEALTH: body-worn sensors at 50 Hz, ten people, twelve activities; each row is one reading.

Read from the original `mHealth_subject1..10.log` (a folder or a zip of them: 23 channels and a label, 0 where
nothing was recorded, which is left out), or from the archive of CSV files with 12 channels and 11 activities.
Imported once into `mhealth.npz`.
"""

import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.session import Floats
from export.data.rows import DataError, Integers, Rows

TITLE = "UCI MHEALTH: 12 activities, 10 people, one reading of 23 channels a row (or 11 and 12)"
ORIGIN = (
    "download MHEALTH from the UCI Machine Learning Repository, "
    "then `fogguard data import mhealth MHEALTHDATASET.zip` (a folder of the .log files does too)"
)
ACTIVITIES = (
    "standing still", "sitting", "lying down", "walking", "climbing stairs", "waist bends", "arm elevation",
    "knees bending", "cycling", "jogging", "running", "jump front and back",
)  # fmt: skip
_FILE = "mhealth.npz"
_LOG = re.compile(r"mHealth_subject(\d+)\.log$")
_CSV = re.compile(r"subject(\d+)_activity(\d+)\.csv$")


class _Part(NamedTuple):
    values: Floats
    activities: Integers
    subject: int


def load(folder: Path) -> Rows:
    """Return the imported rows; raises DataError that says how to get them."""
    file = folder / _FILE
    try:
        with file.open("rb") as stored, np.load(stored, allow_pickle=False) as kept:
            values, activities, subjects = kept["values"], kept["activities"], kept["subjects"]
    except FileNotFoundError as error:
        raise DataError(f"data set mhealth is not in {folder}: {ORIGIN}") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is damaged ({error}): import it again; {ORIGIN}") from error
    present = np.unique(activities)
    return Rows(
        "mhealth",
        {"iot": values},
        np.searchsorted(present, activities),
        tuple(ACTIVITIES[activity - 1] for activity in present),
        subjects,
    )


def import_from(source: Path, folder: Path) -> None:
    """Read the originals or the archive at `source` and keep their rows in `folder`; raises DataError."""
    parts = [_parse(name, data) for name, data in _files(source)]
    if not parts:
        raise DataError(f"{source}: holds neither mHealth_subject<N>.log nor subject<N>_activity<M>.csv; {ORIGIN}")
    if len({part.values.shape[1] for part in parts}) > 1:
        raise DataError(f"{source}: mixes files of 23 and of 12 channels: give one kind")
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{_FILE}.new"
    with fresh.open("wb") as output:
        np.savez(
            output,
            values=np.concatenate([part.values for part in parts]),
            activities=np.concatenate([part.activities for part in parts]),
            subjects=np.concatenate([np.full(len(part.activities), part.subject) for part in parts]),
        )
    fresh.replace(folder / _FILE)


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every data file in a folder, zip or tar archive, by name."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if _is_data(path.name):
                yield path.name, path.read_bytes()
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in sorted(filter(_is_data, archive.namelist())):
                yield name, archive.read(name)
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for name in sorted(filter(_is_data, archive.getnames())):
                content = archive.extractfile(name)
                if content is not None:
                    yield name, content.read()
    else:
        raise DataError(f"{source}: neither a folder nor a zip or tar archive; {ORIGIN}")


def _is_data(name: str) -> bool:
    return bool(_LOG.search(name) or _CSV.search(name))


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
    if len(table) == 0 or not np.isfinite(table).all():
        raise ValueError("has no rows, or values that are no numbers")
    if not ((table[:, -1] >= 0) & (table[:, -1] <= len(ACTIVITIES))).all():
        raise ValueError(f"has labels outside 0 to {len(ACTIVITIES)}")
    return table
