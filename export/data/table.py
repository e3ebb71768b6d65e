"""A data set of the user's own: a folder of CSV files with a header line each.

label=activity                   the column with the class
iot=ax,ay,az  wrist=wx,wy        which columns each sensor reads
group=person                     rows that must not be torn apart in a split by group
train/ validation/ test/         folders of these names make a split of the user's own
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from broker.topics import require_name
from export.data.archive import read_files
from export.data.rows import GREATEST, DataError, Rows

PARTS = ("train", "validation", "test")
_CSV = re.compile(r"\.csv$", re.IGNORECASE)


def parse_sensors(texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each sensor for texts such as "iot=ax,ay"; raises DataError."""
    sensors: dict[str, list[str]] = {}
    for text in texts:
        name, _, columns = text.partition("=")
        if name in sensors:
            raise DataError(f"--sensor {text!r}: {name} is named twice; write all its columns at once")
        sensors[require_name(name, "sensor")] = [column for column in columns.split(",") if column]
        if not sensors[name]:
            raise DataError(f"--sensor {text!r}: write NAME=COLUMN,COLUMN,…")
    return sensors


def read(name: str, source: Path, label: str, sensors: Mapping[str, Sequence[str]], group: str | None) -> Rows:
    """Read every CSV file below `source`, a folder or an archive; raises DataError that names file and line."""
    values: dict[str, list[list[float]]] = {sensor: [] for sensor in sensors}
    labels: list[str] = []
    groups: list[str] = []
    parts: list[str] = []
    needed = [label, *([group] if group else []), *chain.from_iterable(sensors.values())]
    for file, content in read_files(source, _CSV):
        part = next((each for each in Path(file).parts if each in PARTS), "")
        for line, row in _lines(file, content, label, needed):
            labels.append(row[label])
            groups.append(row[group] if group else "")
            parts.append(part)
            for sensor, columns in sensors.items():
                values[sensor].append([_number(row[column], column, file, line) for column in columns])
    if not labels:
        raise DataError(f"{source}: holds no rows in CSV files")
    if any(parts) and not all(parts):
        raise DataError(f"{source}: some files lie in {', '.join(PARTS)} and some do not: move them, or none")
    names = sorted(set(labels), key=lambda text: (not text.isdecimal(), int(text) if text.isdecimal() else 0, text))
    return Rows(
        name,
        {sensor: np.array(table, np.float32) for sensor, table in values.items()},
        np.array([names.index(each) for each in labels]),
        tuple(names),
        np.unique(groups, return_inverse=True)[1],
        np.array([PARTS.index(part) for part in parts]) if any(parts) else None,
        own=True,
    )


def _lines(file: str, content: bytes, label: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
        header = reader.fieldnames or []
        if missing := [column for column in needed if column not in header]:
            raise DataError(f"{file}: no column {missing[0]!r}: there are {', '.join(header) or 'none'}")
        if twice := [column for column in needed if header.count(column) > 1]:
            raise DataError(f"{file}: there are several columns {twice[0]!r}: give each a name of its own")
        for row in reader:
            if any(row[column] is None for column in needed):
                raise DataError(f"{file}, line {reader.line_num}: fewer values than columns")
            if any(row.get(None, ())):
                raise DataError(f"{file}, line {reader.line_num}: more values than columns; a number takes no comma")
            if not row[label].strip():
                raise DataError(f"{file}, line {reader.line_num}: no {label}")
            yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: no CSV text ({error})") from error


def _number(text: str, column: str, file: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not abs(value) <= GREATEST:
        raise DataError(f"{file}, line {line}, column {column}: {text!r} is no number, or beyond float32")
    return value
