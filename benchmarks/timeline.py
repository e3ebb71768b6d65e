"""Steps over time as columns, and the fog's shape: what a report draws from."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from benchmarks.recording import Phase, StepRecord
from edge_agent.bundle import Hyperconnection, Manifest
from export.data.rows import Integers
from export.failures import GUESS


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a step, in the order sent; `right` is the share that counts, for a guess its expectation."""

    sent_s: list[float]
    phase: list[int]
    steady: list[bool]
    outcome: list[Literal["answer", "guess", "lost"]]
    right: list[float]
    latency_ms: list[float]


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """The fog: who feeds whom."""

    sensors: tuple[str, ...]
    nodes: tuple[str, ...]
    sink: str
    hyperconnections: tuple[Hyperconnection, ...]


def topology(manifest: Manifest) -> Topology:
    """Return the shape of a bundle's fog."""
    return Topology(
        sensors=tuple(manifest.sensors),
        nodes=tuple(manifest.nodes),
        sink=manifest.sink,
        hyperconnections=manifest.hyperconnections,
    )


def places(fog: Topology) -> dict[str, tuple[float, float]]:
    """Return where each sensor and node stands: one column per simple hop from the sensors."""
    column = dict.fromkeys(fog.sensors, 0)
    for node in fog.nodes:
        before = [e.source for e in fog.hyperconnections if e.target == node and e.kind == "simple"]
        column[node] = 1 + max(column[source] for source in before)
    spots = {}
    for number in sorted(set(column.values())):
        names = [name for name in (*fog.sensors, *fog.nodes) if column[name] == number]
        for row, name in enumerate(names):
            spots[name] = (float(number), (len(names) - 1) / 2 - row)
    return spots


def timeline(phases: Sequence[Phase], truth: Integers, prior: Sequence[float]) -> Timeline:
    """Return every step of `phases`; times are in seconds from the first."""
    steps = [
        (record, number, steady)
        for number, phase in enumerate(phases)
        for records, steady in ((phase.transition, False), (phase.steady, True))
        for record in records
    ]
    steps.sort(key=lambda step: step[0].sent_ns)
    began_ns = steps[0][0].sent_ns if steps else 0
    return Timeline(
        sent_s=[round((record.sent_ns - began_ns) / 1e9, 4) for record, _, _ in steps],
        phase=[number for _, number, _ in steps],
        steady=[steady for _, _, steady in steps],
        outcome=[_outcome(record) for record, _, _ in steps],
        right=[_right(record, truth, prior) for record, _, _ in steps],
        latency_ms=[round(record.latency_ms, 3) if record.is_answered else 0.0 for record, _, _ in steps],
    )


def _outcome(record: StepRecord) -> Literal["answer", "guess", "lost"]:
    if record.label is None:
        return "lost"
    return "guess" if record.label == GUESS else "answer"


def _right(record: StepRecord, truth: Integers, prior: Sequence[float]) -> float:
    if record.label is None:
        return 0.0
    if record.label == GUESS:
        return round(float(prior[truth[record.row]]), 4)
    return float(bool(record.label == truth[record.row]))
