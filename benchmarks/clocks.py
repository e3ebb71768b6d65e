"""How far a device's clock is from ours, and how sure that is, by request and reply as NTP does it.

    ours     asked ─────────────────────► came
    theirs            now

`now` was somewhere between the two, so theirs is ahead by now - (asked + came) / 2, give or take (came - asked) / 2,
whatever the way there and back took. Of several requests the one that was answered soonest tells most. Pure.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Ping(NamedTuple):
    """A request that a device answered, in ns: `asked_ns` and `came_ns` on our clock, `now_ns` on its own."""

    asked_ns: int
    now_ns: int
    came_ns: int

    @property
    def round_trip_ms(self) -> float:
        """How long the reply took."""
        return (self.came_ns - self.asked_ns) / 1e6


class Offset(NamedTuple):
    """How far a clock is ahead of ours: at least `low_ns`, at most `high_ns`."""

    low_ns: float
    high_ns: float

    @property
    def ns(self) -> float:
        """The middle."""
        return (self.low_ns + self.high_ns) / 2

    @property
    def error_ns(self) -> float:
        """By how much the middle may be wrong."""
        return (self.high_ns - self.low_ns) / 2


SAME = Offset(0.0, 0.0)
"""Of a clock that is ours: a process on this machine has it."""


def offset_of(pings: Iterable[Ping]) -> Offset:
    """Return what the quickest of some pings tells."""
    best = min(pings, key=lambda ping: ping.round_trip_ms)
    return Offset(best.now_ns - best.came_ns, best.now_ns - best.asked_ns)


def during(before: Offset, after: Offset) -> Offset:
    """Return what holds for all of the time between two estimates, for clocks drift."""
    return Offset(min(before.low_ns, after.low_ns), max(before.high_ns, after.high_ns))


class Wire(NamedTuple):
    """How long something was on its way between two clocks: `ms`, give or take `error_ms`, and never less than 0."""

    ms: float
    error_ms: float


def between(sent_ns: float, sender: Offset, came_ns: float, receiver: Offset) -> Wire:
    """Return how long it took from a moment on one clock to one on another."""
    low = (came_ns - receiver.high_ns) - (sent_ns - sender.low_ns)
    high = (came_ns - receiver.low_ns) - (sent_ns - sender.high_ns)
    low, high = max(0.0, low), max(0.0, high)
    return Wire((low + high) / 2e6, (high - low) / 2e6)
