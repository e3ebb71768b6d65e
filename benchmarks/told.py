"""What the nodes of a fleet tell of themselves and of each other. Pure: time comes in."""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from benchmarks.agreement import is_seen_by_all
from broker.presence import Layer, Presence, Sensed, State, Status
from edge_agent.bundle import Manifest
from edge_agent.metrics import Metrics

SILENT_S: Final = 3.0
"""Who has told nothing for so long is silent: a sink tells once a second."""
_NOTICED: Final = 10_000


class Noticed(NamedTuple):
    """That a node sees another one in another state than before: since when, by its own clock, and when we heard."""

    observer: str
    node: str
    was: State
    state: State
    layer: Layer
    since_ns: int
    heard_ns: int


class Told:
    """The births and deaths of the nodes of `manifest`, and the last word of each on itself and on the others."""

    def __init__(self, manifest: Manifest) -> None:
        self.presence = Presence(manifest.nodes)
        self.held: dict[str, Status] = {}
        """The last birth of each node: it tells which bundles it holds."""
        self.metrics: dict[str, Metrics] = {}
        self.noticed: deque[Noticed] = deque(maxlen=_NOTICED)
        """What nodes noticed of each other, the last of it."""
        self.viewed_ns: dict[str, int] = {}
        """When the sink's view of a node last changed between alive and not."""
        self.told_ns = 0
        """When the sink told last."""
        self.listener: Callable[[Metrics], None] = lambda _metrics: None
        """Called with whatever a node tells of itself."""
        self._manifest = manifest

    @property
    def is_sink_alive(self) -> bool:
        """Whether there is a sink to answer."""
        return self.presence.is_alive(self._manifest.sink)

    def is_alive_in(self, node: str, epoch: int) -> bool:
        """Whether `node` is alive, in this epoch."""
        return self.presence.is_alive(node) and self.presence.view[node].epoch == epoch

    def sink_view(self) -> Mapping[str, Sensed]:
        """Return what the sink told last of each of its ancestors."""
        told = self.metrics.get(self._manifest.sink)
        return told.view if told else {}

    def forget_view(self) -> None:
        """Let what the sink told count for nothing: while nobody could hear it, all may have changed."""
        self.metrics.pop(self._manifest.sink, None)

    def sink_states(self) -> dict[str, State]:
        """Return how the sink sees each of its ancestors, as it told last."""
        return {node: sensed.state for node, sensed in self.sink_view().items()}

    def sink_alive(self) -> frozenset[str]:
        """Return the nodes that the sink sees alive."""
        return frozenset(node for node, state in self.sink_states().items() if state == "alive")

    def is_seen(self, alive: frozenset[str], *, by_all: bool) -> bool:
        """Whether the sink sees exactly `alive` of the nodes that can fail; with `by_all`, every living node."""
        if self.sink_alive() & set(self._manifest.order) != alive:
            return False
        return not by_all or is_seen_by_all(self._manifest, alive, self.presence.view, self.metrics)

    def await_bundle(self, bundle: str, nodes: Collection[str]) -> Callable[[], bool]:
        """Return what tells whether each of `nodes` runs `bundle`, or holds it beside what it runs."""
        return lambda: all(
            node in self.held and bundle in (self.held[node].bundle, *self.held[node].beside) for node in nodes
        )

    def on_status(self, node: str, status: Status, now_ns: int) -> None:
        """Take in a birth or a death."""
        if status.online:
            self.held[node] = status
        self.presence.on_status(node, status, now_ns)

    def on_metrics(self, metrics: Metrics, now_ns: int) -> None:
        """Take in what a node tells of itself and of how it sees the others."""
        if metrics.node == self._manifest.sink:
            self.told_ns = now_ns
            before = self.sink_states()
            for node, sensed in metrics.view.items():
                if (before.get(node) == "alive") != (sensed.state == "alive"):
                    self.viewed_ns[node] = now_ns
        known = self.metrics.get(metrics.node)
        if known is not None and known.epoch == metrics.epoch:
            for node, sensed in metrics.view.items():
                was = known.view[node].state
                if was != sensed.state:
                    seen = (was, sensed.state, sensed.layer, sensed.since_ns, now_ns)
                    self.noticed.append(Noticed(metrics.node, node, *seen))
        self.metrics[metrics.node] = metrics
        self.listener(metrics)
