"""Imported rows on disk: one `rows.npz` a data set, the same form whatever it came from."""

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.session import Floats
from export.data.rows import DataError, Rows

FILE: Final = "rows.npz"
_SENSOR: Final = "sensor."


def save_rows(rows: Rows, folder: Path) -> None:
    """Keep the rows in `folder`, whole or not at all; whole numbers up to 255 take a byte each."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.new"
    arrays: dict[str, npt.NDArray[Any]] = {f"{_SENSOR}{name}": _small(values) for name, values in rows.sensors.items()}
    arrays |= {"labels": rows.labels, "class_names": np.array(rows.class_names), "groups": rows.groups}
    if rows.parts is not None:
        arrays["parts"] = rows.parts
    try:
        with fresh.open("wb") as output:
            np.savez(output, allow_pickle=False, **arrays)
        fresh.replace(folder / FILE)
    finally:
        fresh.unlink(missing_ok=True)


def load_rows(name: str, folder: Path, origin: str, *, own: bool = False) -> Rows:
    """Return the rows kept in `folder`, of a known set or an own one; raises DataError that says how to get them."""
    file = folder / FILE
    try:
        with file.open("rb") as stored, np.load(stored, allow_pickle=False) as kept:
            sensors = {
                key.removeprefix(_SENSOR): kept[key].astype(np.float32) for key in kept.files if key.startswith(_SENSOR)
            }
            return Rows(
                name,
                sensors,
                kept["labels"],
                tuple(kept["class_names"].tolist()),
                kept["groups"],
                kept["parts"] if "parts" in kept.files else None,
                own,
            )
    except FileNotFoundError as error:
        raise DataError(f"data set {name} is not in {folder}: {origin}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is damaged ({error}): import it again; {origin}") from error


def _small(values: Floats) -> npt.NDArray[np.generic]:
    """Return the values as bytes if nothing is lost by it."""
    narrow = values.clip(0, 255).astype(np.uint8)
    return narrow if np.array_equal(narrow, values) else values
