"""What a report is made of: sections of a title, a picture, a table and a note."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes

from benchmarks.culprits import COLUMNS, Finding, rows_of
from benchmarks.figures import Point, draw_scatter

Result = Mapping[str, Any]
GUESS_NOTE: Final = "A random guess counts with its expectation, the training frequency of the true class."


class Picture(NamedTuple):
    """Something to draw: a name for its file, its size in inches, and what draws it."""

    name: str
    size: tuple[float, float]
    draw: Callable[[Axes], None]


class Section(NamedTuple):
    """One section; any part but the title may be missing. Rows in `bad` are marked."""

    title: str
    picture: Picture | None = None
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    bad: frozenset[int] = frozenset()
    note: str = ""


class Report(NamedTuple):
    """A headline, whether all was as predicted (None: nothing was compared), what that means, and the sections."""

    title: str
    ok: bool | None
    verdict: str
    sections: list[Section]


def judged(compared: int, *, is_bad: bool) -> bool | None:
    """Return whether all was as predicted; None if nothing was compared, and nothing else is bad."""
    return False if is_bad else True if compared else None


def scatter(points: Sequence[Point]) -> Section:
    """Return the section that sets measured beside predicted."""
    return Section("Measured against predicted", Picture("scatter", (6, 5.4), lambda axes: draw_scatter(axes, points)))


def blame(findings: Sequence[Finding]) -> Section:
    """Return the section that names who is to blame."""
    return Section("Who is to blame", columns=COLUMNS, rows=rows_of(findings), bad=frozenset(range(len(findings))))


def to_blame(findings: Sequence[Finding]) -> str:
    """Return who is to blame, in a sentence."""
    names = ", ".join(f"{each.culprit} ({each.stage})" for each in findings)
    return f"To blame: {names or 'nobody that was found'}."


def percent(value: float | None) -> str:
    """Return a share as a percentage, if there is one."""
    return "-" if value is None else f"{100 * value:.2f}"
