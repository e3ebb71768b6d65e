"""The beat of one agent, and what its echo proves.

A node hears its own beats. Once one has come back through the broker, everything that reached the broker before
it was sent has come too: up to that moment, silence is silence, and not a hold-up here or there.
"""

from broker.beat import MAX_INTERVAL_MS, Beat

_REMEMBERED = 256


class Heart:
    """When to beat, and when each beat was sent.

    Args:
        interval_ms: How often.
    """

    def __init__(self, interval_ms: int) -> None:
        self.due_ns = 0
        self._interval_ms = interval_ms
        self._sequence = 0
        self._sent_ns: dict[int, int] = {}

    def beat(self, epoch: int, now_ns: int, busy_ms: float) -> Beat:
        """Return the beat to send now.

        Args:
            epoch: Of this life.
            now_ns: The time.
            busy_ms: How long a computation may keep this thread from beating.
        """
        self._sequence += 1
        self._sent_ns[self._sequence] = now_ns
        if len(self._sent_ns) > _REMEMBERED:
            del self._sent_ns[next(iter(self._sent_ns))]
        self.due_ns = now_ns + self._interval_ms * 1_000_000
        return Beat(epoch, self._sequence, min(max(self._interval_ms, round(busy_ms)), MAX_INTERVAL_MS))

    def echo(self, beat: Beat) -> int | None:
        """Return when a beat of ours that came back was sent; None if it is none that is under way."""
        return self._sent_ns.pop(beat.sequence, None)
