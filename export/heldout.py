"""The rows that a network is measured on: the test part of its data set, or while choosing the validation part."""

from typing import Literal, NamedTuple

import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.session import Floats
from export.data import load_data
from export.data.rows import DataError, Integers, Rows, split_rows
from export.spec import DataSpec, Split

Part = Literal["test", "validation"]


class HeldOut(NamedTuple):
    """Per sensor, (rows, width) raw values, and the (rows,) true classes."""

    raw: dict[str, Floats]
    truth: Integers

    def drawn(self, count: int | None) -> "HeldOut":
        """Return `count` of the rows, always the same ones and in their order; all if there are no more."""
        if count is None or count >= len(self.truth):
            return self
        numbers = np.sort(np.random.default_rng(0).choice(len(self.truth), count, replace=False))
        return HeldOut({name: values[numbers] for name, values in self.raw.items()}, self.truth[numbers])


def held_out_for_bundle(bundle: Bundle, part: Part = "test") -> HeldOut:
    """Return the rows of the bundle's predictions; raises DataError if its data set is missing or changed."""
    data = bundle.manifest.data
    return held_out(require_same(data.name, data.sha256, str(bundle.path)), data.split, data.split_seed, part)


def held_out_for_run(data: DataSpec, sha256: str, name: str, part: Part = "test") -> HeldOut:
    """Return the test rows of the run `name`; raises DataError if its data set is missing or changed."""
    return held_out(require_same(data.set, sha256, name), data.split, data.split_seed, part)


def held_out(rows: Rows, by: Split, seed: int, part: Part = "test") -> HeldOut:
    """Return one part of a data set."""
    numbers = getattr(split_rows(rows, by, seed), part)
    return HeldOut({name: values[numbers] for name, values in rows.sensors.items()}, rows.labels[numbers])


def require_same(name: str, sha256: str, of: str) -> Rows:
    """Return the data set `name` if its rows are those of `of`; raises DataError."""
    rows = load_data(name)
    if rows.sha256 != sha256:
        raise DataError(f"data set {name} on this machine is not the one of {of}: train and export again")
    return rows
