"""Who is to blame when a fleet is not as it should be: which node or link, in which stage. Data in, findings out.

    a vector's checksum was wrong at one receiver        that link        wire
                             … at all who hear a sender  the sender's     wire
    all wires of a node take long, or its replies do     its link         wire
    another bundle than the fleet's                      the node         bundle
    a vector is not what its graph makes of what came    the node         infer
    inference takes long, measured beside this machine   the node         infer

A node that is slow answers late too, so its link is blamed only if its processor is not. A clean run names nobody.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from broker.errors import FailureFound
from edge_agent.metrics import Metrics, Source

_TIMES: Final = 4.0
"""How many times slower than the others one must be: ten processes on two busy cores seem up to 2.5 times so."""
_INFER_MS, _WIRE_MS = 0.05, 2.0
"""And by how much at the least: what a busy machine does to anybody."""


class CulpritFound(FailureFound):
    """The fleet is not as it should be, and somebody is to blame."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One culprit: a node, or the link between two (`source>node`), the stage, and a sentence."""

    culprit: str
    stage: Literal["wire", "infer", "bundle"]
    what: str


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """How many frames came over a link, and how many of these had a wrong checksum."""

    frames: int = 0
    corrupt: int = 0

    def plus(self, more: "Arrived") -> "Arrived":
        """Return what came in all."""
        return Arrived(frames=self.frames + more.frames, corrupt=self.corrupt + more.corrupt)


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """How many vectors of a node were computed again, how many were others, and by how much of their size at most."""

    n: int = 0
    wrong: int = 0
    worst: float = 0.0

    def plus(self, more: "Judged") -> "Judged":
        """Return what holds for all."""
        return Judged(n=self.n + more.n, wrong=self.wrong + more.wrong, worst=max(self.worst, more.worst))


def links_between(before: Mapping[str, Metrics], after: Mapping[str, Metrics]) -> dict[str, Arrived]:
    """Return what came over each link, by `source>node`, between two readings of nodes' metrics.

    A node that is not in the first reading, or was started anew since, had counted nothing.
    """
    found = {}
    for node, told in after.items():
        for source, tally in told.sources.items():
            earlier = before[node].sources.get(source) if node in before else None
            now, was = _arrived(tally), _arrived(earlier or Source())
            if was.frames > now.frames or was.corrupt > now.corrupt:
                was = Arrived()
            found[f"{source}>{node}"] = Arrived(frames=now.frames - was.frames, corrupt=now.corrupt - was.corrupt)
    return found


def _arrived(tally: Source) -> Arrived:
    corrupt = tally.rejected.get("checksum", 0)
    return Arrived(frames=tally.frames + corrupt, corrupt=corrupt)


def corrupt_links(links: Mapping[str, Arrived]) -> list[Finding]:
    """Return the links on which bits changed, by what came over each."""
    receivers: dict[str, dict[str, Arrived]] = {}  # by source
    for link, came in links.items():
        source, node = link.split(">")
        receivers.setdefault(source, {})[node] = came
    found = []
    for source, each in receivers.items():
        bad = {node: f"{came.corrupt} of {came.frames}" for node, came in each.items() if came.corrupt > 0}
        if len(bad) > 1 and len(bad) == len(each):
            told = ", ".join(f"{counts} at {node}" for node, counts in bad.items())
            what = f"what {source} sends is corrupt wherever it arrives: {told} frames had a wrong checksum"
            found.append(Finding(culprit=source, stage="wire", what=what))
            continue
        for node, counts in bad.items():
            what = f"the link {source} → {node} corrupts: {counts} frames had a wrong checksum"
            found.append(Finding(culprit=f"{source}>{node}", stage="wire", what=what))
    return found


def other_bundles(bundle: str, running: Mapping[str, str]) -> list[Finding]:
    """Return the nodes that run another bundle than the one that is measured."""
    return [
        Finding(culprit=node, stage="bundle", what=f"{node} runs bundle {other or 'unknown'}, the others {bundle}")
        for node, other in running.items()
        if other != bundle
    ]


