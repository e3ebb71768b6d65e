"""What can be known of a fleet by listening: messages and time in, a snapshot out. Pure.

How the sink sees the other nodes is what its answers follow, so its word on them counts. On the sink itself, on sensors
with agents of their own, and on everybody while the sink is away, it is what statuses and beats tell.

Whoever only listens has no beat of his own that comes back to him. Silence is judged up to the last thing of anybody's
that arrived: what a node sent before that has arrived too.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from benchmarks.answers import Answers, Tally
from broker.beat import BeatError, decode_beat
from broker.presence import Presence, State, StatusError, decode_status
from broker.topics import Topics
from edge_agent.answer import Answer
from edge_agent.bundle import Bundle
from edge_agent.metrics import Histogram, Metrics

STAGES: Final = ("wait", "infer", "publish")
_WINDOW_S: Final = 10.0
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_metrics = msgspec.json.Decoder(Metrics).decode


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has done since its start, and how long each stage took lately: p50 and p99 in ms."""

    frames: int
    late: int
    dropped: int
    rejected: int
    stages_ms: dict[str, tuple[float, float]]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A node or sensor: its state and for how long, no state for a sensor that is fed by hand.

    `runs` names another bundle than the one that is watched, if it runs one.
    """

    name: str
    state: State | None
    for_s: float
    runs: str
    work: Work | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet at one moment; while the broker is away, as it was last.

    `mask` has a bit for each node of `order`, and `expected_accuracy` is what the bundle predicts for it; None while
    nobody answers or nothing is known.
    """

    fleet: str
    bundle: str
    broker_up: bool
    broker_for_s: float
    is_heard: bool
    nodes: tuple[Seen, ...]
    order: tuple[str, ...]
    mask: str
    expected_accuracy: float | None
    answers: Answers


