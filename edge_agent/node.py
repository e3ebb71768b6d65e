"""One physical node: messages and time in, messages out.

    tensor of a source ──► decode ─► gather ─► partition (onnxruntime) ─► own tensor, or the sink's answer
    status and beats of ancestors ─► presence ─► who is worth waiting for

Knows no broker, and no clock but the one it is given, so that it runs the same under a test as on a device.
"""

import copy
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec

from broker.beat import BeatError, decode_beat, encode_beat
from broker.frame import CUT, Frame, FrameError, Vector, decode, encode
from broker.presence import MISSED, Presence, StatusError, decode_status
from broker.topics import Topics
from edge_agent.answer import Answer, guess, softmax
from edge_agent.bundle import Bundle
from edge_agent.commands import CommandError, Reply, decode_ask, reply_of
from edge_agent.contributors import Contributors
from edge_agent.finite import Frames, compute
from edge_agent.flow import ancestors, fed
from edge_agent.gather import Gather, Gathered
from edge_agent.heart import Heart
from edge_agent.leaves import Leaves
from edge_agent.metrics import Metrics, Stages
from edge_agent.session import Session
from edge_agent.trace import Trace

_log = logging.getLogger("fogguard.node")
_encode_json = msgspec.json.Encoder().encode
Publish = Callable[[str, bytes], None]
Handler = Callable[[bytes, int], None]


