"""A running fleet and how a benchmark speaks to it: as its feeder, its operator and its witness."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.probe import AgentWire, Probe
from broker.frame import Vector
from broker.link import Link
from broker.tls import Tls, files_of
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.bundle import Bundle
from provisioning.asking import Operator

_PATIENCE_S = 30.0  # behind all the steps that a slow cable has still to carry a link may break
_IDLE_S = 600  # nobody drives the witness's link while steps are timed


class Reached(NamedTuple):
    """A fleet and how it is spoken to; `tls` is the feeder's certificate, the others lie beside it.

    `is_here`: its agents are processes of this machine, and have its clock. `read_plugs_w` returns what the smart plugs
    of its devices have said since the last call, by their nodes.
    """

    bundle: Bundle
    url: BrokerUrl
    fleet: str
    sensed: Mapping[str, Vector]
    tls: Tls | None = None
    is_here: bool = False
    read_plugs_w: Callable[[], dict[str, list[float]]] = dict

    def files(self, identity: str) -> Tls | None:
        """Return another identity's certificate."""
        return files_of(Path(self.tls.certificate).parent, identity) if self.tls else None

    def probe(self) -> Probe:
        """Return what feeds it."""
        name = f"{self.fleet}-probe-{secrets.token_hex(4)}"
        return Probe(self.url, name, AgentWire(self.fleet, self.bundle, self.sensed), self.tls)

    def operator(self, patience_s: float = _PATIENCE_S) -> Operator:
        """Return what asks its nodes."""
        return Operator(self.url, self.fleet, self.files("operator"), patience_s)

    def witness(self, on_message: Callable[[str, bytes], None]) -> Link:
        """Return a link, not connected yet, that overhears all vectors and answers."""
        topics = Topics(self.fleet)
        return Link(
            self.url,
            f"{self.fleet}-witness-{secrets.token_hex(4)}",
            subscriptions=[(topics.tensor("+"), 0), (topics.result, 0)],
            on_message=on_message,
            tls=self.files("witness"),
            keepalive_s=_IDLE_S,
        )
