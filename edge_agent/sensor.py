"""One sensor: steps and samples in, its tensor out. An agent serves it as it serves a node.

    `step` of another sensor ──┐
    own pace ──────────────────┴─► waiting steps ─► reader draws a sample ─► graph (onnxruntime) ─► own tensor

A step that gets no sample in time, or a sample that cannot be used, gets Φ, at once if the source is known to have
nothing: nobody downstream waits for it. A sample that comes when no step waits is dropped: the next one is fresher.
Without a rate, each sample raises a step of its own, and where there is no sample there is no step.
"""

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Queue
from typing import Final, NamedTuple

import msgspec

from broker.beat import BeatError, decode_beat, encode_beat
from broker.frame import Frame, FrameError, decode, encode
from broker.topics import Topics
from edge_agent.bundle import Bundle
from edge_agent.commands import CommandError, Reply, decode_ask, reply_of
from edge_agent.config import Source
from edge_agent.health import Health
from edge_agent.heart import Heart
from edge_agent.metrics import Counters, Metrics, Stages
from edge_agent.metrics import Source as Tally
from edge_agent.node import Publish
from edge_agent.pace import Pace, raiser, step_number
from edge_agent.reader import Drawn, Reader
from edge_agent.sample import Leaf, Sample
from edge_agent.session import Session
from edge_agent.sources import find, opened, rate_of
from edge_agent.trace import Trace

_encode_json = msgspec.json.Encoder().encode
_FIRST_LOOK_NS, _LAST_LOOK_NS, _LOOKS = 1_000_000, 20_000_000, 16
"""When to look whether a sample is there, and how long to wait at most; a sixteenth of what it has taken so far."""
_CAPACITY: Final = 64


class _Waiting(NamedTuple):
    """A step that waits for a sample; our own is not announced before it has one, or goes without."""

    step: int
    origin_ns: int
    since_ns: int
    until_ns: int
    is_own: bool


