"""How fast a fleet answers and what its agents cost, beside the barest relay of the same graphs on the same broker.

Both are timed in the same run, in turns: absolute times say little on a shared machine, ratios do.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from benchmarks.fleet import brokers_at
from benchmarks.floor import STEP, running_floor
from benchmarks.memory import rss_mb
from broker.errors import FailureFound, FogError
from broker.frame import HEADER_BYTES, Frame, Vector, encode
from broker.link import Link
from broker.presence import decode_status
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.agent import load_session
from edge_agent.answer import Answer
from edge_agent.bundle import Bundle, load
from provisioning.local import LocalFleet

WARM_UP_STEPS = 100
IDLE_S = 3.0
LOST_S = 5.0
START_S = 30.0
ROWS = 64
Progress = Callable[[str], None]
_decode_answer = msgspec.json.Decoder(Answer).decode


class StepLost(FailureFound):
    """No answer came though everybody is alive."""


class Wire(Protocol):
    """How steps are sent and answers read."""

    answers: str

    def messages(self, step: int) -> list[tuple[str, bytes]]:
        """Return topics and payloads of one step."""

    def step_of(self, payload: bytes) -> int:
        """Return which step an answer is for."""


class AgentWire:
    """Frames, as the fleet speaks."""

    def __init__(self, fleet: str, bundle: Bundle, sensed: Mapping[str, Vector]) -> None:
        self._topics = Topics(fleet)
        self._bundle = bundle
        self._sensed = sensed
        self.answers = self._topics.result

    def messages(self, step: int) -> list[tuple[str, bytes]]:
        """Return the announcement of the step and one frame per sensor."""
        head = (step, 1, self._bundle.id)
        sent = [(self._topics.step, encode(Frame(*head, None)))]
        for bit, (name, rows) in enumerate(self._sensed.items()):
            sent.append((self._topics.tensor(name), encode(Frame(*head, rows[step % len(rows)], 1 << bit))))
        return sent

    def step_of(self, payload: bytes) -> int:
        """Return which step an answer is for."""
        return _decode_answer(payload).step


class FloorWire:
    """The step's number and raw floats."""

    def __init__(self, topic: str, bundle: Bundle, sensed: Mapping[str, Vector]) -> None:
        self._topic = topic
        self._sensed = sensed
        self.answers = topic + bundle.manifest.sink

    def messages(self, step: int) -> list[tuple[str, bytes]]:
        """Return one payload per sensor."""
        return [
            (self._topic + name, STEP.pack(step) + rows[step % len(rows)].tobytes())
            for name, rows in self._sensed.items()
        ]

    def step_of(self, payload: bytes) -> int:
        """Return which step an answer is for."""
        found: int = STEP.unpack_from(payload)[0]
        return found


class Round(NamedTuple):
    """One round's figures: milliseconds of each step that was alone under way, and steps a second of many."""

    times_ms: list[float]
    steps_per_s: float


class Probe:
    """Feeds steps and takes their answers, with as little else as there can be."""

    def __init__(self, broker: BrokerUrl, name: str, wire: Wire) -> None:
        self._wire = wire
        self._steps = count(time.time_ns())
        self._answered_ns: dict[int, int] = {}
        self._link = Link(broker, name, subscriptions=[(wire.answers, 0)], on_message=self._on_message)

    def __enter__(self) -> "Probe":
        self._link.connect()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._link.__exit__(*exception)

    def round(self, steps: int, window: int) -> Round:
        """Time `steps` steps one by one, then as many with `window` of them under way; raises StepLost."""
        self._answered_ns.clear()
        times_ms = []
        for _ in range(steps):
            begun_ns, step = time.perf_counter_ns(), self._send()
            self._poll_until(lambda step=step: step in self._answered_ns)  # type: ignore[misc]
            times_ms.append((self._answered_ns[step] - begun_ns) / 1e6)
        self._answered_ns.clear()
        begun_s = time.perf_counter()
        for sent in range(steps):
            self._poll_until(lambda sent=sent: sent - len(self._answered_ns) < window)  # type: ignore[misc]
            self._send()
        self._poll_until(lambda: len(self._answered_ns) == steps)
        return Round(times_ms, steps / (time.perf_counter() - begun_s))

    def _send(self) -> int:
        step = next(self._steps)
        for topic, payload in self._wire.messages(step):
            self._link.publish(topic, payload)
        return step

    def _poll_until(self, condition: Callable[[], bool]) -> None:
        if not self._link.poll_until(condition, LOST_S):
            raise StepLost(f"a step was not answered within {LOST_S:.0f} s: is every node alive?")

    def _on_message(self, _topic: str, payload: bytes) -> None:
        self._answered_ns[self._wire.step_of(payload)] = time.perf_counter_ns()


