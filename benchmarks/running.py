"""Time a fleet that runs, wherever it does: where each step's time goes, what load it bears, and who holds it up.

    Probe (feeder)      feeds steps, one by one or at a rate, and hears the answers
    Operator            asks between batches: clocks, traces, metrics, how the devices are
    witness             overhears vectors of some more steps, to be computed again here

Nothing is asked while steps are timed. What a device draws is read while it computes others, which are not.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from benchmarks import culprits
from benchmarks.clocks import SAME, Offset, Ping, during, offset_of
from benchmarks.culprits import Finding
from benchmarks.hosts import Look, summarised
from benchmarks.loads import offer
from benchmarks.overhearing import WATCHED, overhear
from benchmarks.probe import Fed, Probe, StepLost
from benchmarks.reached import Reached
from benchmarks.recomputed import judge, sessions_of
from benchmarks.rest import ask_speeds
from benchmarks.stages import Batch, bounds_ms, quantiles, stages_ms, waterfall, wires_ms
from benchmarks.timeline import topology
from benchmarks.whole import time_whole
from broker.frame import HEADER_BYTES
from edge_agent.bundle import Bundle, Manifest
from edge_agent.metrics import Metrics
from provisioning.asking import Operator

BATCH: Final = 100
"""Steps between two questions; a node remembers 256."""
_BATCH_S: Final = 5.0
_WARM_UP: Final = 100
_PINGS: Final = 8
_UNTIMED: Final = 20
_ROUNDS: Final = 9
Progress = Callable[[str], None]
Keep = Callable[[Callable[[], dict[str, Any]]], None]


class _Watch(NamedTuple):
    """What was measured of a running fleet."""

    batches: list[Batch]
    looks: dict[str, list[Look]]
    plugs_w: dict[str, list[float]]
    untimed: list[int]
    round_trips_ms: dict[str, list[float]]
    infer_ms: dict[str, list[float]]
    is_here: bool
    unanswered: int

    def medians_ms(self) -> dict[str, float]:
        """Return how long an inference takes each node."""
        return {node: statistics.median(each) for node, each in self.infer_ms.items() if each}


def examine(
    reached: Reached,
    steps: int,
    min_seconds: float,
    offered: Sequence[float] | None,
    progress: Progress,
    keep: Keep = lambda _body: None,
) -> dict[str, Any]:
    """Return everything about a running fleet's time.

    Args:
        reached: The fleet.
        steps: How many to feed one by one, at the least.
        min_seconds: How long to do so, at the least.
        offered: Rates to offer then, in steps a second; doubled until it bears no more if None.
        progress: Told what is being done.
        keep: Called now and then, never while steps are timed, with what returns all that is known by then.
    """
    manifest = reached.bundle.manifest
    nodes = list(manifest.nodes)
    progress("timing the whole network in one process on this machine")
    whole_ms = time_whole(reached.bundle, reached.sensed, max(steps, _WARM_UP))
    sessions = sessions_of(reached.bundle)
    here_ms = {node: session.mean_ms(time.thread_time) for node, session in sessions.items()}
    found: dict[str, Any] = {
        "fog": manifest.name,
        "topology": topology(manifest),
        "whole_ms": whole_ms,
        "bytes": bytes_of(reached.bundle),
        "judged": {},
        "findings": [],
        "loads": [],
    }

    def known(watch: _Watch) -> dict[str, Any]:
        return {**found, **_times(watch, manifest), "infer_ms": {"there": watch.medians_ms(), "here": here_ms}}

    with reached.operator() as operator:
        running = {node: each.reply.bundle for node, each in operator.ask(nodes, "ping").items()}
        found["findings"] += culprits.other_bundles(reached.bundle.id.hex(), running)
        before = _metrics(operator, nodes)
        progress(f"{steps} steps one by one, for at least {min_seconds:.0f} s")
        with reached.probe() as probe:
            kept = lambda watch: keep(lambda: known(watch))  # noqa: E731
            watch = _watch(reached, probe, operator, steps, min_seconds, kept)
        found["findings"] += culprits.corrupt_links(culprits.links_between(before, _metrics(operator, nodes)))
    if watch.batches and not watch.unanswered:
        progress(f"computing {WATCHED} steps again")
        found["judged"] = judge(manifest, sessions, overhear(reached))
    found["findings"] += culprits.wrong_nodes(found["judged"])
    found["findings"] += _slow(watch, manifest, {"there": watch.medians_ms(), "here": here_ms})
    if not found["findings"] and not watch.unanswered:
        progress("with and without the questions that this harness asks")
        found["harness_overhead"] = _overhead(reached, nodes, min(steps, 2 * BATCH))
    if not watch.unanswered:
        for load in offer(reached, offered, progress):
            found["loads"].append(load)
            keep(lambda: known(watch))
    return known(watch)


def require_answered(found: Mapping[str, Any]) -> None:
    """Raise StepLost if a step was not answered, which ends the measuring."""
    if found["unanswered"]:
        raise StepLost(f"a step was not answered: after {found['n']} that were nothing was timed any more")


def _slow(watch: _Watch, manifest: Manifest, infer_ms: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    """Return whose processor, or whose link, holds the others up."""
    trips_ms = {node: statistics.median(each) for node, each in watch.round_trips_ms.items() if each}
    return culprits.without_echoes(
        culprits.slow_nodes(infer_ms["there"], infer_ms["here"]),
        culprits.slow_replies(trips_ms),
        culprits.slow_wires(bounds_ms(watch.batches, manifest), list(manifest.nodes)),
    )


def _times(watch: _Watch, manifest: Manifest) -> dict[str, Any]:
    """Return where the time of the steps went that were fed one by one."""
    fed = [each for batch in watch.batches for each in batch.fed]
    steps = len(fed) + sum(watch.untimed[:-1])  # from the first look to the last
    took_ms, bars = waterfall(watch.batches, manifest)
    return {
        "answers_ms": quantiles([each.ms for each in fed]),
        "n": len(fed),
        "unanswered": watch.unanswered,
        "sensor_ms": quantiles([(each.sent_ns - each.due_ns) / 1e6 for each in fed]),
        "stages_ms": stages_ms(watch.batches, manifest),
        "wires_ms": wires_ms(watch.batches, manifest),
        "clocks": _clocks(watch, list(manifest.nodes)),
        "waterfall": {"ms": took_ms, "bars": bars},
        "devices": {
            node: summarised(looks, steps, watch.plugs_w[node]) for node, looks in watch.looks.items() if looks
        },
    }


def _metrics(operator: Operator, nodes: Sequence[str]) -> dict[str, Metrics]:
    replies = operator.ask(nodes, "metrics")
    return {node: each.reply.metrics for node, each in replies.items() if each.reply.metrics}


def _watch(
    reached: Reached,
    probe: Probe,
    operator: Operator,
    steps: int,
    min_seconds: float,
    keep: Callable[[_Watch], None],
) -> _Watch:
    """Feed steps one by one in batches, and ask in between for what the nodes remember of them."""
    nodes = list(reached.bundle.manifest.nodes)
    looks: dict[str, list[Look]] = {node: [] for node in nodes}
    trips_ms: dict[str, list[float]] = {node: [] for node in nodes}
    plugs_w: dict[str, list[float]] = {node: [] for node in nodes}
    watch = _Watch([], looks, plugs_w, [], trips_ms, ask_speeds(operator, nodes), reached.is_here, 0)
    try:
        probe.one_by_one(min(_WARM_UP, steps), _BATCH_S)
        began_s, count = time.monotonic(), 0
        clocks = _clocks_now(operator, nodes, watch)
        reached.read_plugs_w()  # what they said by now is of no step
        _look(probe, operator, watch)
        while count < steps or time.monotonic() - began_s < min_seconds:
            fed = probe.one_by_one(min(BATCH, steps), _BATCH_S)
            count += len(fed)
            earlier, clocks = clocks, _clocks_now(operator, nodes, watch)
            drifted = {node: during(earlier[node], clocks[node]) for node in nodes}
            watch.batches.append(Batch(fed, _traces(operator, nodes, fed), drifted))
            _look(probe, operator, watch)
            for node, said_w in reached.read_plugs_w().items():
                plugs_w[node] += said_w
            keep(watch)
    except StepLost:
        return watch._replace(unanswered=1)
    return watch


def _look(probe: Probe, operator: Operator, watch: _Watch) -> None:
    """Ask how the devices are, and keep them busy meanwhile."""

    def feed() -> None:
        watch.untimed.append(len(probe.one_by_one(_UNTIMED, _BATCH_S)))

    for node, each in operator.ask(watch.looks, "host", feed).items():
        if each.reply.host:
            watch.looks[node].append(Look(each.reply.now_ns, each.reply.host))


def _clocks_now(operator: Operator, nodes: Sequence[str], watch: _Watch) -> dict[str, Offset]:
    found = {}
    for node in nodes:
        answered = [operator.ask([node], "ping")[node] for _ in range(_PINGS)]
        pings = [Ping(each.asked_ns, each.reply.now_ns, each.came_ns) for each in answered]
        watch.round_trips_ms[node].extend(ping.round_trip_ms for ping in pings)
        found[node] = SAME if watch.is_here else offset_of(pings)
    return found


def _traces(operator: Operator, nodes: Sequence[str], fed: Sequence[Fed]) -> dict[str, Any]:
    steps = {each.step for each in fed}
    return {
        node: {trace.step: trace for trace in each.reply.trace or () if trace.step in steps}
        for node, each in operator.ask(nodes, "trace").items()
    }


def _clocks(watch: _Watch, nodes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return of each node whether its clock is ours, how far ahead it was at the end and the largest error."""
    last = watch.batches[-1].clocks if watch.batches else {}
    return {
        node: {
            "shared": watch.is_here,
            "offset_ms": last[node].ns / 1e6,
            "error_ms": max(batch.clocks[node].error_ns for batch in watch.batches) / 1e6,
            "round_trip_ms": statistics.median(watch.round_trips_ms[node]),
        }
        for node in nodes
        if node in last
    }


