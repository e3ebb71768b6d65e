"""How fast a fleet answers and what its agents cost, beside the barest relay of the same graphs on the same broker.

Both are timed in the same run, in turns: absolute times say little on a shared machine, ratios do.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.beside import Figures, measure_beside
from benchmarks.fleet import brokers_at
from benchmarks.floor import running_floor
from benchmarks.memory import rss_mb
from benchmarks.meters import Meters
from benchmarks.place import Place
from benchmarks.probe import AgentWire, FloorWire, Probe, Round, StepLost
from benchmarks.reached import Reached
from benchmarks.running import Keep, examine
from broker.errors import FogError
from broker.frame import Vector
from broker.link import Link
from broker.presence import decode_status
from broker.scratch import scratch
from broker.topics import Topics
from broker.url import BrokerUrl, parse_urls
from edge_agent.bundle import Bundle, load
from edge_agent.loading import load_session
from provisioning import asking
from provisioning.local import LocalFleet

FLEET: Final = "latency"
WARM_UP_STEPS: Final = 100
IDLE_S: Final = 5.0
START_S: Final = 30.0
ROWS: Final = 64
Progress = Callable[[str], None]


def measure(
    path: Path,
    broker: str | None,
    steps: int,
    window: int,
    rounds: int,
    progress: Progress = lambda _what: None,
    beside: str | None = None,
    min_seconds: float = 0.0,
    offered: Sequence[float] | None = (),
    keep: Keep = lambda _body: None,
) -> dict[str, Any]:
    """Start a fleet of the bundle in `path` and the bare relay of its graphs; time them in turns.

    Args:
        path: The bundle.
        broker: As `--broker` names it.
        steps: Of each kind, in each round.
        window: How many are under way at once, when many are.
        rounds: How many; the figures are their medians.
        progress: Told what is being done.
        beside: A command that takes its turn in each round (`measure_beside`).
        min_seconds: How long to feed steps one by one for their stages, at the least (`examine`).
        offered: The loads to offer then.
        keep: As `examine` calls it, once the rounds are over.
    """
    bundle = load(path)
    bundle.verify()
    sensed = noise_of(bundle)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch("latency"))
        url, *_ = stack.enter_context(brokers_at(broker))
        if url.secure:
            raise FogError(f"the bare relay speaks no TLS: write mqtt:// instead of {url}")
        progress(f"starting the fleet, and the bare relay of its graphs, at {url}")
        agents = stack.enter_context(LocalFleet(bundle, [url], FLEET, folder))
        ready_s = _start(agents, bundle, url)
        topic = stack.enter_context(running_floor(bundle, url, folder))
        idle_cpu_percent = _idle(agents)
        fleet = stack.enter_context(Probe(url, "latency-probe", AgentWire(FLEET, bundle, sensed)))
        floor = stack.enter_context(Probe(url, "floor-probe", FloorWire(topic, bundle, sensed)))
        for probe in (fleet, floor):
            probe.round(WARM_UP_STEPS, window)
        found, floors, others = list[Figures](), list[Figures](), list[Figures]()
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: {steps} steps one by one, {steps} with {window} under way")
            found.append(_figures(fleet.round(steps, window)))
            floors.append(_figures(floor.round(steps, window)))
            if beside is not None:
                others.append(measure_beside(beside, url))
        timed = {
            "bundle": bundle.id.hex(),
            "steps": steps,
            "window": window,
            "rounds": rounds,
            **_medians(found),
            "floor": {**_medians(floors), "ratio": _ratios(found, floors)},
            "beside": {"command": beside, **_medians(others), "ratio": _ratios(found, others)} if others else None,
            "each_round": [_ratios([ours], [theirs]) for ours, theirs in zip(found, floors, strict=True)],
            "rss_mb": {node: rss_mb(pid) for node, pid in agents.pids.items()},
            "ready_s": ready_s,
            "idle_cpu_percent": idle_cpu_percent,
        }
        reached = Reached(bundle, url, FLEET, sensed, is_here=True)
        kept: Keep = lambda body: keep(lambda: {**body(), **timed})  # noqa: E731
        return {**examine(reached, steps, min_seconds, offered, progress, kept), **timed}


def measure_there(
    place: Place,
    path: Path,
    steps: int,
    min_seconds: float,
    offered: Sequence[float] | None,
    progress: Progress,
    keep: Keep = lambda _body: None,
) -> dict[str, Any]:
    """Time a fleet that runs elsewhere: a lab's devices, or real ones (`examine`).

    With a lab's, this thread is in the lab's network from then on; smart plugs are outside.
    """
    bundle = load(path)
    bundle.verify()
    nodes = bundle.manifest.nodes
    if strange := place.plugs.keys() - nodes.keys():
        raise FogError(f"{min(strange)} has a plug, and the bundle no such node: it has {', '.join(nodes)}")
    fleet = place.fleet_of(bundle.manifest)
    urls = parse_urls(place.broker or "")
    told = {"bundle": bundle.id.hex(), "steps": steps}
    kept: Keep = lambda body: keep(lambda: {**told, **body()})  # noqa: E731
    with Meters(place.plugs) as meters:
        if place.lab is not None:
            from provisioning.lab import network

            network.enter(place.lab.namespace)
        reached = Reached(bundle, urls[0], fleet, noise_of(bundle), place.tls, read_plugs_w=meters.read_w)
        if len(urls) > 1:
            there = asking.find(urls, fleet, reached.files("operator"))
            reached = reached._replace(url=next(iter(there.values())).url)
        return {**told, **examine(reached, steps, min_seconds, offered, progress, kept)}


def _figures(found: Round) -> Figures:
    """Return the quantiles of one round."""
    p50, p95, p99 = np.percentile(found.times_ms, (50, 95, 99)).tolist()
    return Figures(p50_ms=p50, p95_ms=p95, p99_ms=p99, steps_per_s=found.steps_per_s)


def _medians(rounds: Sequence[Figures]) -> dict[str, float]:
    """Return the medians over the rounds."""
    return {name: statistics.median(getattr(each, name) for each in rounds) for name in Figures.__struct_fields__}


def _ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, float]:
    """Return the median over the rounds of our figure over theirs in the same round."""
    return {
        name: statistics.median(getattr(a, name) / getattr(b, name) for a, b in zip(ours, theirs, strict=True))
        for name in Figures.__struct_fields__
    }


def noise_of(bundle: Bundle) -> dict[str, Vector]:
    """Return what each sensor puts out for some rows of noise: times do not depend on what is in them."""
    generator = np.random.default_rng(0)
    found = {}
    for name, entry in bundle.manifest.sensors.items():
        raw = generator.normal(size=(ROWS, *entry.shape)).astype(np.float32)
        found[name] = load_session(bundle, name).run([raw])
    return found


def _start(agents: LocalFleet, bundle: Bundle, url: BrokerUrl) -> dict[str, float]:
    """Start every agent by itself; return the seconds until its birth is seen."""
    topics = Topics(FLEET)
    born: dict[str, float] = {}

    def on_message(topic: str, payload: bytes) -> None:
        if payload and decode_status(payload).online:
            born.setdefault(topic, time.perf_counter())

    watched = [(topics.status(node), 1) for node in bundle.manifest.nodes]
    ready_s = {}
    with Link(url, "latency-births", subscriptions=watched, on_message=on_message) as link:
        link.connect()
        for node in bundle.manifest.nodes:
            begun_s = time.perf_counter()
            agents.start([node])
            if not link.poll_until(lambda node=node: topics.status(node) in born, START_S):  # type: ignore[misc]
                agents.require_running()
                raise StepLost(f"{node} was not born within {START_S:.0f} s")
            ready_s[node] = born[topics.status(node)] - begun_s
    return ready_s


def _idle(agents: LocalFleet) -> dict[str, float]:
    """Return what share of a core each agent takes while nothing is to be done, in percent."""
    before = {node: _cpu_s(pid) for node, pid in agents.pids.items()}
    time.sleep(IDLE_S)
    return {node: 100 * (_cpu_s(pid) - before[node]) / IDLE_S for node, pid in agents.pids.items()}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