class Sensor:
    """The state of one sensor for one life of its agent.

    Args:
        name: Which of the bundle's sensors this is.
        bundle: What the fleet runs.
        session: The sensor's loaded graph.
        topics: Where the fleet talks.
        publish: Sends a payload to a topic.
        clock: Tells the time in ns, the same that comes with messages.
        source: Where its samples come from; raises SourceError if there is no such source.
        beat_ms: How often to beat.
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        session: Session,
        topics: Topics,
        publish: Publish,
        clock: Callable[[], int],
        *,
        source: Source,
        beat_ms: int = 50,
    ) -> None:
        manifest = bundle.manifest
        self.name = name
        self.epoch = 0
        self.counters = Counters()
        self._bundle = bundle
        self._session = session
        self._topics = topics
        self._publish = publish
        self._clock = clock
        self._heart = Heart(beat_ms)
        self._topic = source.topic
        self._messages: Queue[bytes] = Queue(1)
        ((self._input, layout),) = manifest.arriving(name).items()
        leaf = Leaf(name, layout.shape, iter(self._messages.get, None))
        factory = find(source.kind, source.options, leaf)
        self._reader = Reader(name, layout.shape, lambda: opened(factory, source.options, leaf))
        self._place = tuple(manifest.sensors).index(name)
        self._bit = 1 << manifest.names.index(name)
        self._rate = rate_of(source.kind, source.rate)
        self._interval_ns = round(1e9 / self._rate) if self._rate else 0
        self._pace = Pace(self._place, self._interval_ns)
        # A step of another sensor: half a hop, for the node that waits for both has a whole one.
        self._patience_ns = round(min(manifest.deadlines_ms.values()) * 1e6 / 2)
        self._waiting: deque[_Waiting] = deque()
        self._count = 0
        self._is_heard = False  # nothing is drawn before there is somebody to hear it
        self._asked_ns = self._look_ns = 0
        self._tally = Tally()
        self._health = Health(name, self._tally)
        self._stages = Stages()
        self._trace = Trace()
        self._rejected: Counter[str] = Counter()

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """Topics and QoS."""
        own = [self._topics.beat(self.name), self._topics.step]
        return [(topic, 0) for topic in (*own, *filter(None, [self._topic]))]

    @property
    def framed(self) -> frozenset[str]:
        """The topics that carry frames."""
        return frozenset({self._topics.step})

    @property
    def next_deadline_ns(self) -> int | None:
        """When `on_time` must be called next."""
        if self._health.has_ended or not self._is_heard:
            return None
        due_ns = self._pace.due_ns if self._rate else self._health.resting_until_ns
        if not self._reader.is_busy:
            return due_ns
        return min(due_ns, self._look_ns) if self._rate else self._look_ns

    @property
    def next_beat_ns(self) -> int:
        """When `beat` must be called next."""
        return self._heart.due_ns

    def warm_up(self) -> None:
        """Run the graph on nothing: the first run is slow."""
        self._session.step([None])

    def beat(self, now_ns: int) -> None:
        """Publish a sign of life."""
        self._publish(self._topics.beat(self.name), encode_beat(self._heart.beat(self.epoch, now_ns, 0)))

    def on_link_up(self, now_ns: int) -> None:
        """Begin to listen (again): who leads is not known yet."""
        self._is_heard = True
        self._pace.on_start(now_ns)

    def on_message(self, topic: str, payload: bytes, now_ns: int) -> None:
        """Take in one message; what does not fit is counted and dropped."""
        try:
            if topic == self._topics.step:
                self._on_step(decode(payload, bundle=self._bundle.id), now_ns)
            elif topic == self._topic:
                self._on_raw(payload, now_ns)
            else:
                self._heart.echo(decode_beat(payload))
        except FrameError as error:
            self._rejected[error.reason] += 1
        except BeatError:
            self._rejected["beat"] += 1

    def on_time(self, now_ns: int) -> None:
        """Raise the step that is due, take what was drawn, give up on steps that have waited for too long."""
        drawn = self._reader.take()
        if drawn is not None:
            self._on_drawn(drawn, now_ns)
        if not self._is_heard:
            return
        if self._rate and not self._health.has_ended and now_ns >= self._pace.due_ns:
            self._pace.on_raised(now_ns)
            self._wait_for(_Waiting(self._next_step(), now_ns, now_ns, now_ns + self._interval_ns, True), now_ns)
        is_out = self._health.is_out(now_ns)
        while self._waiting and (is_out or now_ns >= self._waiting[0].until_ns):
            self.counters.cut += not is_out
            self._answer(self._waiting.popleft(), None, now_ns)
        if not is_out and (self._waiting or not self._rate) and not self._reader.is_busy:
            self._asked_ns = now_ns
            self._reader.ask()
        self._look_ns = now_ns + min(max(_FIRST_LOOK_NS, (now_ns - self._asked_ns) // _LOOKS), _LAST_LOOK_NS)

    def on_request(self, payload: bytes) -> Reply | None:
        """Return the reply to the operator's request; None if it is none, which is counted."""
        try:
            command = decode_ask(payload).command
        except CommandError:
            self._rejected["command"] += 1
            return None
        return reply_of(command, self, self._bundle.id, self._clock(), self._trace, self._session)

    def metrics(self) -> Metrics:
        """Return the counters: `complete` steps had a sample, `cut` ones waited in vain, `null` ones got Φ.

        `sources` holds what was drawn (see health.py), by the name of the graph's input.
        """
        return Metrics(
            node=self.name,
            epoch=self.epoch,
            now_ns=self._clock(),
            counters=self.counters,
            rejected=dict(self._rejected),
            sources={self._input: self._tally},
            stages=self._stages,
            view={},
        )

    def publish_metrics(self) -> None:
        """Publish the counters."""
        self._publish(self._topics.metrics(self.name), _encode_json(self.metrics()))

    def _on_step(self, frame: Frame, now_ns: int) -> None:
        """Answer the step of another sensor; what somebody feeds by hand has vectors of its own."""
        place = raiser(frame.step)
        if place is None or place == self._place or not self._rate:
            return
        self._pace.on_heard(place, now_ns)
        self._wait_for(_Waiting(frame.step, frame.origin_ns, now_ns, now_ns + self._patience_ns, False), now_ns)
        self.on_time(now_ns)

    def _on_raw(self, payload: bytes, now_ns: int) -> None:
        """Hand a message to the source; one that it has not taken yet is replaced."""
        with suppress(Empty):
            self._messages.get_nowait()
            self._health.count("overrun")
        self._messages.put_nowait(payload)
        self._asked_ns = self._look_ns = now_ns

    def _wait_for(self, step: _Waiting, now_ns: int) -> None:
        self._waiting.append(step)
        if len(self._waiting) > _CAPACITY:
            self.counters.dropped += 1
            self._answer(self._waiting.popleft(), None, now_ns)

    def _on_drawn(self, drawn: Drawn, now_ns: int) -> None:
        self._health.on_drawn(drawn, now_ns)
        if not self._rate:
            if drawn.sample is not None:
                self._answer(_Waiting(self._next_step(), now_ns, now_ns, now_ns, True), drawn.sample, now_ns)
        elif self._waiting:
            self._answer(self._waiting.popleft(), drawn.sample, now_ns)
        else:
            self._tally.late += drawn.sample is not None

    def _next_step(self) -> int:
        self._count += 1
        return step_number(self.epoch, self._place, self._count)

    def _answer(self, waiting: _Waiting, sample: Sample | None, now_ns: int) -> None:
        """Publish the sensor's vector for a step, Φ without a sample; one of our own is announced first."""
        self.counters.steps += 1
        self.counters.complete += sample is not None
        self.counters.null += sample is None
        self._stages.wait.add(now_ns - waiting.since_ns)
        began_ns = self._clock()
        output = None if sample is None else self._session.step([sample])
        done_ns = self._clock()
        if output is not None:
            self._stages.infer.add(done_ns - began_ns)
            self.counters.infer_us += (done_ns - began_ns) // 1000
        head = (waiting.step, self.epoch, self._bundle.id)
        if waiting.is_own:
            self._publish(self._topics.step, encode(Frame(*head, None, 0, waiting.origin_ns)))
        contributors = 0 if output is None else self._bit
        frame = Frame(*head, output, contributors, waiting.origin_ns)
        self._publish(self._topics.tensor(self.name), encode(frame))
        published_ns = self._clock()
        self._stages.publish.add(published_ns - done_ns)
        self._trace.add((waiting.step, waiting.since_ns, {}, began_ns, done_ns, published_ns))