def measure(
    path: Path, broker: str | None, steps: int, window: int, rounds: int, progress: Progress = lambda _what: None
) -> dict[str, Any]:
    """Start a fleet of the bundle in `path` and the bare relay of its graphs; time them in turns.

    Args:
        path: The bundle.
        broker: As `--broker` names it.
        steps: Of each kind, in each round.
        window: How many are under way at once, when many are.
        rounds: How many; the figures are their medians.
        progress: Told what is being done.
    """
    bundle = load(path)
    bundle.verify()
    sensed = _sensed(bundle)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fogguard-latency-")))
        url, *_ = stack.enter_context(brokers_at(broker))
        if url.secure:
            raise FogError(f"the bare relay speaks no TLS: write mqtt:// instead of {url}")
        progress(f"starting the fleet, and the bare relay of its graphs, at {url}")
        agents = stack.enter_context(LocalFleet(bundle, [url], "latency", folder))
        ready_s = _start(agents, bundle, url)
        topic = stack.enter_context(running_floor(bundle, url, folder))
        idle_cpu_percent = _idle(agents)
        fleet = stack.enter_context(Probe(url, "latency-probe", AgentWire("latency", bundle, sensed)))
        floor = stack.enter_context(Probe(url, "floor-probe", FloorWire(topic, bundle, sensed)))
        for probe in (fleet, floor):
            probe.round(WARM_UP_STEPS, window)
        pairs = []
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: {steps} steps one by one, {steps} with {window} under way")
            pairs.append((fleet.round(steps, window), floor.round(steps, window)))
        resident_mb = {node: rss_mb(pid) for node, pid in agents.pids.items()}
    return {
        "fog": bundle.manifest.name,
        "steps": steps,
        "window": window,
        "rounds": rounds,
        **_figures([each for each, _ in pairs]),
        "floor": _figures([each for _, each in pairs]),
        "ratio": _ratios(pairs),
        "each_round": [_ratios([pair]) for pair in pairs],
        "rss_mb": resident_mb,
        "ready_s": ready_s,
        "idle_cpu_percent": idle_cpu_percent,
        "bytes": _bytes(bundle),
    }


def _figures(found: Sequence[Round]) -> dict[str, float]:
    """Return the medians over the rounds."""
    quantiles = {f"p{q}_ms": [float(np.percentile(each.times_ms, q)) for each in found] for q in (50, 95, 99)}
    quantiles["steps_per_s"] = [each.steps_per_s for each in found]
    return {name: statistics.median(values) for name, values in quantiles.items()}


def _ratios(pairs: Sequence[tuple[Round, Round]]) -> dict[str, float]:
    """Return the median over the rounds of the fleet's figure over the floor's in the same round."""
    each = [(_figures([fleet]), _figures([floor])) for fleet, floor in pairs]
    return {name: statistics.median(fleet[name] / floor[name] for fleet, floor in each) for name in each[0][0]}


def _sensed(bundle: Bundle) -> dict[str, Vector]:
    """Return what each sensor puts out for some rows of noise: times do not depend on what is in them."""
    generator = np.random.default_rng(0)
    found = {}
    for name, entry in bundle.manifest.sensors.items():
        raw = generator.normal(size=(ROWS, *entry.shape)).astype(np.float32)
        found[name] = load_session(bundle, name).run([raw])
    return found


def _start(agents: LocalFleet, bundle: Bundle, url: BrokerUrl) -> dict[str, float]:
    """Start every agent by itself; return the seconds until its birth is seen."""
    topics = Topics("latency")
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


def _bytes(bundle: Bundle) -> dict[str, int]:
    """Return the bytes of one step on each hyperconnection."""
    entry = bundle.manifest.entry
    return {
        f"{each.source}>{each.target}": HEADER_BYTES + entry(each.source).layout.bytes
        for each in bundle.manifest.hyperconnections
    }
