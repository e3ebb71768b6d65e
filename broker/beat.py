"""A heartbeat, and how long a node may be silent before it is suspected.

    offset  bytes   little-endian
    0       8       epoch of the sender
    8       8       sequence, one more with each beat
    16      4       interval in ms: how soon the sender promises its next sign of life

The sender promises, because it alone knows how often it beats and how long its longest computation keeps it from
beating. What delays a beat on its way, the receiver measures: a node may be as late again as it was lately.
"""

import struct
from typing import Final, NamedTuple

from broker.epoch import MAX_EPOCH
from broker.errors import FogError

MAX_INTERVAL_MS: Final = 60_000
_BEAT = struct.Struct("<QQI")
_HALF_LIFE_NS: Final = 10e9


class BeatError(FogError):
    """Bytes that are not a heartbeat."""


class Beat(NamedTuple):
    """One sign of life."""

    epoch: int
    sequence: int
    interval_ms: int


def encode_beat(beat: Beat) -> bytes:
    """Return the beat's bytes."""
    return _BEAT.pack(*beat)


def decode_beat(payload: bytes) -> Beat:
    """Return the beat in `payload`; raises BeatError."""
    if len(payload) != _BEAT.size:
        raise BeatError(f"a beat has {_BEAT.size} bytes, not {len(payload)}")
    beat = Beat(*_BEAT.unpack(payload))
    if beat.epoch > MAX_EPOCH:
        raise BeatError(f"an epoch of {beat.epoch} is over {MAX_EPOCH}")
    if not 1 <= beat.interval_ms <= MAX_INTERVAL_MS:
        raise BeatError(f"an interval of {beat.interval_ms} ms does not lie between 1 and {MAX_INTERVAL_MS}")
    return beat


class Pulse:
    """How the signs of one node come: what it promised, when it was last heard, how late it has been.

    Args:
        missed: How many intervals in a row may pass without a sign.
        interval_ns: The promise until the first beat tells another.
    """

    def __init__(self, missed: int, interval_ns: int = 50_000_000) -> None:
        self._missed = missed
        self._interval_ns = interval_ns
        self._heard_ns = 0
        self._slack_ns = 0.0

    @property
    def limit_ns(self) -> float:
        """The longest silence that is not suspicious."""
        return self._missed * self._interval_ns + self._slack_ns

    def restart(self, now_ns: int) -> None:
        """Forget how long it was silent: it was born, or could not have been heard."""
        self._heard_ns = now_ns

    def hear(self, now_ns: int, interval_ns: int | None = None) -> None:
        """Take in a sign, with what it promises about the next.

        The slack is the worst lateness that was tolerated, halved every ten seconds. A silence that was not tolerated
        adds half of what may be missed, at the most: however often a node freezes, the next time is seen as soon.
        """
        silence_ns = max(0, now_ns - self._heard_ns)
        late_ns: float = silence_ns - self._interval_ns
        if silence_ns > self.limit_ns:
            late_ns = min(late_ns, self._missed * self._interval_ns / 2)
        self._slack_ns = max(self._slack_ns * 0.5 ** (silence_ns / _HALF_LIFE_NS), late_ns)
        self._heard_ns = now_ns
        self._interval_ns = interval_ns or self._interval_ns

    def is_overdue(self, until_ns: int) -> bool:
        """Whether it was silent for too long up to `until_ns`."""
        return until_ns - self._heard_ns > self.limit_ns
