"""How soon the others sense that a node failed, and what it costs: one node after the other, many times over."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from benchmarks.fleet import Trial
from benchmarks.hands import Hands
from benchmarks.recording import Phase
from benchmarks.scenario import Verb
from edge_agent.flow import ancestors
from export.average import DIGITS
from export.failures import accuracy

WAYS: Final[tuple[Verb, ...]] = ("kill", "freeze", "cut", "unplug")
_NO_LABEL: Final = -2
_SILENT: Final[tuple[Verb, ...]] = ("freeze", "cut", "unplug")
"""Failures that close no connection: all that depend on the node must suspect it, and none of these is false."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of times in ms."""

    n: int
    p50: float
    p95: float
    max: float


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """What one class of failure does.

    Attributes:
        n: How many failures there were.
        sensed_ms: From the failure until a node that it feeds, directly or through others, no longer waited for it:
            one time for each failure and such node.
        first_answer_ms: From the failure until the first answer to a step sent after it.
        back_ms: From the return until the sink saw the node, and a step was answered with it.
        gap_accuracy: Share of right labels among the steps under way at the failure, and sent before the fleet had
            settled; one that was never answered is wrong.
        answer_ms: The answers of all steps sent once the sink had sensed the failure.
        cut: Answers among these that waited for somebody until a deadline.
        lost: Steps that were never answered.
        late: Steps that were answered after the deadline.
        wrong: Labels that were not the predicted ones, once the fleet had settled.
        false_suspicions: How often a node was suspected that was neither killed nor frozen.
        each_sensed_ms: For each failure, until the last one had sensed it.
        each_first_answer_ms: For each failure, as in `first_answer_ms`.
    """

    n: int
    sensed_ms: Spread
    first_answer_ms: Spread
    back_ms: Spread
    gap_accuracy: float
    answer_ms: Spread
    cut: int
    lost: int
    late: int
    wrong: int
    false_suspicions: int
    each_sensed_ms: list[float] = []
    each_first_answer_ms: list[float] = []


def fail_over(
    trial: Trial, hands: Hands, by: Verb, times: int, steps: int, progress: Callable[[str], None]
) -> Failover:
    """Let nodes fail `times` times in turn while samples flow, and measure `steps` steps after each.

    Args:
        trial: A running fleet, all alive, on this machine: times are compared across its processes.
        hands: What lets nodes fail, and brings them back.
        by: How they fail.
        times: How often.
        steps: How many.
        progress: Takes one line a failure.
    """
    driver, order, inputs = trial.driver, trial.bundle.manifest.order, trial.bundle.manifest.inputs
    driver.watch = hands.check
    everyone, first_phase = frozenset(order), len(driver.phases)
    sensed: list[list[float]] = []
    back: list[float] = []
    expected = suspected = 0
    wrong: dict[str, Verb] = {}
    try:
        for turn in range(times):
            victim = order[turn % len(order)]
            heirs = [node for node in inputs if victim in ancestors(inputs, node)]
            before = _suspicions(trial)
            driver.begin(f"{victim} {by}", everyone - {victim})
            began_ns, wrong[victim] = driver.phases[-1].began_ns, by
            hands.do(by, victim)
            driver.settle([victim])
            driver.measure(steps)
            driver.finish()
            times_ms = [(driver.metrics[heir].view[victim].since_ns - began_ns) / 1e6 for heir in heirs]
            sensed.append(times_ms)
            expected += len(heirs) if by in _SILENT else 0
            suspected += _suspicions(trial) - before
            driver.begin(f"{victim} back", everyone)
            hands.undo(by, victim)
            del wrong[victim]
            driver.settle()
            back.append((time.monotonic_ns() - driver.phases[-1].began_ns) / 1e6)
            progress(
                f"{by} {turn + 1}: {victim} sensed after {', '.join(f'{each:.1f}' for each in times_ms)} ms, "
                f"back after {back[-1]:.0f} ms"
            )
    finally:
        for node, verb in wrong.items():
            hands.undo(verb, node)
    driver.drain()
    return _summary(trial, first_phase, sensed, back, suspected - expected)


def _summary(
    trial: Trial, first_phase: int, sensed: list[list[float]], back: list[float], false_suspicions: int
) -> Failover:
    phases = trial.driver.phases[first_phase:]
    reports = trial.reports()[first_phase:]
    down = phases[::2]
    first = [_first_answer_ms(phase) for phase in down]
    steady = [record for phase in down for record in phase.steady if record.is_answered]
    return Failover(
        n=len(down),
        sensed_ms=spread([time_ms for times_ms in sensed for time_ms in times_ms]),
        first_answer_ms=spread(first),
        back_ms=spread(back),
        gap_accuracy=_gap_accuracy(trial, down),
        answer_ms=spread([record.latency_ms for record in steady]),
        cut=sum(not record.complete for record in steady),
        lost=sum(report.lost + report.transition.lost for report in reports),
        late=sum(report.late + report.transition.late for report in reports),
        wrong=sum(report.labels_compared - report.labels_equal for report in reports),
        false_suspicions=false_suspicions,
        each_sensed_ms=[round(max(times_ms), 2) for times_ms in sensed],
        each_first_answer_ms=[round(each, 2) for each in first],
    )


def _gap_accuracy(trial: Trial, down: Sequence[Phase]) -> float:
    records = [record for phase in down for record in phase.transition]
    found = np.array([_NO_LABEL if record.label is None else record.label for record in records])
    truth = trial.held_out.truth[[record.row for record in records]]
    return round(accuracy(found, truth, trial.bundle.manifest.prior), DIGITS)


def _first_answer_ms(phase: Phase) -> float:
    answered = (r.answered_ns for r in phase.transition if r.is_answered and r.sent_ns > phase.began_ns)
    return (min(answered) - phase.began_ns) / 1e6


def spread(values: Sequence[float]) -> Spread:
    """Return how times are spread; there must be some."""
    p50, p95, most = np.percentile(values, [50, 95, 100]).tolist()
    return Spread(n=len(values), p50=p50, p95=p95, max=most)


def _suspicions(trial: Trial) -> int:
    return sum(told.counters.suspicions for told in trial.driver.metrics.values())
