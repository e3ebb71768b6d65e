"""What processes hold in memory over time: a life must not grow, nor be larger than another life of the same age."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

TOLERANCE_MB = 5.0
_FIRST_MARK_S = 5.0
COLUMNS: Final = ("agent", "processes", "longest life s", "warm MB", "last MB")


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Life(msgspec.Struct, kw_only=True):
    """One process of a node.

    Attributes:
        pid: Which.
        warm_age_s: Its age when `warm_mb` was taken, the first time that it was warm; 0: it is not yet.
        age_s: Its age when `last_mb` was taken.
        marks: Resident memory when it became 5, 10, 20, 40, … s old.
    """

    pid: int
    warm_age_s: float = 0.0
    warm_mb: float = 0.0
    age_s: float = 0.0
    last_mb: float = 0.0
    marks: dict[int, float] = {}

    def take(self, age_s: float, mb: float, warm_up_s: float) -> None:
        """Take in a measurement."""
        self.age_s, self.last_mb = age_s, mb
        if not self.warm_age_s and age_s >= warm_up_s:
            self.warm_age_s, self.warm_mb = age_s, mb
        mark_s = _FIRST_MARK_S
        while 2 * mark_s <= age_s:
            mark_s *= 2
        if mark_s <= age_s < 1.5 * mark_s:
            self.marks.setdefault(round(mark_s), mb)


def growth(node: str, lives: Sequence[Life]) -> list[str]:
    """Return what is wrong with the lives of a node, in words."""
    found = []
    for number, life in enumerate(lives, 1):
        if life.warm_age_s and abs(life.last_mb - life.warm_mb) > TOLERANCE_MB:
            found.append(
                f"{node}, life {number}: {life.warm_mb:.1f} MB resident after {life.warm_age_s:.0f} s, "
                f"{life.last_mb:.1f} MB after {life.age_s:.0f} s"
            )
    for mark in sorted({mark for life in lives for mark in life.marks}):
        each = [life.marks[mark] for life in lives if mark in life.marks]
        if max(each) - min(each) > TOLERANCE_MB:
            found.append(f"{node}: {min(each):.1f} to {max(each):.1f} MB resident in lives that are {mark} s old")
    return found


def rows_of(lives: Mapping[str, Sequence[Life]]) -> list[list[str]]:
    """Return how many processes each node had, and what the oldest of them held."""
    oldest = {node: max(each, key=lambda life: life.age_s) for node, each in lives.items()}
    return [
        [
            node,
            str(len(lives[node])),
            f"{life.age_s:.1f}",
            f"{life.warm_mb:.1f}" if life.warm_age_s else "-",
            f"{life.last_mb:.1f}",
        ]
        for node, life in oldest.items()
    ]
