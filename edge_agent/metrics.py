"""What a node counts and times, and the message that tells it."""

from typing import Annotated, Final

import msgspec

from broker.presence import Sensed

_LAST: Final = 24
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
"""A number that adds up with others without leaving 64 bits, whoever told it."""
_Counts = Annotated[list[Count], msgspec.Meta(min_length=_LAST + 1, max_length=_LAST + 1)]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How long something took; entry k counts what took less than 2^k µs, and not less than the entry before."""

    counts: _Counts = msgspec.field(default_factory=lambda: [0] * (_LAST + 1))

    def add(self, duration_ns: int) -> None:
        """Count one."""
        self.counts[min((max(0, duration_ns) // 1000).bit_length(), _LAST)] += 1

    def quantile_ms(self, share: float) -> float:
        """Return a time that `share` of all stay below, at most twice what it need be; 0 if there are none."""
        wanted, below = share * sum(self.counts), 0
        for power, count in enumerate(self.counts):
            below += count
            if below >= wanted > 0:
                return float(1 << power) / 1e3
        return 0.0


class Counters(msgspec.Struct, kw_only=True):
    """What became of a node's steps; each opened is complete, cut off, dropped under overload, or still open.

    `null` are those that put out Φ, for want of vectors or of numbers that are finite. Counted apart: frames that came
    too late or twice, how often an ancestor fell silent, connections after the first, and messages that were not sent
    because the link was down or stuck. `infer_us` is how long all inferences took: their histogram leaves a mean
    uncertain by half.
    """

    steps: Count = 0
    complete: Count = 0
    cut: Count = 0
    dropped: Count = 0
    null: Count = 0
    late: Count = 0
    duplicate: Count = 0
    suspicions: Count = 0
    reconnects: Count = 0
    unsent: Count = 0
    infer_us: Count = 0


class Source(msgspec.Struct, kw_only=True):
    """What came from one source: `null` of the frames were Φ, `cut` counts steps that waited for it in vain.

    `wait` is how long its frames came after their steps had opened, late ones included.
    """

    frames: Count = 0
    null: Count = 0
    late: Count = 0
    duplicate: Count = 0
    cut: Count = 0
    rejected: dict[str, Count] = {}
    wait: Histogram = msgspec.field(default_factory=Histogram)


class Stages(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of a step goes on a node."""

    wait: Histogram = msgspec.field(default_factory=Histogram)
    infer: Histogram = msgspec.field(default_factory=Histogram)
    publish: Histogram = msgspec.field(default_factory=Histogram)


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """One message on a node's metrics topic: all since its start, and its ancestors as it senses them.

    `rejected` counts refused messages by reason, over all topics. The times in `view` are of the node's own clock, as
    is `now_ns`.
    """

    node: str
    epoch: int
    now_ns: int
    counters: Counters
    rejected: dict[str, Count]
    sources: dict[str, Source]
    stages: Stages
    view: dict[str, Sensed]