class Node:
    """The state of one node for one life of its agent.

    Args:
        name: Which of the bundle's nodes this is.
        bundle: What the fleet runs.
        session: The node's loaded graph.
        topics: Where the fleet talks.
        publish: Sends a payload to a topic.
        clock: Tells the time in ns, the same that comes with messages.
        beat_ms: How often to beat.
        missed: How many beats, or deadlines, in a row an ancestor may miss.
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
        beat_ms: int = 50,
        missed: int = MISSED,
    ) -> None:
        manifest = bundle.manifest
        self.name = name
        self.epoch = 0
        self._bundle = bundle
        self._session = session
        self._topics = topics
        self._publish = publish
        self._clock = clock
        self._is_sink = name == manifest.sink
        upstream = ancestors(manifest.inputs, name)
        self._inputs = {node: sources for node, sources in manifest.inputs.items() if node in upstream | {name}}
        self._expected = manifest.arriving(name)
        self._contributors = Contributors(manifest, name, tuple(self._expected))
        self.presence = Presence(upstream & manifest.nodes.keys(), missed)
        self._leaves = Leaves(upstream & manifest.sensors.keys(), missed)
        self._heart = Heart(beat_ms)
        self._busy_ms = 0.0
        self._stages = Stages()
        self._trace = Trace()
        self._rejected: Counter[str] = Counter()
        self._awaited: frozenset[str] = frozenset()
        self._update_awaited()
        self._gather = Gather(tuple(self._expected), lambda: self._awaited, round(manifest.deadlines_ms[name] * 1e6))
        self.counters = self._gather.counters
        self._routes = self._make_routes()

    def take_over(self, other: "Node") -> None:
        """Know of the fleet what the node of another bundle in this process knows, and count on where it counts."""
        self.epoch = other.epoch
        self.presence, self._leaves, self._heart = copy.deepcopy((other.presence, other._leaves, other._heart))
        self._update_awaited()
        self._stages, self._rejected, self._trace = other._stages, other._rejected, other._trace
        self.counters = self._gather.counters = other.counters
        self._gather.sources = other._gather.sources

    def speak(self, publish: Publish) -> None:
        """Publish with `publish` from now on."""
        self._publish = publish

    def close(self) -> None:
        """Let go of the graph; what else there is goes when Python next looks for cycles."""
        del self._session

    def _make_routes(self) -> dict[str, tuple[int, Handler]]:
        """Return QoS and handler of each topic; statuses first: who lives is known before the first tensor."""
        topics, routes = self._topics, dict[str, tuple[int, Handler]]()
        for node in (*self.presence.view, *self._leaves.view):
            routes[topics.status(node)] = (1, partial(self._on_status, node))
            routes[topics.beat(node)] = (0, partial(self._on_beat, node))
        routes[topics.beat(self.name)] = (0, self._on_echo)
        if self._is_sink:
            routes[topics.step] = (0, self._on_step)
        for source in self._expected:
            routes[topics.tensor(source)] = (0, partial(self._on_tensor, source))
        return routes

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """Topics and QoS."""
        return [(topic, qos) for topic, (qos, _) in self._routes.items()]

    @property
    def framed(self) -> frozenset[str]:
        """The topics that carry frames."""
        return frozenset({*map(self._topics.tensor, self._expected), self._topics.step})

    @property
    def next_deadline_ns(self) -> int | None:
        """When `on_time` must be called next."""
        return self._gather.next_deadline_ns

    @property
    def next_beat_ns(self) -> int:
        """When `beat` must be called next."""
        return self._heart.due_ns

    def warm_up(self) -> None:
        """Run the partition on nothing: the first run is slow, and the second tells how long this node may be busy."""
        for _ in range(2):
            began_ns = self._clock()
            self._session.step([None] * len(self._expected))
            self._busy_ms = (self._clock() - began_ns) / 1e6

    def beat(self, now_ns: int) -> None:
        """Publish a sign of life."""
        busy_ms = max(self._busy_ms, self._stages.infer.quantile_ms(0.99))
        self._publish(self._topics.beat(self.name), encode_beat(self._heart.beat(self.epoch, now_ns, busy_ms)))

    def on_link_up(self, now_ns: int) -> None:
        """Begin to listen (again): until now nobody could be heard."""
        self.presence.restart(now_ns)
        self._leaves.restart(now_ns)

    def on_message(self, topic: str, payload: bytes, now_ns: int) -> None:
        """Take in one message; what does not fit is counted and dropped."""
        route = self._routes.get(topic)
        if route is None:
            return
        try:
            route[1](payload, now_ns)
        except FrameError as error:
            self._rejected[error.reason] += 1
        except StatusError:
            self._rejected["status"] += 1
        except BeatError:
            self._rejected["beat"] += 1

    def on_time(self, now_ns: int) -> None:
        """Cut off the steps whose deadline has passed."""
        for gathered in self._gather.expire(now_ns):
            for source in gathered.missing & self.presence.view.keys():
                if self.presence.on_missed_deadline(source, gathered.opened_ns, now_ns):
                    self._lose(source)
            self._finish(gathered)

    def on_request(self, payload: bytes) -> Reply | None:
        """Return the reply to the operator's request, as far as a node knows; None if it is none, which is counted."""
        try:
            command = decode_ask(payload).command
        except CommandError:
            self._rejected["command"] += 1
            return None
        return reply_of(command, self, self._bundle.id, self._clock(), self._trace, self._session)

    def metrics(self) -> Metrics:
        """Return the counters and the view."""
        return Metrics(
            node=self.name,
            epoch=self.epoch,
            now_ns=self._clock(),
            counters=self.counters,
            rejected=dict(self._rejected),
            sources=self._gather.sources,
            stages=self._stages,
            view=self.presence.view,
        )

    def publish_metrics(self) -> None:
        """Publish the counters and the view."""
        self._publish(self._topics.metrics(self.name), _encode_json(self.metrics()))

    def _on_tensor(self, source: str, payload: bytes, now_ns: int) -> None:
        try:
            frame = decode(payload, bundle=self._bundle.id, expected=self._expected[source])
        except FrameError as error:
            self._refuse(source, error.reason)
            return
        is_node = source in self.presence.view
        if self._leaves.on_step(frame.step, now_ns):
            self._update_awaited()
        if self._presence_of(source).on_sign(source, frame.epoch, now_ns, "frame"):
            self._view_changed()
        gathered = self._gather.offer(source, frame, now_ns)
        is_in_time = is_node and self._gather.is_in_time(frame.step, now_ns)
        if is_in_time and self.presence.on_delivery(source, now_ns):
            self._view_changed()
        self._finish(gathered)

    def _on_step(self, payload: bytes, now_ns: int) -> None:
        frame = decode(payload, bundle=self._bundle.id)
        self._finish(self._gather.announce(frame.step, frame.origin_ns, now_ns))

    def _on_status(self, node: str, payload: bytes, now_ns: int) -> None:
        # Dead, or born again: in either case the life that open steps wait for is over.
        if payload and self._presence_of(node).on_status(node, decode_status(payload), now_ns):
            self._lose(node)

    def _on_beat(self, node: str, payload: bytes, now_ns: int) -> None:
        beat = decode_beat(payload)
        if self._presence_of(node).on_sign(node, beat.epoch, now_ns, "beat", beat.interval_ms * 1_000_000):
            self._view_changed()

    def _on_echo(self, payload: bytes, now_ns: int) -> None:
        """Judge the silence of others up to when this beat of ours was sent."""
        sent_ns = self._heart.echo(decode_beat(payload))
        if sent_ns is not None:
            for node in (*self.presence.judge(sent_ns, now_ns), *self._leaves.judge(sent_ns, now_ns)):
                self.counters.suspicions += 1
                self._lose(node)

    def _lose(self, node: str) -> None:
        """Wait no longer for what this node or sensor owes."""
        _log.info("%s sees %s %s", self.name, node, self._presence_of(node).view[node].state)
        self._view_changed()
        for gathered in self._gather.bury(node):
            self._finish(gathered)

    def _presence_of(self, source: str) -> Presence:
        return self.presence if source in self.presence.view else self._leaves

    def _view_changed(self) -> None:
        self._update_awaited()
        self.publish_metrics()

    def _update_awaited(self) -> None:
        speaking = fed(self._inputs, self.presence.alive() | self._leaves.alive())
        self._awaited = speaking & self._expected.keys()

    def _finish(self, gathered: Gathered | None) -> None:
        """Run the partition on a closed step and publish the outcome; Φ in, Φ out."""
        if gathered is None:
            return
        closed_ns = self._clock()
        self._stages.wait.add(closed_ns - gathered.opened_ns)
        frames, output = compute(self._session, gathered.frames, is_sink=self._is_sink)
        if frames is not gathered.frames:
            self._refuse_what_is_not_finite(gathered.frames, frames)
        if output is None:
            self.counters.null += 1
        else:
            infer_ns = self._clock() - closed_ns
            self._stages.infer.add(infer_ns)
            self.counters.infer_us += infer_ns // 1000
        parts = tuple(None if f is None or f.is_null else f.contributors for f in frames)
        contributors, is_partial = self._contributors.join(parts)
        is_cut = is_partial or gathered.missing or any(f.is_cut for f in frames if f is not None)
        cut = CUT if is_cut else 0
        done_ns = self._clock()
        if self._is_sink:
            self._answer(gathered, output, contributors, complete=not cut)
        else:
            frame = Frame(gathered.step, self.epoch, self._bundle.id, output, contributors, gathered.origin_ns, cut)
            self._publish(self._topics.tensor(self.name), encode(frame))
        published_ns = self._clock()
        self._stages.publish.add(published_ns - done_ns)
        self._trace.add((gathered.step, gathered.opened_ns, gathered.arrived, closed_ns, done_ns, published_ns))

    def _refuse_what_is_not_finite(self, came: Frames, used: Frames) -> None:
        for source, frame, kept in zip(self._expected, came, used, strict=True):
            if kept is not frame:
                self._refuse(source, "finite")

    def _refuse(self, source: str, reason: str) -> None:
        """Count what came from this source and cannot be used."""
        rejected = self._gather.sources[source].rejected
        rejected[reason] = rejected.get(reason, 0) + 1
        self._rejected[reason] += 1

    def _answer(self, gathered: Gathered, logits: Vector | None, contributors: int, *, complete: bool) -> None:
        manifest = self._bundle.manifest
        names, expected = self._contributors.describe(contributors)
        if logits is None:
            label, scores, expected = guess(gathered.step, manifest.prior), manifest.prior, manifest.accuracy.chance
        else:
            label, scores = int(logits.argmax()), tuple(softmax(logits).tolist())
        answer = Answer(
            step=gathered.step,
            label=label,
            name=manifest.labels[label],
            scores=scores,
            contributors=names,
            complete=complete,
            guess=logits is None,
            expected_accuracy=expected,
            bundle=self._bundle.id.hex(),
            origin_ns=gathered.origin_ns,
        )
        self._publish(self._topics.result, _encode_json(answer))