def _overhead(reached: Reached, nodes: Sequence[str], steps: int) -> float:
    """Return by which share the median answer is later with the harness than without, rounds in turns.

    With it, nodes are asked for everything before each round, and every vector is overheard by one that listens.
    """
    ratios = []
    for _ in range(_ROUNDS):
        with reached.probe() as probe:
            probe.one_by_one(steps // 8, _BATCH_S)
            alone = quantiles([fed.ms for fed in probe.one_by_one(steps, _BATCH_S)])["p50"]
        with (
            reached.operator() as operator,
            reached.witness(lambda _topic, _payload: None) as listening,
            reached.probe() as probe,
        ):
            listening.connect()
            probe.one_by_one(steps // 8, _BATCH_S)
            for command in ("ping", "trace", "metrics", "host"):
                operator.ask(nodes, command)
            watched = quantiles([fed.ms for fed in probe.one_by_one(steps, _BATCH_S)])["p50"]
        ratios.append(watched / alone)
    return statistics.median(ratios) - 1


def bytes_of(bundle: Bundle) -> dict[str, dict[str, int]]:
    """Return the bytes of one step on each hyperconnection, as its sender and its receiver pay them.

    A vector is published once, so its sender pays for the first hyperconnection only; the broker passes it on to all.
    """
    found: dict[str, dict[str, int]] = {}
    paid: set[str] = set()
    for each in sorted(bundle.manifest.hyperconnections, key=lambda each: each.kind == "skip"):
        size = HEADER_BYTES + bundle.manifest.entry(each.source).layout.bytes
        found[f"{each.source}>{each.target}"] = {"sent": 0 if each.source in paid else size, "received": size}
        paid.add(each.source)
    return found