def wrong_nodes(judged: Mapping[str, Judged]) -> list[Finding]:
    """Return the nodes whose vectors are not what their graphs make of what came."""
    return [
        Finding(
            culprit=node,
            stage="infer",
            what=f"{node} computes wrong: {each.wrong} of {each.n} vectors are not what its graph makes of what it "
            f"got, by up to {100 * each.worst:.3g} % of the largest value",
        )
        for node, each in judged.items()
        if each.wrong
    ]


def slow_nodes(
    there_ms: Mapping[str, float],
    here_ms: Mapping[str, float],
    times: float = _TIMES,
    least_ms: float = _INFER_MS,
) -> list[Finding]:
    """Return the nodes that take much longer to infer than the others, measured by the same graphs on this machine.

    Args:
        there_ms: How long each takes.
        here_ms: How long the same graph takes here.
        times: How many times slower than the others one must be.
        least_ms: And by how much.
    """
    ratios = {node: ms / here_ms[node] for node, ms in there_ms.items()}
    found = []
    for node, ratio in ratios.items():
        usual = _of_others(ratios, node)
        ms, usual_ms = there_ms[node], usual * here_ms[node]
        if usual and ratio >= times * usual and ms - usual_ms >= least_ms:
            what = f"{node} infers slowly: {ms:.2f} ms a step, {ratio / usual:.1f} times what one like the others would"
            found.append(Finding(culprit=node, stage="infer", what=what))
    return found


def slow_wires(bounds_ms: Mapping[str, tuple[float, float]], nodes: Sequence[str]) -> list[Finding]:
    """Return the nodes all of whose wires take much longer than the others, and other wires that do.

    Args:
        bounds_ms: Between what the median time of each wire lies, by `source>node`: no slower than the clocks prove.
        nodes: Of the fleet.
    """
    quicker = sorted(high for _, high in bounds_ms.values())
    quick_ms = quicker[len(quicker) // 4] if quicker else 0.0  # one slow cable may be that of half the wires
    slow = {name: low for name, (low, _) in bounds_ms.items() if _is_late(low, quick_ms)}
    found = []
    for node in nodes:
        touching = [name for name in bounds_ms if node in name.split(">")]
        if touching and all(name in slow for name in touching):
            took_ms = min(slow[name] for name in touching)
            what = f"the link between {node} and the broker is slow: {took_ms:.1f} ms or more, others {quick_ms:.1f} ms"
            found.append(Finding(culprit=node, stage="wire", what=what))
    named = {each.culprit for each in found}
    for name, low in slow.items():
        if named.isdisjoint(name.split(">")):
            what = f"{name.replace('>', ' → ')} takes {low:.1f} ms or more, others {quick_ms:.1f} ms"
            found.append(Finding(culprit=name, stage="wire", what=what))
    return found


def slow_replies(round_trips_ms: Mapping[str, float]) -> list[Finding]:
    """Return the nodes whose replies take much longer than the others': there and back, so on one clock.

    A long way makes a clock unsure, and so all wires to and from it: this tells where they do not.
    """
    found = []
    for node, ms in round_trips_ms.items():
        usual_ms = _of_others(round_trips_ms, node)
        if usual_ms and _is_late(ms, usual_ms):
            what = f"the link between {node} and the broker is slow: replies take {ms:.1f} ms, others {usual_ms:.1f} ms"
            found.append(Finding(culprit=node, stage="wire", what=what))
    return found


def without_echoes(*findings: Sequence[Finding]) -> list[Finding]:
    """Return all, but of each kind only those at neither end of which somebody is named by a kind before it."""
    found: list[Finding] = []
    for some in findings:
        named = {each.culprit for each in found}
        found += [each for each in some if named.isdisjoint(each.culprit.split(">"))]
    return found


COLUMNS: Final = ("culprit", "stage", "what")


def rows_of(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """Return the rows of a table of findings."""
    return [(each.culprit, each.stage, each.what) for each in findings]


def require_none(findings: Sequence[Finding]) -> None:
    """Raise CulpritFound if anybody is to blame."""
    if findings:
        raise CulpritFound("; ".join(f"{each.what} (stage {each.stage})" for each in findings))


def _is_late(ms: float, usual_ms: float) -> bool:
    return ms >= max(_TIMES * usual_ms, usual_ms + _WIRE_MS)


def _of_others(values: Mapping[str, float], node: str) -> float:
    others = [value for other, value in values.items() if other != node]
    return statistics.median(others) if others else 0.0
