"""Data sets, as rows of sensor values with a label; none of them comes with fogguard.

`load_data` finds a set by name. The smartwatch set lies in the `seglearn` wheel; the others are imported once
with `fogguard data import`, into the folder `$FOGGUARD_DATA` (default `~/.local/share/fogguard/data`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from export.data import mhealth, watch
from export.data.rows import DataError, Rows


class DataSet(NamedTuple):
    """A known data set: what it is, where it comes from, and how its rows are read."""

    title: str
    origin: str
    load: Callable[[Path], Rows]
    import_from: Callable[[Path, Path], None] | None


KNOWN: dict[str, DataSet] = {
    "watch": DataSet(watch.TITLE, watch.ORIGIN, lambda _folder: watch.load(), None),
    "mhealth": DataSet(mhealth.TITLE, mhealth.ORIGIN, mhealth.load, mhealth.import_from),
}


def data_folder(name: str) -> Path:
    """Return where the imported files of a data set lie."""
    home = os.environ.get("FOGGUARD_DATA")
    return (Path(home) if home else Path.home() / ".local/share/fogguard/data") / name


def require_known(name: str) -> DataSet:
    """Return the data set of that name; raises DataError."""
    if name not in KNOWN:
        raise DataError(f"unknown data set {name!r}: there are {', '.join(KNOWN)} (`fogguard data`)")
    return KNOWN[name]


def load_data(name: str) -> Rows:
    """Return all rows of a data set; raises DataError that says where to get it and where to put it."""
    return require_known(name).load(data_folder(name))


def import_data(name: str, source: Path) -> Path:
    """Check the file or folder that the user downloaded, and keep its rows; return where."""
    known = require_known(name)
    if known.import_from is None:
        raise DataError(f"{name} needs no import: {known.origin}")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; {known.origin}")
    folder = data_folder(name)
    try:
        known.import_from(source, folder)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}") from error
    return folder


def is_here(name: str) -> bool:
    """Return whether a data set loads on this machine."""
    try:
        load_data(name)
    except DataError:
        return False
    return True
