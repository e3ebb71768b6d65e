"""From a recording to figures: each phase measured against its prediction. Pure functions on plain data."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from benchmarks.recording import Phase, StepRecord
from edge_agent.bundle import Manifest
from export.data.rows import Integers
from export.failures import GUESS, accuracy


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the steps under way while the combination changed."""

    sent: int
    answered: int
    lost: int
    late: int
    seconds: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Answer times in ms, from the sensor's publish to the answer at the same process."""

    p50: float
    p95: float
    p99: float


class PhaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table; accuracies are on the same rows, a guess counting as its expectation; None without any."""

    name: str
    mask: dict[str, bool]
    sent: int
    answered: int
    lost: int
    late: int
    guesses: int
    accuracy_measured: float | None
    accuracy_predicted: float | None
    labels_compared: int
    labels_equal: int
    latency_ms: Latency
    sensed_ms: dict[str, float]
    transition: Transition

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and every label is the predicted one, where there is any: it may never settle."""
        return self.lost == self.transition.lost == 0 and self.sent == self.labels_compared == self.labels_equal


def summarise(
    phase: Phase,
    manifest: Manifest,
    predicted: Mapping[str, Integers],
    truth: Integers,
    deadline_ms: float,
) -> PhaseReport:
    """Return a phase's figures.

    Args:
        phase: Its records.
        manifest: Of the bundle that answered.
        predicted: For each mask, (rows,) labels from the bundle's parts, GUESS where no information flows.
        truth: (rows,) classes.
        deadline_ms: An answer that takes longer is late.
    """
    mask = manifest.mask_key(phase.alive)
    answered = [record for record in phase.steady if record.is_answered]
    rows = np.array([record.row for record in answered], dtype=np.int64)
    found = np.array([record.label for record in answered], dtype=np.int64)
    expected = predicted[mask][rows]
    began = min((r.sent_ns for r in phase.transition), default=phase.began_ns)
    ended = max((r.answered_ns for r in phase.transition), default=began)
    return PhaseReport(
        name=phase.name,
        mask={node: node in phase.alive for node in manifest.order},
        sent=len(phase.steady),
        answered=len(answered),
        lost=len(phase.steady) - len(answered),
        late=_late(answered, deadline_ms),
        guesses=int((found == GUESS).sum()),
        accuracy_measured=accuracy(found, truth[rows], manifest.prior) if len(rows) else None,
        accuracy_predicted=accuracy(expected, truth[rows], manifest.prior) if len(rows) else None,
        labels_compared=len(rows),
        labels_equal=int((found == expected).sum()),
        latency_ms=latency(answered),
        sensed_ms=phase.sensed_ms,
        transition=Transition(
            sent=len(phase.transition),
            answered=sum(record.is_answered for record in phase.transition),
            lost=sum(not record.is_answered for record in phase.transition),
            late=_late([record for record in phase.transition if record.is_answered], deadline_ms),
            seconds=max(0.0, (ended - began) / 1e9),
        ),
    )


def latency(answered: Sequence[StepRecord]) -> Latency:
    """Return the quantiles of the answer times; zeros if there are none."""
    times = [record.latency_ms for record in answered] or [0.0]
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Latency(p50=p50, p95=p95, p99=p99)


def _late(answered: Sequence[StepRecord], deadline_ms: float) -> int:
    return sum(record.latency_ms > deadline_ms for record in answered)
