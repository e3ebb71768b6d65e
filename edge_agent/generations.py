"""The bundles that an agent holds at once: the one it runs, and while the fleet switches, another beside it.

    a frame ─► the node of the bundle that it names      each has its own graph, gather and deadlines
    a status or beat ─► every node                       each judges for itself who lives

So a step is answered by one bundle from end to end, whichever the agents run: those under way end as they began. Only
the node of the bundle that the agent runs beats and tells metrics; they count on over all bundles.

    held ──run──► runs ──another is run──► old ──nothing came for it for a while──► dropped
      └──no longer wanted: dropped

With one bundle, all this is one comparison a message.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from broker.frame import bundle_of
from broker.topics import Topics
from edge_agent.node import Node, Publish

if TYPE_CHECKING:
    from edge_agent.sensor import Sensor  # brings what a node has no use for, and 1 MB

IDLE_NS: Final = 5_000_000_000
"""How long nothing must have come for an old bundle; the others may take as long to be told to run the new one."""
_LAST_NS: Final = 60_000_000_000
"""An old bundle is dropped after this, though somebody still sends frames for it."""


Member = TypeVar("Member", Node, "Sensor")


class Generations(Generic[Member]):
    """The nodes of one agent, or its sensor, by their bundles' ids; only nodes are exchanged.

    Args:
        bundle: The id of what it runs.
        node: The node that runs it.
        topics: Where the fleet talks.
        publish: Sends a payload to a topic.
    """

    def __init__(self, bundle: bytes, node: Member, topics: Topics, publish: Publish) -> None:
        self.bundle = bundle
        self.current: Member = node
        self._nodes: dict[bytes, Member] = {bundle: node}
        self._heard_ns = {bundle: 0}
        self._old_since_ns: dict[bytes, int] = {}
        self._publish = publish
        self._outcomes = (topics.tensor(node.name), topics.result)
        self._framed = node.framed

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """Topics and QoS, the same for all."""
        return self.current.subscriptions

    @property
    def beside(self) -> tuple[bytes, ...]:
        """The other bundles that are held."""
        return tuple(bundle for bundle in self._nodes if bundle != self.bundle)

    @property
    def next_deadline_ns(self) -> int | None:
        """When `on_time` must be called next."""
        if len(self._nodes) == 1:
            return self.current.next_deadline_ns
        return min(filter(None, (node.next_deadline_ns for node in self._nodes.values())), default=None)

    def begin_epoch(self, epoch: int) -> None:
        """Begin another life."""
        for node in self._nodes.values():
            node.epoch = epoch

    def on_message(self, topic: str, payload: bytes, now_ns: int) -> None:
        """Hand a message to whom it concerns; a frame of a bundle that is not held is for who runs to refuse."""
        if len(self._nodes) == 1:
            self.current.on_message(topic, payload, now_ns)
        elif topic in self._framed:
            bundle = bundle_of(payload)
            node = self._nodes.get(bundle)
            if node is not None:
                self._heard_ns[bundle] = now_ns
            (node or self.current).on_message(topic, payload, now_ns)
        else:
            for node in self._nodes.values():
                node.on_message(topic, payload, now_ns)

    def beat(self, now_ns: int) -> None:
        """Let the agent beat; the others keep count, to know its echo."""
        for node in self._nodes.values():
            node.beat(now_ns)

    def on_time(self, now_ns: int) -> None:
        """Cut off the steps whose deadline has passed."""
        for node in self._nodes.values():
            node.on_time(now_ns)

    def on_link_up(self, now_ns: int) -> None:
        """Begin to listen (again)."""
        for node in self._nodes.values():
            node.on_link_up(now_ns)

    def hold(self: "Generations[Node]", bundle: bytes, node: Node) -> None:
        """Take in the node of another bundle of the same wiring, warmed up."""
        node.take_over(self.current)
        node.speak(self._publish_outcome)
        self._nodes[bundle] = node

    def run(self: "Generations[Node]", bundle: bytes) -> None:
        """Let the agent run a bundle that it holds."""
        self.current.speak(self._publish_outcome)
        self.bundle, self.current = bundle, self._nodes[bundle]
        self.current.speak(self._publish)
        self._heard_ns.setdefault(bundle, 0)

    def keep(self, wanted: Collection[bytes], now_ns: int) -> None:
        """Let all that is not in `wanted`, and not run, be dropped when its time has come: see `drop`."""
        unwanted = self._nodes.keys() - set(wanted) - {self.bundle}
        self._old_since_ns = {bundle: self._old_since_ns.get(bundle, now_ns) for bundle in unwanted}

    def drop(self: "Generations[Node]", now_ns: int) -> bool:
        """Drop the old bundles that nothing came for lately, or that never were used; return whether there were any."""
        over = [bundle for bundle, since_ns in self._old_since_ns.items() if self._is_over(bundle, since_ns, now_ns)]
        for bundle in over:
            self._nodes.pop(bundle).close()
            del self._old_since_ns[bundle]
            self._heard_ns.pop(bundle, None)
        return bool(over)

    def _is_over(self, bundle: bytes, since_ns: int, now_ns: int) -> bool:
        heard_ns = self._heard_ns.get(bundle)
        if heard_ns is None:
            return True
        return now_ns - max(heard_ns, since_ns) > IDLE_NS or now_ns - since_ns > _LAST_NS

    def _publish_outcome(self, topic: str, payload: bytes) -> None:
        """Publish for a bundle that the agent does not run: what its steps come to, and nothing else."""
        if topic in self._outcomes:
            self._publish(topic, payload)
