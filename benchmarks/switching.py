"""A fleet on this machine goes over to another bundle and back, under load: what that costs, step by step.

    before ─► prepare: all load it beside ─► commit: all run it ─► both: the old one is still held ─► after

Each step is fed for one bundle, and must be answered by that bundle, with the label that it predicts for all alive.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.driver import Driver, FleetSilent
from benchmarks.fleet import Trial
from benchmarks.memory import rss_mb
from benchmarks.phases import latency
from benchmarks.recording import StepRecord
from benchmarks.switched import Stretch, Switch
from broker.errors import FogError
from edge_agent.bundle import Bundle
from export.data.rows import Integers
from export.evaluation import Composed, labels, logits_by_mask
from provisioning.local import LocalFleet

_LONGEST_S: Final = 90.0
_EVERLASTING: Final = 1 << 62


def predict(bundle: Bundle, raw: Mapping[str, object]) -> Integers:
    """Return the (rows,) labels that a bundle predicts while all are alive."""
    mask = "1" * len(bundle.manifest.order)
    rows = len(next(iter(raw.values())))  # type: ignore[arg-type]
    return labels(logits_by_mask(Composed(bundle), raw, [mask])[mask], rows)  # type: ignore[arg-type]


def switch_there_and_back(trial: Trial, other: Bundle, still_s: float, say: Callable[[str], None]) -> list[Switch]:
    """Let a local fleet under load go over to another bundle, and back; raises FleetSilent, FogError."""
    if trial.agents is None:
        raise FogError("only the agents of this machine can be told from here which bundle to hold")
    if other.manifest.wiring != trial.bundle.manifest.wiring:
        raise FogError(f"bundle {other.path} has other nodes or hyperconnections: agents must be started anew for it")
    raw = trial.held_out.raw
    trial.driver.feed.expect(other)
    predicted = {each.id.hex(): predict(each, raw) for each in (trial.bundle, other)}
    trial.driver.begin("switch", frozenset(trial.bundle.manifest.order))
    trial.driver.settle()
    found = []
    for old, new in ((trial.bundle, other), (other, trial.bundle)):
        say(f"from bundle {old.id.hex()} to {new.id.hex()}")
        found.append(_switch(trial.driver, trial.agents, old, new, predicted, still_s))
    return found


def _switch(
    driver: Driver, agents: LocalFleet, old: Bundle, new: Bundle, predicted: Mapping[str, Integers], still_s: float
) -> Switch:
    nodes = tuple(new.manifest.nodes)
    id_ = new.id.hex()
    marks: list[tuple[str, int]] = []
    memory: dict[str, dict[str, float]] = {}

    def stretch(name: str, act: Callable[[], None], until: Callable[[], bool]) -> None:
        marks.append((name, time.monotonic_ns()))
        act()
        ends_s = time.monotonic() + _LONGEST_S
        driver.measure(_EVERLASTING, lambda: until() or time.monotonic() > ends_s)
        if not until():
            raise FleetSilent(f"after {_LONGEST_S:.0f} s the fleet has not come through {name!r}: see the agents' logs")

    def still() -> Callable[[], bool]:
        ends_s = time.monotonic() + still_s
        return lambda: time.monotonic() >= ends_s

    def weigh(when: str) -> None:
        memory[when] = {node: round(rss_mb(pid), 1) for node, pid in agents.pids.items()}

    stretch("before", lambda: None, still())
    weigh("before")
    stretch("prepare", lambda: agents.prepare(new), driver.told.await_bundle(id_, nodes))
    weigh("both")
    stretch("commit", agents.commit, lambda: all(driver.told.held[node].bundle == id_ for node in nodes))
    stretch("both", lambda: None, lambda: not any(driver.told.held[node].beside for node in nodes))
    stretch("after", lambda: None, still())
    weigh("after")
    driver.drain()
    return Switch(
        old=old.id.hex(),
        new=id_,
        rss_mb=memory,
        stretches=_stretches(marks, driver.phases[-1].steady, nodes, predicted),
    )


def _stretches(
    marks: list[tuple[str, int]], records: list[StepRecord], nodes: tuple[str, ...], predicted: Mapping[str, Integers]
) -> list[Stretch]:
    ends = [began_ns for _, began_ns in marks[1:]] + [time.monotonic_ns()]
    return [
        _stretch(name, began_ns, ended_ns, [r for r in records if began_ns <= r.sent_ns < ended_ns], nodes, predicted)
        for (name, began_ns), ended_ns in zip(marks, ends, strict=True)
    ]


def _stretch(
    name: str,
    began_ns: int,
    ended_ns: int,
    sent: list[StepRecord],
    nodes: tuple[str, ...],
    predicted: Mapping[str, Integers],
) -> Stretch:
    answered = [record for record in sent if record.is_answered]
    whole = [record for record in answered if record.complete and record.contributors.issuperset(nodes)]
    return Stretch(
        name=name,
        seconds=round((ended_ns - began_ns) / 1e9, 3),
        sent=len(sent),
        answered=len(answered),
        lost=len(sent) - len(answered),
        mixed=sum(record.answered_by != record.bundle for record in answered),
        held_up=len(answered) - len(whole),
        labels_compared=len(whole),
        labels_equal=sum(bool(record.label == predicted[record.bundle][record.row]) for record in whole),
        latency_ms=latency(answered),
        longest_ms=max((record.latency_ms for record in answered), default=0.0),
    )
