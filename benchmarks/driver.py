"""Stands for the sensors of a fleet: feeds test rows at a steady rate, and records what the sink answers."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType

import msgspec

from benchmarks.agreement import expected_contributors
from benchmarks.feed import Feed
from benchmarks.recording import Phase, StepRecord
from benchmarks.told import SILENT_S, Told
from benchmarks.under_way import UnderWay, first_touched
from broker.errors import FailureFound
from broker.link import Link
from broker.presence import Status, StatusError, decode_status
from broker.tls import Tls
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.answer import Answer
from edge_agent.bundle import Bundle
from edge_agent.metrics import Metrics
from edge_agent.session import Floats

_log = logging.getLogger("fogguard.driver")
_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_metrics = msgspec.json.Decoder(Metrics).decode
_SETTLE_S = 30.0
_GRACE_S = 1.0
_MOVING_S = 5.0  # the fleet may be on its way to another broker, or the sink's agent be starting anew


class FleetSilent(FailureFound):
    """The fleet did not do what it was waited for."""


class AnotherBundle(FailureFound):
    """An agent runs something else than what is measured.

    Args:
        node: Which.
        running: What it runs.
        bundle: What is measured.
        is_move: Whether it has gone over to that in this life, as a whole fleet does.
    """

    def __init__(self, node: str, running: str, bundle: str, *, is_move: bool) -> None:
        self.node, self.running, self.bundle, self.is_move = node, running, bundle, is_move
        super().__init__(
            f"the fleet has gone over from bundle {bundle} to {running}: run it with that one"
            if is_move
            else f"{node} runs bundle {running}, not {bundle}: give all the same one"
        )


class Driver:
    """One link that publishes for every sensor and hears the sink.

    Args:
        brokers: Where the fleet meets; when the first dies, the next.
        fleet: The fleet's name.
        bundle: What it runs.
        raw: Per sensor, the (rows, width) raw values to feed, over and over, as Feed orders them.
        rate: Steps a second.
        window: How many steps may be unanswered before feeding pauses: a machine that is too slow for the rate is
            fed more slowly, instead of being flooded until its deadlines pass.
        watch: Called while waiting; raises if the fleet cannot go on.
        tls: What to show a broker that wants a certificate.
    """

    def __init__(
        self,
        brokers: Sequence[BrokerUrl],
        fleet: str,
        bundle: Bundle,
        raw: Mapping[str, Floats],
        *,
        rate: float = 200.0,
        window: int = 8,
        watch: Callable[[], None] = lambda: None,
        tls: Tls | None = None,
    ) -> None:
        self.bundle = bundle
        self.phases: list[Phase] = []
        manifest = bundle.manifest
        self._topics = Topics(fleet)
        self.told = Told(manifest)
        self.feed = Feed(fleet, bundle, raw)
        self._interval_s = 1 / rate
        self._window = window
        self.watch = watch
        self.fleet, self.tls = fleet, tls
        # One hop more than the sink's deadline: its clock starts when the step reaches it.
        sink_ms = manifest.deadlines_ms[manifest.sink]
        self.deadline_ms = sink_ms + min(manifest.deadlines_ms.values())
        self._epoch = int(time.time())
        self._step = self._epoch << 32
        self._due_s = 0.0
        self._under_way = UnderWay(self.feed, (self.deadline_ms / 1e3 + _GRACE_S) * 1e9)
        self._between: list[StepRecord] = []
        self._status_topics = {self._topics.status(node): node for node in manifest.nodes}
        topics = [self._topics.result, *(self._topics.metrics(node) for node in manifest.nodes)]
        self._link = Link(
            brokers[0],
            f"{fleet}-driver-{self._epoch}",
            others=brokers[1:],
            subscriptions=[*((topic, 0) for topic in topics), *((topic, 1) for topic in self._status_topics)],
            on_message=self._on_message,
            tls=tls,
        )

    def __enter__(self) -> "Driver":
        self._link.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.__exit__(kind, error, trace)

    @property
    def is_answerable(self) -> bool:
        """Whether there is a broker, and at it a sink to answer: one that dies silently may long count as alive."""
        is_silent = time.monotonic_ns() - self.told.told_ns > SILENT_S * 1e9
        return self._link.is_up and self.told.is_sink_alive and not is_silent

    @property
    def url(self) -> BrokerUrl:
        """The broker where it is now."""
        return self._link.url

    @property
    def first(self) -> BrokerUrl:
        """The broker where the fleet is to be."""
        return self._link.first

    def wait(self, seconds: float) -> None:
        """Take in what comes, and feed nothing."""
        self._link.poll_until(lambda: False, seconds)

    @property
    def fed(self) -> int:
        """How many steps were fed so far."""
        return self._step - (self._epoch << 32)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send anything at all, as a member of the fleet could."""
        self._link.publish(topic, payload)

    def wait_for(self, nodes: Collection[str], timeout_s: float = _SETTLE_S) -> None:
        """Return once all of `nodes` are born and the sink sees them; raises FleetSilent."""
        sink, is_alive = self.bundle.manifest.sink, self.told.presence.is_alive

        def ready() -> bool:
            self.watch()
            others = (node for node in nodes if node != sink)
            is_told = sink in self.told.metrics
            return is_told and all(map(is_alive, nodes)) and self.told.sink_alive() >= set(others)

        if not self._link.poll_until(ready, timeout_s):
            silent = sorted(node for node in nodes if not is_alive(node))
            raise FleetSilent(
                f"after {timeout_s:.0f} s nothing is heard of {', '.join(silent) or 'the sink'}: "
                "are the agents running, with this fleet's name and this broker?"
            )

    def outlive(self, restart: Callable[[], None], timeout_s: float = _SETTLE_S) -> None:
        """Let the broker be restarted, and return once every living node has begun another life; raises FleetSilent.

        What was under way died with the broker.
        """
        view = self.told.presence.view
        before = {node: sensed.epoch for node, sensed in view.items() if sensed.state == "alive"}
        restart()

        def mourned() -> list[str]:
            self.watch()
            return [node for node, epoch in before.items() if view[node].epoch == epoch]

        if not self._link.poll_until(lambda: not mourned(), timeout_s):
            raise FleetSilent(f"{timeout_s:.0f} s after the broker's restart {', '.join(mourned())} had not come back")
        self._under_way.forget_all()

    def begin(self, name: str, alive: frozenset[str], *, noticed: bool = False) -> None:
        """Begin a phase; the steps under way belong to its transition.

        Those are the steps still unanswered. If the change was not ours but `noticed`, it came a little before:
        then also those within the last deadline since the first that others answered than the phase before expects.
        """
        phase = Phase(name, alive, time.monotonic_ns())
        if self.phases:
            before = self.phases[-1]
            expected = self.expected_contributors(before.alive)
            first = first_touched(before, expected, phase.began_ns, self.deadline_ms, noticed=noticed)
            phase.transition = before.steady[first:] + self._between
            del before.steady[first:]
            self._between = []
        self.phases.append(phase)

    def settle(
        self,
        killed: Collection[str] = (),
        timeout_s: float = _SETTLE_S,
        *,
        by_all: bool = False,
        until: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Feed until the sink sees the phase's combination and a step answers under it, or return False once `until()`.

        With `by_all`, every living node must see it, not the sink alone. Records when the sink's view showed each node
        of `killed`; raises FleetSilent.
        """
        phase = self.phases[-1]
        contributors = self.expected_contributors(phase.alive)
        seen_ns = 0
        is_settled = False

        def over() -> bool:
            nonlocal is_settled
            is_settled = settled()
            return is_settled or until()

        def settled() -> bool:
            nonlocal seen_ns
            self.watch()
            if not self.told.is_seen(phase.alive, by_all=by_all):
                seen_ns = 0
                return False
            seen_ns = seen_ns or time.monotonic_ns()
            recent = (record for record in phase.transition[-2 * self._window :] if record.sent_ns > seen_ns)
            return any(record.complete and record.contributors == contributors for record in recent)

        if not self._feed_until(phase.transition, over, timeout_s):
            raise FleetSilent(
                f"phase {phase.name!r}: after {timeout_s:.0f} s the sink sees {self.told.sink_states()}, "
                f"and no answer came from exactly {sorted(contributors) or 'nobody'}"
            )
        if is_settled:
            phase.sensed_ms = {node: (self.told.viewed_ns[node] - phase.began_ns) / 1e6 for node in killed}
        return is_settled

    def measure(self, steps: int, until: Callable[[], bool] = lambda: False) -> None:
        """Feed `steps` steps of the phase, or fewer if `until()` comes true; does not wait for their answers."""
        phase = self.phases[-1]
        self._feed_until(phase.steady, lambda: len(phase.steady) >= steps or until(), timeout_s=float("inf"))

    def finish(self) -> None:
        """Feed on until the steps of the phase have their answers; what is sent meanwhile belongs to the next one."""
        phase = self.phases[-1]
        waiting = [record for record in (*phase.transition, *phase.steady) if not record.is_answered]
        self._feed_until(
            self._between, lambda: all(record.is_answered for record in waiting), self.deadline_ms / 1e3 + _GRACE_S
        )

    def drain(self) -> None:
        """Wait until every step is answered or counts as lost."""
        self._link.poll_until(lambda: not self._under_way, self.deadline_ms / 1e3 + _GRACE_S)

    def expected_contributors(self, alive: frozenset[str]) -> frozenset[str]:
        """Return the sensors and nodes whose units are in an answer when exactly `alive` of `order` live."""
        return expected_contributors(self.bundle.manifest, alive)

    def _feed_until(self, records: list[StepRecord], enough: Callable[[], bool], timeout_s: float) -> bool:
        ends_s = time.monotonic() + timeout_s
        while not enough():
            self._require_sink()
            now_s = time.monotonic()
            if now_s > ends_s:
                return False
            self._under_way.forget_lost(time.monotonic_ns())
            if now_s >= self._due_s and len(self._under_way) < self._window:
                self._due_s = max(self._due_s + self._interval_s, now_s)
                records.append(self._send())
            is_full = len(self._under_way) >= self._window
            self._link.poll(0.05 if is_full else max(0.0, min(self._due_s - time.monotonic(), 0.05)))
        return True

    def _require_sink(self) -> None:
        """Return once the sink is alive; raises FleetSilent if it does not come back."""

        def is_there() -> bool:
            self.watch()
            return self.told.is_sink_alive

        if not self.told.is_sink_alive and not self._link.poll_until(is_there, _MOVING_S):
            raise FleetSilent(f"{self.bundle.manifest.sink}, the sink, is dead: nobody is left to answer")

    def _send(self) -> StepRecord:
        self._step += 1
        record = self._under_way.send(self._step, time.monotonic_ns())
        for topic, payload in self.feed.messages(self._step, self._epoch, record.sent_ns):
            self._link.publish(topic, payload)
        return record

    def _on_message(self, topic: str, payload: bytes) -> None:
        now_ns = time.monotonic_ns()
        try:
            if topic == self._topics.result:
                self._under_way.answer(_decode_answer(payload), now_ns)
            elif topic in self._status_topics:
                if payload:
                    self._on_status(self._status_topics[topic], decode_status(payload), now_ns)
            else:
                self.told.on_metrics(_decode_metrics(payload), now_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, StatusError) as error:
            _log.warning("%s carries something else than expected: %s", topic, error)

    def _on_status(self, node: str, status: Status, now_ns: int) -> None:
        if status.online and status.bundle not in self.feed:
            running, bundle = status.bundle or "unknown", self.bundle.id.hex()
            is_move = node in self.told.held and self.told.held[node].epoch == status.epoch
            raise AnotherBundle(node, running, bundle, is_move=is_move)
        if node == self.bundle.manifest.sink:
            if status.online:
                self.feed.go_over(status.bundle)
            elif status.reason == "moved" and self.told.is_alive_in(node, status.epoch):
                self._link.go_back()  # the fleet was told to; its answers are there from now on
                return
        self.told.on_status(node, status, now_ns)
