"""Collect one step's vectors from several sources, and decide when to stop waiting.

A step opens with its first arrival. It is complete when every source that was alive then, and has not died
since, has delivered a vector or said Φ; it is cut off at the deadline. What comes for a step that is closed is
late: counted, never used. There is no clock and no socket here: time and the living sources come in.

Step numbers are a sender's word, so they prove nothing about other steps: whoever opens the most pays when there
are too many, and only a step that was complete makes those shortly before it late, once its number is forgotten.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from broker.frame import Frame
from edge_agent.metrics import Counters, Source

REMEMBERED_STEPS = 4096
_LATE_STEPS: Final = 1 << 16


class Gathered(NamedTuple):
    """A closed step: a frame for each source, None where it is absent, in the order of the sources.

    `missing` are the sources that it was cut off without, `arrived` is when the frame of each of the others came.
    """

    step: int
    frames: tuple[Frame | None, ...]
    missing: frozenset[str]
    origin_ns: int
    opened_ns: int
    arrived: Mapping[str, int]


class _Closed(NamedTuple):
    opened_ns: int
    is_complete: bool


class _Open:
    __slots__ = ("arrived", "awaited", "frames", "opened_ns", "opener", "origin_ns")

    def __init__(self, awaited: set[str], opener: str, origin_ns: int, opened_ns: int) -> None:
        self.awaited = awaited
        self.opener = opener
        self.origin_ns = origin_ns
        self.opened_ns = opened_ns
        self.frames: dict[str, Frame] = {}
        self.arrived: dict[str, int] = {}


class Gather:
    """The open steps of one node.

    Args:
        sources: The node's sources, in the order of its graph's inputs.
        awaited: Returns the sources that are worth waiting for now.
        deadline_ns: How long a step may stay open.
        capacity: How many steps may be open; one more drops the oldest.
    """

    def __init__(
        self,
        sources: Sequence[str],
        awaited: Callable[[], frozenset[str]],
        deadline_ns: int,
        capacity: int = 256,
    ) -> None:
        self.counters = Counters()
        self.sources = {source: Source() for source in sources}
        self._awaited = awaited
        self._deadline_ns = deadline_ns
        self._capacity = capacity
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._closed: OrderedDict[int, _Closed] = OrderedDict()
        self._forgotten = -1

    @property
    def next_deadline_ns(self) -> int | None:
        """When `expire` must be called next."""
        return next(iter(self._open.values())).opened_ns + self._deadline_ns if self._open else None

    def is_in_time(self, step: int, now_ns: int) -> bool:
        """Whether a frame of `step` that comes now keeps the deadline, even if the step did not wait for it."""
        known = self._open.get(step) or self._closed.get(step)
        return known is not None and now_ns - known.opened_ns < self._deadline_ns

    def offer(self, source: str, frame: Frame, now_ns: int) -> Gathered | None:
        """Take a source's frame; return its step if that completes it."""
        tally = self.sources[source]
        tally.frames += 1
        tally.null += frame.is_null
        pending = self._pending(frame.step, source, frame.origin_ns, now_ns)
        known = pending or self._closed.get(frame.step)
        if known is not None:
            tally.wait.add(now_ns - known.opened_ns)
        if pending is None:
            self.counters.late += 1
            tally.late += 1
            return None
        if source in pending.frames:
            self.counters.duplicate += 1
            tally.duplicate += 1
            return None
        pending.frames[source] = frame
        pending.arrived[source] = now_ns
        pending.awaited.discard(source)
        return None if pending.awaited else self._close(frame.step, pending)

    def announce(self, step: int, origin_ns: int, now_ns: int) -> Gathered | None:
        """Open a step before any vector has come; return it if none is to be waited for."""
        pending = self._pending(step, "", origin_ns, now_ns)
        if pending is None or pending.awaited:
            return None
        return self._close(step, pending)

    def bury(self, source: str) -> list[Gathered]:
        """Stop waiting for a source; return the steps that are complete without it."""
        for pending in self._open.values():
            pending.awaited.discard(source)
        ready = [(step, pending) for step, pending in self._open.items() if not pending.awaited]
        return [self._close(step, pending) for step, pending in ready]

    def expire(self, now_ns: int) -> list[Gathered]:
        """Cut off the steps whose deadline has passed, and return them."""
        opened_before_ns = now_ns - self._deadline_ns
        overdue = [(step, pending) for step, pending in self._open.items() if pending.opened_ns <= opened_before_ns]
        return [self._close(step, pending) for step, pending in overdue]

    def _pending(self, step: int, opener: str, origin_ns: int, now_ns: int) -> _Open | None:
        """Return the open step, opened now if it is new; None if it is closed."""
        pending = self._open.get(step)
        if pending is None and step not in self._closed and not 0 <= self._forgotten - step < _LATE_STEPS:
            self.counters.steps += 1
            pending = _Open(set(self._awaited()), opener, origin_ns, now_ns)
            self._open[step] = pending
            if len(self._open) > self._capacity:
                self._drop()
        return pending

    def _drop(self) -> None:
        """Drop the oldest step of whoever opened the most."""
        ((greediest, _),) = Counter(pending.opener for pending in self._open.values()).most_common(1)
        self.counters.dropped += 1
        oldest = next(step for step, pending in self._open.items() if pending.opener == greediest)
        self._forget(oldest, is_complete=False)

    def _close(self, step: int, pending: _Open) -> Gathered:
        if pending.awaited:
            self.counters.cut += 1
            for source in pending.awaited:
                self.sources[source].cut += 1
        else:
            self.counters.complete += 1
        self._forget(step, is_complete=not pending.awaited)
        frames = tuple(map(pending.frames.get, self.sources))
        missing = frozenset(pending.awaited)
        return Gathered(step, frames, missing, pending.origin_ns, pending.opened_ns, pending.arrived)

    def _forget(self, step: int, *, is_complete: bool) -> None:
        self._closed[step] = _Closed(self._open.pop(step).opened_ns, is_complete)
        if len(self._closed) > REMEMBERED_STEPS:
            oldest, closed = self._closed.popitem(last=False)
            if closed.is_complete:
                self._forgotten = oldest
