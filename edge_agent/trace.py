"""When what happened to the last steps on a node, on the node's own monotonic clock.

    opened ── a vector of each source arrived ── closed ── inferred ── published

Kept in memory that does not grow, and told only to the operator who asks: the hot path appends one tuple a step.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

REMEMBERED: Final = 256
Moments: TypeAlias = tuple[int, int, Mapping[str, int], int, int, int]
"""A step's number, and when it was opened, its vectors arrived, it was closed, inferred and published, in ns."""


class StepTrace(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One step: its number, when it was opened, and how many ns after that the rest happened.

    `arrived` lacks the sources whose vectors did not come in time. Where there was nothing to compute, `inferred` is
    `closed`; `published` is when the vector, or the answer, had been handed to the network.
    """

    step: int
    opened_ns: int
    arrived: dict[str, int]
    closed: int
    inferred: int
    published: int


class Trace:
    """The last steps, the latest last."""

    def __init__(self) -> None:
        kept: deque[Moments] = deque(maxlen=REMEMBERED)
        self.add = kept.append
        """Take in one step, and forget the oldest."""
        self._kept: Iterable[Moments] = kept

    def told(self) -> list[StepTrace]:
        """Return the steps as they are told."""
        return [
            StepTrace(step, opened, {who: at - opened for who, at in arrived.items()}, *(at - opened for at in later))
            for step, opened, arrived, *later in self._kept
        ]
