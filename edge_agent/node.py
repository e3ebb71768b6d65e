"""One physical node: messages and time in, messages out.

    tensor of a source ──► decode ─► gather ─► partition (onnxruntime) ─► own tensor, or the sink's answer
    status of an ancestor ─► presence ─► who is worth waiting for

Knows neither a broker nor a clock, so that it runs the same under a test as on a device.
"""

import logging
from collections import Counter
from collections.abc import Callable

import msgspec
import numpy as np

from broker.frame import CUT, Frame, FrameError, decode, encode
from broker.presence import Presence, StatusError, decode_status
from broker.topics import Topics
from edge_agent.answer import Answer, Metrics, guess, softmax
from edge_agent.bundle import Bundle
from edge_agent.commands import CommandError, Reply, decode_ask, encode_reply
from edge_agent.flow import ancestors, fed
from edge_agent.gather import Gather, Gathered
from edge_agent.session import Floats, Session

_log = logging.getLogger("fogguard.node")
_encode_json = msgspec.json.Encoder().encode
Publish = Callable[[str, bytes], None]


class Node:
    """The state of one node for one life of its agent.

    Args:
        name: Which of the bundle's nodes this is.
        bundle: What the fleet runs.
        session: The node's loaded graph.
        topics: Where the fleet talks.
        publish: Sends a payload to a topic.
    """

    def __init__(self, name: str, bundle: Bundle, session: Session, topics: Topics, publish: Publish) -> None:
        manifest = bundle.manifest
        self.name = name
        self.epoch = 0
        self._bundle = bundle
        self._session = session
        self._topics = topics
        self._publish = publish
        self._is_sink = name == manifest.sink
        self._bits = {source: 1 << position for position, source in enumerate(manifest.names)}
        upstream = ancestors(manifest.inputs, name)
        self._inputs = {node: sources for node, sources in manifest.inputs.items() if node in upstream}
        self._sensors = upstream & manifest.sensors.keys()
        entries = {source: manifest.entry(source) for source in manifest.nodes[name].inputs}
        self._expected = {source: (entry.shape, str(entry.dtype)) for source, entry in entries.items()}
        self.presence = Presence(upstream & manifest.nodes.keys())
        self._rejected: Counter[str] = Counter()
        self._awaited: frozenset[str] = frozenset()
        self._update_awaited()
        self._gather = Gather(tuple(self._expected), lambda: self._awaited, round(manifest.deadlines_ms[name] * 1e6))
        self._tensor_topics = {topics.tensor(source): source for source in self._expected}
        self._status_topics = {topics.status(node): node for node in self.presence.view}
        self._own_tensor = topics.tensor(name)

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """Topics and QoS: statuses first, so that who is alive is known before the first tensor."""
        steps = [(self._topics.step, 0)] if self._is_sink else []
        return [(t, 1) for t in self._status_topics] + steps + [(t, 0) for t in self._tensor_topics]

    @property
    def next_deadline_ns(self) -> int | None:
        """When `on_time` must be called next."""
        return self._gather.next_deadline_ns

    def on_message(self, topic: str, payload: bytes, now_ns: int) -> None:
        """Take in one message; what does not fit is counted and dropped."""
        try:
            if topic in self._tensor_topics:
                self._on_tensor(self._tensor_topics[topic], payload, now_ns)
            elif topic in self._status_topics:
                self._on_status(self._status_topics[topic], payload, now_ns)
            elif topic == self._topics.step:
                frame = decode(payload, bundle=self._bundle.id)
                self._finish(self._gather.announce(frame.step, frame.origin_ns, now_ns))
        except FrameError as error:
            self._rejected[error.reason] += 1
        except StatusError:
            self._rejected["status"] += 1

    def on_time(self, now_ns: int) -> None:
        """Cut off the steps whose deadline has passed."""
        for gathered in self._gather.expire(now_ns):
            self._finish(gathered)

    def on_request(self, payload: bytes) -> bytes | None:
        """Return the reply to the operator's request, None if it is none, which is counted."""
        try:
            command = decode_ask(payload).command
        except CommandError:
            self._rejected["command"] += 1
            return None
        metrics = self.metrics() if command == "metrics" else None
        bundle = self._bundle.id.hex()
        return encode_reply(Reply(command=command, node=self.name, epoch=self.epoch, bundle=bundle, metrics=metrics))

    def metrics(self) -> Metrics:
        """Return the counters and the view."""
        counters = msgspec.to_builtins(self._gather.counters)
        view: dict[str, str] = {node: sensed.state for node, sensed in self.presence.view.items()}
        return Metrics(node=self.name, epoch=self.epoch, counters=counters, rejected=dict(self._rejected), view=view)

    def publish_metrics(self) -> None:
        """Publish the counters and the view."""
        self._publish(self._topics.metrics(self.name), _encode_json(self.metrics()))

    def _on_tensor(self, source: str, payload: bytes, now_ns: int) -> None:
        frame = decode(payload, bundle=self._bundle.id, expected=self._expected[source])
        if source in self.presence.view and self.presence.on_frame(source, frame.epoch, now_ns):
            self._view_changed()
        self._finish(self._gather.offer(source, frame, now_ns))

    def _on_status(self, node: str, payload: bytes, now_ns: int) -> None:
        if payload and self.presence.on_status(node, decode_status(payload), now_ns):
            _log.info("%s sees %s %s", self.name, node, self.presence.view[node].state)
            self._view_changed()
            # Dead, or born again: in either case the life that open steps wait for is over.
            for gathered in self._gather.bury(node):
                self._finish(gathered)

    def _view_changed(self) -> None:
        self._update_awaited()
        self.publish_metrics()

    def _update_awaited(self) -> None:
        speaking = fed(self._inputs, self.presence.alive() | self._sensors)
        self._awaited = speaking & self._expected.keys()

    def _finish(self, gathered: Gathered | None) -> None:
        """Run the partition on a closed step and publish the outcome; Φ in, Φ out."""
        if gathered is None:
            return
        present = [frame for frame in gathered.frames if frame is not None and not frame.is_null]
        cut = CUT if not gathered.complete or any(f.is_cut for f in gathered.frames if f is not None) else 0
        contributors = 0
        output: Floats | None = None
        if present:
            output = self._session.run([None if f is None else _row(f) for f in gathered.frames])[0]
            contributors = self._bits[self.name]
            for frame in present:
                contributors |= frame.contributors
        if self._is_sink:
            self._answer(gathered, output, contributors, complete=not cut)
        else:
            frame = Frame(gathered.step, self.epoch, self._bundle.id, output, contributors, gathered.origin_ns, cut)
            self._publish(self._own_tensor, encode(frame))

    def _answer(self, gathered: Gathered, logits: Floats | None, contributors: int, *, complete: bool) -> None:
        manifest = self._bundle.manifest
        names = tuple(name for name, bit in self._bits.items() if bit & contributors)
        expected: float | None
        if logits is None:
            label, scores, expected = guess(gathered.step, manifest.prior), manifest.prior, manifest.accuracy.chance
        else:
            label, scores = int(logits.argmax()), tuple(softmax(logits).tolist())
            expected = manifest.accuracy.per_mask.get(manifest.mask_key(names))
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


def _row(frame: Frame) -> Floats | None:
    """Return the frame's vector as a batch of one."""
    return None if frame.values is None else np.asarray(frame.values, np.float32)[None]
