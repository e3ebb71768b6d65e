"""Collect one step's vectors from several sources, and decide when to stop waiting.

A step opens with its first arrival. It is complete when every source that was alive then, and has not died
since, has delivered a vector or said Φ; it is cut off at the deadline. What comes for a step that is closed is
late: counted, never used. There is no clock and no socket here: time and the living sources come in.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from broker.frame import Frame

REMEMBERED_STEPS = 4096


class Counters(msgspec.Struct, kw_only=True):
    """What became of the steps, and of the frames that served none."""

    complete: int = 0
    cut: int = 0
    dropped: int = 0
    late: int = 0
    duplicate: int = 0


class Gathered(NamedTuple):
    """A closed step: a frame for each source, None where it is absent, in the order of the sources."""

    step: int
    frames: tuple[Frame | None, ...]
    complete: bool
    origin_ns: int


class _Open:
    __slots__ = ("awaited", "ends_ns", "frames", "origin_ns")

    def __init__(self, awaited: set[str], ends_ns: int, origin_ns: int) -> None:
        self.awaited = awaited
        self.ends_ns = ends_ns
        self.origin_ns = origin_ns
        self.frames: dict[str, Frame] = {}


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
        self.sources = tuple(sources)
        self.counters = Counters()
        self._awaited = awaited
        self._deadline_ns = deadline_ns
        self._capacity = capacity
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._closed: set[int] = set()
        self._closed_order: deque[int] = deque()
        self._oldest_step = 0

    @property
    def next_deadline_ns(self) -> int | None:
        """When `expire` must be called next."""
        return next(iter(self._open.values())).ends_ns if self._open else None

    def offer(self, source: str, frame: Frame, now_ns: int) -> Gathered | None:
        """Take a source's frame; return its step if that completes it."""
        pending = self._pending(frame.step, frame.origin_ns, now_ns)
        if pending is None:
            self.counters.late += 1
            return None
        if source in pending.frames:
            self.counters.duplicate += 1
            return None
        pending.frames[source] = frame
        pending.awaited.discard(source)
        return None if pending.awaited else self._close(frame.step, pending, complete=True)

    def announce(self, step: int, origin_ns: int, now_ns: int) -> Gathered | None:
        """Open a step before any vector has come; return it if none is to be waited for."""
        pending = self._pending(step, origin_ns, now_ns)
        if pending is None or pending.awaited:
            return None
        return self._close(step, pending, complete=True)

    def bury(self, source: str) -> list[Gathered]:
        """Stop waiting for a source that died; return the steps that are complete without it."""
        for pending in self._open.values():
            pending.awaited.discard(source)
        ready = [(step, pending) for step, pending in self._open.items() if not pending.awaited]
        return [self._close(step, pending, complete=True) for step, pending in ready]

    def expire(self, now_ns: int) -> list[Gathered]:
        """Cut off the steps whose deadline has passed, and return them."""
        overdue = [(step, pending) for step, pending in self._open.items() if pending.ends_ns <= now_ns]
        return [self._close(step, pending, complete=False) for step, pending in overdue]

    def _pending(self, step: int, origin_ns: int, now_ns: int) -> _Open | None:
        """Return the open step, opened now if it is new; None if it is closed."""
        pending = self._open.get(step)
        if pending is None and step >= self._oldest_step and step not in self._closed:
            pending = _Open(set(self._awaited()), now_ns + self._deadline_ns, origin_ns)
            self._open[step] = pending
            if len(self._open) > self._capacity:
                self.counters.dropped += 1
                self._forget(next(iter(self._open)))
        return pending

    def _close(self, step: int, pending: _Open, *, complete: bool) -> Gathered:
        if complete:
            self.counters.complete += 1
        else:
            self.counters.cut += 1
        self._forget(step)
        return Gathered(step, tuple(map(pending.frames.get, self.sources)), complete, pending.origin_ns)

    def _forget(self, step: int) -> None:
        del self._open[step]
        self._closed.add(step)
        self._closed_order.append(step)
        if len(self._closed_order) > REMEMBERED_STEPS:
            oldest = self._closed_order.popleft()
            self._closed.remove(oldest)
            self._oldest_step = max(self._oldest_step, oldest + 1)
