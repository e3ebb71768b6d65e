"""A bundle, its test rows and a running fleet, ready to be fed: what every benchmark begins with."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.driver import Driver
from benchmarks.phases import PhaseReport, summarise
from benchmarks.recording import Phase
from broker.embedded import Kind, running_broker
from broker.errors import FogError
from broker.scratch import scratch
from broker.tls import Tls
from broker.topics import require_name
from broker.url import BrokerUrl, parse_urls
from edge_agent.bundle import Bundle, load
from export.data.rows import Integers
from export.evaluation import Composed, labels, logits_by_mask
from export.failures import masks
from export.heldout import HeldOut, held_out_for_bundle
from provisioning.local import LocalFleet

FLAT_OUT: Final = 1e6
"""A rate that leaves it to the window how fast steps are fed."""


@dataclass(frozen=True)
class Trial:
    """A fleet under measurement.

    Attributes:
        bundle: What it runs.
        held_out: The rows that it is fed.
        predicted: For each mask, the (rows,) labels of the bundle's parts, GUESS where no information flows.
        driver: Feeds it.
        agents: Its processes; None when they run elsewhere.
    """

    bundle: Bundle
    held_out: HeldOut
    predicted: Mapping[str, Integers]
    driver: Driver
    agents: LocalFleet | None

    def reports(self) -> list[PhaseReport]:
        """Return the figures of every phase so far, in the order that they were measured."""
        return [self.report(phase) for phase in self.driver.phases]

    def report(self, phase: Phase) -> PhaseReport:
        """Return the figures of a phase."""
        return summarise(phase, self.bundle.manifest, self.predicted, self.held_out.truth, self.driver.deadline_ms)


@contextlib.contextmanager
def brokers_at(where: str | None) -> Iterator[list[BrokerUrl]]:
    """Yield the brokers: mqtt://HOST:PORT,… as they are, embedded or mosquitto started here, None what there is."""
    if where is not None and where.startswith("mqtt"):
        yield parse_urls(where)
    else:
        with running_broker(kind_of_broker(where)) as url:
            yield [url]


def kind_of_broker(where: str | None) -> Kind | None:
    """Return which broker is to be started here, None for what there is; raises FogError."""
    kinds: dict[str | None, Kind | None] = {None: None, "embedded": "embedded", "mosquitto": "mosquitto"}
    if where not in kinds:
        raise FogError(f"--broker {where!r}: write mqtt://HOST:PORT, embedded or mosquitto (mqtts:// for TLS)")
    return kinds[where]


@contextlib.contextmanager
def running_trial(
    path: Path,
    *,
    broker: str | None = None,
    local: bool = True,
    fleet: str | None = None,
    rate: float = 200.0,
    window: int = 8,
    rows: int | None = None,
    down: Collection[str] = (),
    whole: bool = True,
    progress: Callable[[str], None] = lambda _what: None,
    tls: Tls | None = None,
) -> Iterator[Trial]:
    """Run the bundle in the folder `path` and yield it fed with its test rows, but for the nodes in `down`.

    If `rows` are fewer than there are, that many are drawn, always the same. Unless the fleet must be `whole`, only its
    sink is waited for.

    Raises BundleError, BundleDamaged, DataError, BrokerError, LinkError, AgentDied or FleetSilent.
    """
    bundle = load(path)
    bundle.verify()
    name = require_name(fleet or bundle.manifest.name, "fleet")
    unknown = sorted(set(down) - set(bundle.manifest.order))
    if unknown:
        raise FogError(f"{unknown[0]} is no node that can fail: those are {', '.join(bundle.manifest.order)}")
    progress("predicting every mask")
    held_out = held_out_for_bundle(bundle).drawn(rows)
    answers = logits_by_mask(Composed(bundle), held_out.raw, masks(len(bundle.manifest.order)))
    predicted = {mask: labels(logits, len(held_out.truth)) for mask, logits in answers.items()}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch("fleet"))
        urls = stack.enter_context(brokers_at(broker))
        agents = stack.enter_context(LocalFleet(bundle, urls, name, folder)) if local else None
        watch = agents.require_running if agents else lambda: None
        driver = stack.enter_context(
            Driver(urls, name, bundle, held_out.raw, rate=rate, window=window, watch=watch, tls=tls)
        )
        up = [node for node in bundle.manifest.nodes if node not in down]
        if agents:
            progress(f"starting {len(up)} agents at {urls[0]}")
            agents.start(up)
        driver.wait_for(up if whole else [bundle.manifest.sink])
        yield Trial(bundle, held_out, predicted, driver, agents)
