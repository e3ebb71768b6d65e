"""Rows of sensor values with labels, and how they are split."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.errors import FogError
from edge_agent.session import Floats

Integers = npt.NDArray[np.int64]
GREATEST = float(np.finfo(np.float32).max)
"""The greatest value that a row can hold."""


class DataError(FogError):
    """A data set that is unknown, missing, or not what it should be."""


@dataclass(frozen=True)
class Rows:
    """A data set in memory.

    Attributes:
        name: What `[data] set` calls it.
        sensors: Per sensor, (rows, width) raw values.
        labels: (rows,) classes.
        class_names: What each class is called.
        groups: (rows,) what must not be torn apart in a split by group, such as the subject.
        parts: (rows,) 0 train, 1 validation, 2 test, where the data set itself says; else None.
        own: Whether the user says what are groups, parts and classes: another time it may be something else.
    """

    name: str
    sensors: dict[str, Floats]
    labels: Integers
    class_names: tuple[str, ...]
    groups: Integers
    parts: Integers | None = None
    own: bool = False

    @cached_property
    def sha256(self) -> str:
        """The hash of every value and label, whatever files they came from; of an own set, all that splits it too."""
        digest = hashlib.sha256()
        for name, values in self.sensors.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values, "<f4").tobytes())
        digest.update(np.ascontiguousarray(self.labels, "<i8").tobytes())
        if self.own:
            digest.update(repr(self.class_names).encode())
            digest.update(np.ascontiguousarray(self.groups, "<i8").tobytes())
            digest.update(b"" if self.parts is None else np.ascontiguousarray(self.parts, "<i8").tobytes())
        return digest.hexdigest()


class Split(NamedTuple):
    """Row numbers of the three parts, each in a random order."""

    train: Integers
    validation: Integers
    test: Integers


def split_rows(rows: Rows, by: Literal["row", "group", "given"], seed: int) -> Split:
    """Split 80/10/10 at random, by single rows or by whole groups, or as given; the same seed gives the same split."""
    if by == "given":
        if rows.parts is None or len(np.unique(rows.parts)) < 3:
            raise DataError(f"data set {rows.name} gives no split of its own: choose split row or group")
        return Split(*(np.flatnonzero(rows.parts == part) for part in range(3)))
    generator = np.random.default_rng(seed)
    units = np.arange(len(rows.labels)) if by == "row" else np.unique(rows.groups)
    shuffled = generator.permutation(units)
    held_out = max(1, round(len(units) / 10))
    if len(units) < 3:
        raise DataError(f"data set {rows.name}: {len(units)} {by}s cannot be split into three parts")
    parts = (shuffled[2 * held_out :], shuffled[held_out : 2 * held_out], shuffled[:held_out])
    if by == "row":
        return Split(*parts)
    return Split(*(generator.permutation(np.flatnonzero(np.isin(rows.groups, part))) for part in parts))