class Watched:
    """Takes in what a fleet says, on this machine's monotonic clock.

    Args:
        bundle: What it runs.
        fleet: Its name.
        now_s: When watching begins; the broker is not there yet.
    """

    def __init__(self, bundle: Bundle, fleet: str, now_s: float) -> None:
        self.changes = 0
        """Grows when a state, the broker or a bundle has changed."""
        self.broker_up = False
        """As `on_broker` was told last."""
        self.has_moved = False
        """Whether the sink has left for another broker."""
        self._fleet, self._id = fleet, bundle.id.hex()
        self._manifest = manifest = bundle.manifest
        self._presence = Presence(manifest.names)
        self._told: dict[str, deque[tuple[float, Metrics]]] = {name: deque() for name in manifest.names}
        self._runs: dict[str, str] = {}
        self._states: dict[str, State | None] = dict.fromkeys(manifest.names)
        self._since_s = dict.fromkeys(manifest.names, now_s)
        self._broker_since_s = now_s
        self._tally = Tally(now_s)
        topics = Topics(fleet)
        every = {topics.status: self._on_status, topics.beat: self._on_beat, topics.metrics: self._on_metrics}
        self.subscriptions = [*((topic("+"), int(topic == topics.status)) for topic in every), (topics.result, 0)]
        self._routes: dict[str, Callable[[bytes, float], None]] = {
            topic(name): partial(take, name) for topic, take in every.items() for name in manifest.names
        }
        self._routes[topics.result] = self._on_answer

    @property
    def strangers(self) -> dict[str, str]:
        """Who runs another bundle, and which."""
        return {name: runs for name, runs in self._runs.items() if runs != self._id}

    @property
    def are_all_strangers(self) -> bool:
        """Whether somebody was heard, and nobody of them runs the bundle that is watched."""
        return 0 < len(self._runs) == len(self.strangers)

    @property
    def metrics(self) -> dict[str, Metrics]:
        """What each node and sensor told last."""
        return {name: told[-1][1] for name, told in self._told.items() if told}

    def on_message(self, topic: str, payload: bytes, now_s: float) -> None:
        """Take in one message; what does not fit its topic says nothing."""
        take = self._routes.get(topic)
        if take is None:
            return
        try:
            take(payload, now_s)
        except (StatusError, BeatError, msgspec.DecodeError, UnicodeDecodeError):
            return

    def on_broker(self, is_up: bool, now_s: float) -> None:
        """Take in that the broker is there, and who has been heard since; or not, then nobody has."""
        if is_up == self.broker_up:
            return
        self.broker_up, self._broker_since_s = is_up, now_s
        self.changes += 1
        if is_up:
            self._look(now_s)
        else:
            self._presence = Presence(self._manifest.names)

    def on_time(self, heard_s: float, now_s: float) -> None:
        """Take in that all has been read that came up to `heard_s`, when the last of it did."""
        if self.broker_up and self._presence.judge(_ns(heard_s), _ns(now_s)):
            self._look(now_s)

    def snapshot(self, now_s: float) -> Snapshot:
        """Return how it stands."""
        expected = self._expected()
        self._tally.on_time(now_s, expected)
        return Snapshot(
            fleet=self._fleet,
            bundle=self._id,
            broker_up=self.broker_up,
            broker_for_s=now_s - self._broker_since_s,
            is_heard=any(each.epoch >= 0 for each in self._presence.view.values()),
            nodes=tuple(self._seen(name, now_s) for name in self._manifest.names),
            order=self._manifest.order,
            mask=self._mask(),
            expected_accuracy=expected,
            answers=self._tally.summary(),
        )

    def _mask(self) -> str:
        return self._manifest.mask_key(name for name, state in self._states.items() if state == "alive")

    def _expected(self) -> float | None:
        sink = self._manifest.sink
        is_known = self.broker_up and self._states[sink] == "alive" and sink not in self.strangers
        return self._manifest.accuracy.per_mask.get(self._mask()) if is_known else None

    def _seen(self, name: str, now_s: float) -> Seen:
        told = self._told[name]
        return Seen(
            name=name,
            state=self._states[name],
            for_s=now_s - self._since_s[name],
            runs=self.strangers.get(name, ""),
            work=_work(told[0][1] if len(told) > 1 else None, told[-1][1]) if told else None,
        )

    def _on_status(self, name: str, payload: bytes, now_s: float) -> None:
        if not payload:
            return
        status = decode_status(payload)
        if name == self._manifest.sink:
            self.has_moved = status.reason == "moved"
        if status.online and self._runs.get(name) != status.bundle:
            self._runs[name] = status.bundle
            self.changes += 1
        self._presence.on_status(name, status, _ns(now_s))
        self._look(now_s)

    def _on_beat(self, name: str, payload: bytes, now_s: float) -> None:
        beat = decode_beat(payload)
        if self._presence.on_sign(name, beat.epoch, _ns(now_s), "beat", beat.interval_ms * 1_000_000):
            self._look(now_s)

    def _on_metrics(self, name: str, payload: bytes, now_s: float) -> None:
        told, lately = _decode_metrics(payload), self._told[name]
        if lately and lately[-1][1].epoch != told.epoch:
            lately.clear()
        lately.append((now_s, told))
        while len(lately) > 1 and lately[1][0] < now_s - _WINDOW_S:
            lately.popleft()
        if name == self._manifest.sink:
            self._look(now_s)

    def _on_answer(self, payload: bytes, now_s: float) -> None:
        self._tally.on_answer(_decode_answer(payload), now_s)

    def _look(self, now_s: float) -> None:
        """Bring the states up to date; while the broker is away they stay as they were."""
        if not self.broker_up:
            return
        sink, told = self._presence.view[self._manifest.sink], self._told[self._manifest.sink]
        is_witness = bool(told) and sink.state == "alive" and told[-1][1].epoch == sink.epoch
        view = told[-1][1].view if is_witness else {}
        for name, own in self._presence.view.items():
            state: State | None = view[name].state if name in view else own.state
            if name in self._manifest.sensors and own.layer == "none":
                state = None
            if state != self._states[name]:
                self._states[name], self._since_s[name] = state, now_s
                self.changes += 1


def _work(before: Metrics | None, now: Metrics) -> Work:
    counters = now.counters
    return Work(
        frames=sum(source.frames for source in now.sources.values()),
        late=counters.late,
        dropped=counters.dropped,
        rejected=sum(now.rejected.values()),
        stages_ms={stage: _quantiles(before, now, stage) for stage in STAGES},
    )


def _quantiles(before: Metrics | None, now: Metrics, stage: str) -> tuple[float, float]:
    counts = getattr(now.stages, stage).counts
    if before is not None:
        counts = [after - earlier for after, earlier in zip(counts, getattr(before.stages, stage).counts, strict=False)]
    lately = Histogram(counts=counts)
    return lately.quantile_ms(0.5), lately.quantile_ms(0.99)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
