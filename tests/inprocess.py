"""The nodes of a bundle in this process: they hear each other through one queue, delivered in order."""

from collections import deque

import msgspec

from broker.frame import Frame, encode
from broker.presence import Status, encode_status
from broker.topics import Topics
from edge_agent.answer import Answer
from edge_agent.loading import load_session
from edge_agent.node import Node
from export.evaluation import Composed, labels, logits_by_mask
from export.failures import GUESS

TOPICS = Topics("test")


def fed_under(bundle, mask, rows):
    """The nodes that `mask` leaves alive, fed raw rows (per sensor), and what the composed parts predict for those."""
    parts = Composed(bundle)
    sensed = parts.sensed(rows)
    predicted = labels(logits_by_mask(parts, rows, [mask])[mask], len(next(iter(rows.values()))))
    fog = Fog(bundle, {node for node, bit in zip(bundle.manifest.order, mask, strict=True) if bit == "1"})
    for step in range(len(predicted)):
        fog.sense(step, {name: vectors[step] for name, vectors in sensed.items()})
    fog.settle()
    return fog, predicted.tolist()


class Fog:
    """Nodes that hear each other through one queue, delivered in order; what was is kept in `heard`."""

    def __init__(self, bundle, alive):
        self.bundle, self.queue, self.answers, self.now_ns = bundle, deque(), [], 0
        self.heard = []
        self.nodes = {}
        for name in [*alive, bundle.manifest.sink]:
            node = Node(
                name, bundle, load_session(bundle, name), TOPICS, lambda *m: self.queue.append(m), lambda: self.now_ns
            )
            node.epoch = 1
            self.nodes[name] = node
        for name in self.nodes:
            self.say(TOPICS.status(name), encode_status(Status(online=True, epoch=1)))
        self.settle()

    def say(self, topic, payload):
        self.queue.append((topic, payload))

    def settle(self):
        while self.queue:
            topic, payload = self.queue.popleft()
            self.heard.append((topic, payload))
            if topic == TOPICS.result:
                self.answers.append(msgspec.json.decode(payload, type=Answer))
            for node in self.nodes.values():
                if topic in [subscribed for subscribed, _ in node.subscriptions]:
                    node.on_message(topic, payload, self.now_ns)

    def sense(self, step, sensed):
        head = (step, 1, self.bundle.id)
        self.say(TOPICS.step, encode(Frame(*head, None)))
        for bit, (sensor, vector) in enumerate(sensed.items()):
            self.say(TOPICS.tensor(sensor), encode(Frame(*head, vector, 1 << bit)))

    @property
    def labels(self):
        """What was answered, a flagged guess as GUESS."""
        return [GUESS if answer.guess else answer.label for answer in self.answers]

    def wait(self, milliseconds):
        self.now_ns += int(milliseconds * 1e6)
        for node in self.nodes.values():
            node.on_time(self.now_ns)
        self.settle()
