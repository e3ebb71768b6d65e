"""Where the time of each step went: what the agents remember of it, put together on one clock. Pure.

    feeder    sensor │ wire ► node  wait · infer · publish │ wire ► … │ wire ► feeder

A duration within a node is of the node's own clock, and exact; what lies between two clocks has its error beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
import numpy as np

from benchmarks.clocks import SAME, Offset, Wire, between
from benchmarks.probe import Fed
from edge_agent.bundle import Manifest
from edge_agent.trace import StepTrace

FEEDER: Final = "feeder"
STAGES: Final = ("wait", "infer", "publish")
_SHARES: Final = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9}


class Batch(NamedTuple):
    """Steps that were fed one by one, what the nodes remember of them, and their clocks meanwhile."""

    fed: Sequence[Fed]
    traces: Mapping[str, Mapping[int, StepTrace]]
    clocks: Mapping[str, Offset]


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A node's part in one step, in ms since the step began, on the feeder's clock, give or take `error_ms`.

    The wire ends when the node opened the step, which `source` caused.
    """

    node: str
    source: str
    wire_from_ms: float
    opened_ms: float
    closed_ms: float
    inferred_ms: float
    published_ms: float
    error_ms: float


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50 to p99.9; nothing of nothing."""
    if not values:
        return {}
    found = np.percentile(np.asarray(values), list(_SHARES.values())).tolist()
    return dict(zip(_SHARES, found, strict=True))


def durations_ms(batches: Iterable[Batch], node: str, stage: str) -> list[float]:
    """Return how long a stage of a node took in each step that it remembers."""
    return [
        _durations_ms(batch.traces[node][fed.step])[stage]
        for batch in batches
        for fed in batch.fed
        if fed.step in batch.traces.get(node, {})
    ]


def _durations_ms(trace: StepTrace) -> dict[str, float]:
    moments = (0, trace.closed, trace.inferred, trace.published)
    return {stage: (end - begin) / 1e6 for stage, (begin, end) in zip(STAGES, pairwise(moments), strict=True)}


def stages_ms(batches: Sequence[Batch], manifest: Manifest) -> dict[str, dict[str, dict[str, float]]]:
    """Return quantiles of each stage of each node."""
    return {node: {stage: quantiles(durations_ms(batches, node, stage)) for stage in STAGES} for node in manifest.nodes}


def wires(batches: Sequence[Batch], manifest: Manifest) -> dict[str, list[Wire]]:
    """Return how long each vector was on its way, by `source>node`, and the answers by `sink>feeder`."""
    found: dict[str, list[Wire]] = {
        f"{source}>{node}": [] for node, sources in manifest.inputs.items() for source in sources
    }
    found[f"{manifest.sink}>{FEEDER}"] = []
    for batch in batches:
        for fed in batch.fed:
            for node, sources in manifest.inputs.items():
                trace = batch.traces.get(node, {}).get(fed.step)
                for source in sources if trace else ():
                    wire = _wire(batch, fed, manifest, source, node)
                    if wire is not None:
                        found[f"{source}>{node}"].append(wire)
            told = batch.traces.get(manifest.sink, {}).get(fed.step)
            if told is not None:
                sent_ns = told.opened_ns + told.published
                wire = between(sent_ns, batch.clocks[manifest.sink], fed.answered_ns, SAME)
                found[f"{manifest.sink}>{FEEDER}"].append(wire)
    return found


def _wire(batch: Batch, fed: Fed, manifest: Manifest, source: str, node: str) -> Wire | None:
    trace = batch.traces[node][fed.step]
    sent = _sent_ns(batch, fed, manifest, source)
    if sent is None or source not in trace.arrived:
        return None
    return between(*sent, trace.opened_ns + trace.arrived[source], batch.clocks[node])


def _sent_ns(batch: Batch, fed: Fed, manifest: Manifest, source: str) -> tuple[int, Offset] | None:
    """Return when a source had published its vector, and on which clock."""
    if source in manifest.sensors:
        return fed.sent_ns, SAME
    trace = batch.traces.get(source, {}).get(fed.step)
    return None if trace is None else (trace.opened_ns + trace.published, batch.clocks[source])


def wires_ms(batches: Sequence[Batch], manifest: Manifest) -> dict[str, dict[str, float]]:
    """Return quantiles of each wire, and the largest error that any of its times has."""
    return {
        name: {**quantiles([each.ms for each in some]), "error": max(each.error_ms for each in some)}
        for name, some in wires(batches, manifest).items()
        if some
    }


def bounds_ms(batches: Sequence[Batch], manifest: Manifest) -> dict[str, tuple[float, float]]:
    """Return between what the median time of each wire lies, whatever the clocks are."""
    return {
        name: (float(np.median([w.ms - w.error_ms for w in some])), float(np.median([w.ms + w.error_ms for w in some])))
        for name, some in wires(batches, manifest).items()
        if some
    }


def waterfall(batches: Sequence[Batch], manifest: Manifest) -> tuple[float, list[Bar]]:
    """Return how long the median step took, and each node's part in it, in the order of the topology.

    Of steps that every node remembers; empty if there is none.
    """
    whole = [
        (fed, batch)
        for batch in batches
        for fed in batch.fed
        if all(fed.step in batch.traces.get(node, {}) for node in manifest.nodes)
    ]
    if not whole:
        return 0.0, []
    fed, batch = sorted(whole, key=lambda each: each[0].ms)[len(whole) // 2]
    return fed.ms, [_bar(batch, fed, manifest, node) for node in manifest.nodes]


def _bar(batch: Batch, fed: Fed, manifest: Manifest, node: str) -> Bar:
    trace, clock = batch.traces[node][fed.step], batch.clocks[node]
    first = next((source for source, after in trace.arrived.items() if not after), FEEDER)  # the sink: its announcement
    sent_ns, sender = (None if first == FEEDER else _sent_ns(batch, fed, manifest, first)) or (fed.sent_ns, SAME)
    wire = between(sent_ns, sender, trace.opened_ns, clock)
    opened_ms = max(0.0, (trace.opened_ns - clock.ns - fed.due_ns) / 1e6)
    return Bar(
        node=node,
        source=first,
        wire_from_ms=max(0.0, opened_ms - wire.ms),
        opened_ms=opened_ms,
        closed_ms=opened_ms + trace.closed / 1e6,
        inferred_ms=opened_ms + trace.inferred / 1e6,
        published_ms=opened_ms + trace.published / 1e6,
        error_ms=wire.error_ms,
    )
