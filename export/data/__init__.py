"""Data sets, as rows of sensor values with a label; none of them comes with fogguard.

`load_data` finds a set by name. The smartwatch set lies in the `seglearn` wheel; the others, and any folder of CSV
files, are imported once with `fogguard data import`, into `$FOGGUARD_DATA` (default `~/.local/share/fogguard/data`).
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from broker.topics import require_name
from export.data import camera, mhealth, table, watch
from export.data.rows import DataError, Rows
from export.data.store import FILE, load_rows, save_rows


class DataSet(NamedTuple):
    """A known data set: what it is, where it comes from, and how it is read.

    `read` takes what the user downloaded, None if nothing is to be imported; `verified` holds the hashes of the rows
    that this fogguard was measured on, and what they are.
    """

    title: str
    origin: str
    read: Callable[[Path], Rows] | None
    verified: dict[str, str] = {}  # noqa: RUF012


KNOWN: dict[str, DataSet] = {
    "watch": DataSet(watch.TITLE, watch.ORIGIN, None),
    "mhealth": DataSet(mhealth.TITLE, mhealth.ORIGIN, mhealth.read, mhealth.VERIFIED),
    "camera": DataSet(camera.TITLE, camera.ORIGIN, camera.read, camera.VERIFIED),
}
OWN = "`fogguard data import NAME FOLDER --label COLUMN --sensor NAME=COLUMN,…`"


def data_folder(name: str) -> Path:
    """Return where the imported rows of a data set lie."""
    home = os.environ.get("FOGGUARD_DATA")
    return (Path(home) if home else Path.home() / ".local/share/fogguard/data") / name


def imported_sets() -> list[str]:
    """Return the names of the user's own data sets."""
    return sorted(file.parent.name for file in data_folder("").glob(f"*/{FILE}") if file.parent.name not in KNOWN)


def load_data(name: str) -> Rows:
    """Return all rows of a data set; raises DataError that says where to get it and where to put it."""
    if name == "watch":
        return watch.load()
    if name in KNOWN:
        return load_rows(name, data_folder(name), KNOWN[name].origin)
    if name not in imported_sets():
        raise DataError(
            f"unknown data set {name!r}: there are {', '.join([*KNOWN, *imported_sets()])} (`fogguard data`); "
            f"make one of your own with {OWN}"
        )
    return load_rows(name, data_folder(name), OWN, own=True)


def import_data(
    name: str, source: Path, label: str | None = None, sensors: Sequence[str] = (), group: str | None = None
) -> Rows:
    """Check the file or folder that the user downloaded or made, and keep its rows.

    Args:
        name: A known set, or a new name for CSV files of the user's own.
        source: A folder, or a zip or tar archive.
        label: For CSV files, the column of the class.
        sensors: For CSV files, which columns each sensor reads, as "iot=ax,ay".
        group: For CSV files, the column of what must not be torn apart.
    """
    known = KNOWN.get(name)
    if known and known.read is None:
        raise DataError(f"{name} needs no import: {known.origin}")
    if known is None and not (label and sensors):
        raise DataError(f"unknown data set {name!r}: there are {', '.join(KNOWN)}; for CSV files of your own: {OWN}")
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; {known.origin if known else OWN}")
    folder = data_folder(require_name(name, "data set"))
    try:
        if known and known.read:
            rows = known.read(source)
        else:
            rows = table.read(name, source, label or "", table.parse_sensors(sensors), group)
        save_rows(rows, folder)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}") from error
    return rows


def status(name: str) -> str:
    """Return whether a data set is here and whole, and whether its rows are ones that fogguard was measured on."""
    try:
        rows = load_data(name)
    except DataError as error:
        return f"damaged: {error}" if (data_folder(name) / FILE).exists() else "missing"
    verified = KNOWN[name].verified if name in KNOWN else {}
    known = verified.get(rows.sha256)
    return f"here, verified: {known}" if known else f"here, sha256 {rows.sha256[:12]}…"
