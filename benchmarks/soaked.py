"""How a soak stands: what went wrong around the fleet, what became of its steps, and what must not have been."""

from typing import Final, Literal

import msgspec

from benchmarks.memory import Life
from broker.errors import FailureFound

Event = Literal["kill", "freeze", "broker", "malformed"]
_KEPT: Final = 100


class Steps(msgspec.Struct, kw_only=True):
    """What became of the steps.

    Attributes:
        sent: All, those that the link had to drop because no broker was there too.
        answered: Of these.
        lost_in_outages: Without an answer, under way when the broker was ended or sent before the fleet had settled.
        lost: Without an answer otherwise: there must be none.
        compared: Answers while nothing was going on, from exactly those who live.
        wrong: Of `compared`, those whose label is not the predicted one: there must be none.
        held_up: Other answers while nothing was going on: somebody that lives was too slow, or was suspected.
    """

    sent: int = 0
    answered: int = 0
    lost_in_outages: int = 0
    lost: int = 0
    compared: int = 0
    wrong: int = 0
    held_up: int = 0


class Soaked(msgspec.Struct, kw_only=True):
    """How the soak stands, written every few seconds; `ok` says that all held so far, `finished` that it is over.

    Attributes:
        planned_s: How long it was to take.
        elapsed_s: How long it took so far.
        events: How often each thing went wrong.
        suspicions: How often a node suspected another, if nothing went wrong; otherwise nobody counts.
        steps: What became of them.
        books: How often the counters of all nodes were held against each other.
        malformed: How many messages were sent that all must refuse.
        longest_outage_ms: From the end of the broker until every node was back at the next one.
        memory: The processes of each node; the first that can fail and the sink are never killed, and live as long as
            the soak.
        violations: What must not be, in words; the first 100 of `violated`.
    """

    planned_s: float
    seed: int
    elapsed_s: float = 0.0
    finished: bool = False
    ok: bool = True
    events: dict[Event, int] = {}
    suspicions: int | None = None
    steps: Steps = msgspec.field(default_factory=Steps)
    books: int = 0
    malformed: int = 0
    longest_outage_ms: float = 0.0
    memory: dict[str, list[Life]] = {}
    violations: list[str] = []
    violated: int = 0

    def violate(self, text: str) -> None:
        """Take in what must not be."""
        self.ok = False
        self.violated += 1
        if len(self.violations) < _KEPT:
            self.violations.append(text)

    def finish(self) -> None:
        """Take in that the soak is over: one in which no label could be compared has shown nothing."""
        if not self.steps.compared:
            self.violate(
                f"no label could be compared: {self.steps.answered} of {self.steps.sent} steps were answered, none by "
                "exactly those who live while nothing was going on"
            )
        self.finished = True


class SoakFailed(FailureFound):
    """Something happened in a soak that must not."""


def require_ok(found: Soaked) -> None:
    """Raise SoakFailed if anything was violated."""
    if not found.ok:
        more = f"; and {found.violated - 5} more" if found.violated > 5 else ""
        raise SoakFailed(
            f"{found.violated} violation{'s' * (found.violated > 1)}: {'; '.join(found.violations[:5])}{more}"
        )


def line(found: Soaked) -> str:
    """Return how a soak stands, in one line."""
    events = ", ".join(f"{name} {count}" for name, count in sorted(found.events.items()))
    steps = found.steps
    if found.suspicions is not None:
        events = f"nothing went wrong, {found.suspicions} suspicions"
    return (
        f"{steps.answered} of {steps.sent} steps answered, {steps.lost_in_outages} lost in outages, {steps.lost} "
        f"otherwise, {steps.wrong} of {steps.compared} labels wrong; {events or 'nothing yet'}; "
        f"{found.violated} violations"
    )
