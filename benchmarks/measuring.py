"""Eq. (3) measured: a running fleet is put into one node failure combination after the other, and fed the test rows.

Combinations follow each other in Gray-code order, so that one node fails or comes back at a time. The rows that count
are fed only when every living node sees the combination and a step has been answered under it: an earlier step may
still be answered by a node that is dead by now, or without one that is back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy import Accuracy, AverageAccuracy, MaskAccuracy, gray_order, half_width, is_as_predicted
from benchmarks.evidence import Evidence
from benchmarks.fleet import Trial
from benchmarks.hands import Hands
from benchmarks.phases import PhaseReport
from benchmarks.recording import Phase
from benchmarks.scenario import Harm, Verb
from benchmarks.witness import Witness
from export.average import DIGITS
from export.data.rows import Integers
from export.failures import GUESS, combinations_of_masks, probabilities

Progress = Callable[[int, int, str], None]
_NO_LABEL: Final = -2


class Measuring:
    """Puts a fleet, all alive, into one mask after the other, feeds it every row under each, and compares.

    Args:
        trial: The fleet.
        hands: What lets nodes fail, and brings them back.
        by: How they fail.
        known: Masks measured before, all of whose labels were the predicted ones: they need not be measured again.
        evidence: What was seen beside the feeding before; grows.
    """

    def __init__(
        self,
        trial: Trial,
        hands: Hands,
        by: Verb,
        known: Mapping[str, MaskAccuracy] | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        self._trial, self._hands, self._by = trial, hands, by
        self._evidence = evidence or Evidence()
        self._known = {mask: each for mask, each in (known or {}).items() if is_as_predicted(each, self._rows)}
        self._found: dict[str, MaskAccuracy] = {}
        self._right: dict[str, npt.NDArray[np.float64]] = {}
        self._fed_ns = self._fed = 0

    def run(
        self, some: Sequence[str], progress: Progress, told: Callable[[Accuracy], None], patience_s: float
    ) -> Accuracy:
        """Measure `some` masks; `told` is called with all so far after each. Raises FleetSilent if it does not settle.

        Args:
            some: Which.
            progress: Takes how many are done, of how many, and which is next.
            told: Takes the result so far.
            patience_s: How long the fleet may take to settle on a mask.
        """
        with Witness(self._trial, self._evidence) as witness:
            self._measure(some, progress, told, patience_s, witness)
        return self.found()

    def _measure(
        self,
        some: Sequence[str],
        progress: Progress,
        told: Callable[[Accuracy], None],
        patience_s: float,
        witness: Witness,
    ) -> None:
        driver, order = self._trial.driver, self._trial.bundle.manifest.order
        driver.watch = self._hands.check
        by, alive = Harm(self._by), frozenset(order)
        for mask in some:  # all of them before anything is told: whatever ends this sitting takes nothing away
            if mask in self._known:
                self._take_in(mask, self._known[mask], self._right_of(self._trial.predicted[mask]))
        told(self.found())
        for done, mask in enumerate(some):
            progress(done, len(some), mask)
            if mask in self._known:
                continue
            wanted = frozenset(node for node, bit in zip(order, mask, strict=True) if bit == "1")
            del driver.phases[:-1]
            driver.begin(mask, wanted)
            for node in alive - wanted:
                self._hands.do(by, node)
            for node in wanted - alive:
                self._hands.undo(by, node)
            alive = wanted
            driver.settle(timeout_s=patience_s, by_all=True)
            driver.measure(self._rows)
            driver.finish()
            witness.ask_suspects()
            phase = driver.phases[-1]
            self._fed += len(phase.steady)
            self._fed_ns += max(r.answered_ns or r.sent_ns for r in phase.steady) - phase.steady[0].sent_ns
            self._take_in(mask, _entry(mask, phase, self._trial.report(phase)), self._right_of(self._labels(phase)))
            told(self.found())
        for node in frozenset(order) - alive:
            self._hands.undo(by, node)
        driver.drain()
        progress(len(some), len(some), "")

    def found(self) -> Accuracy:
        """Return what was measured so far."""
        return Accuracy(
            order=self._trial.bundle.manifest.order,
            by=self._by,
            rows=self._rows,
            masks=[self._found[mask] for mask in gray_order(self._found)],
            average=self._averages(),
            steps_per_s=round(self._fed / (self._fed_ns / 1e9), 1) if self._fed_ns else 0.0,
            evidence=self._evidence,
            findings=self._evidence.findings(),
        )

    @property
    def _rows(self) -> int:
        return len(self._trial.held_out.truth)

    def _take_in(self, mask: str, entry: MaskAccuracy, right: npt.NDArray[np.float64]) -> None:
        self._found[mask], self._right[mask] = entry, right

    def _averages(self) -> dict[str, AverageAccuracy]:
        """Return Eq. (3) for each setting, with what each row contributes for the interval."""
        manifest = self._trial.bundle.manifest
        if not self._found:
            return {}
        alive = combinations_of_masks(list(self._found))
        measured = np.array(list(self._right.values()))  # (masks, rows)
        predicted = np.array([self._right_of(self._trial.predicted[mask]) for mask in self._found])
        averages = {}
        for name, setting in manifest.settings.items():
            weights = probabilities(alive, [setting[node] for node in manifest.order])
            covered = float(weights.sum())
            if covered == 0:
                continue
            each = weights @ measured / covered  # (rows,)
            averages[name] = AverageAccuracy(
                measured=round(float(each.mean()), DIGITS),
                predicted=round(float((weights @ predicted).mean() / covered), DIGITS),
                ci95=round(half_width(each), DIGITS),
                covered=round(covered, DIGITS),
            )
        return averages

    def _labels(self, phase: Phase) -> Integers:
        """Return the label of each row; no label at all where a step was not answered, which is wrong."""
        found = np.full(self._rows, _NO_LABEL)
        for record in phase.steady:
            found[record.row] = _NO_LABEL if record.label is None else record.label
        return found

    def _right_of(self, found: Integers) -> npt.NDArray[np.float64]:
        """Return for each row the share that counts: a guess with its expectation."""
        truth, prior = self._trial.held_out.truth, np.asarray(self._trial.bundle.manifest.prior)
        right: npt.NDArray[np.float64] = np.where(found == GUESS, prior[truth], found == truth)
        return right


def _entry(mask: str, phase: Phase, report: PhaseReport) -> MaskAccuracy:
    return MaskAccuracy(
        mask=mask,
        n=report.labels_compared,
        accuracy_measured=round(report.accuracy_measured or 0.0, DIGITS),
        accuracy_predicted=round(report.accuracy_predicted or 0.0, DIGITS),
        labels_equal=report.labels_equal,
        guesses=report.guesses,
        cut=sum(record.is_answered and not record.complete for record in phase.steady),
        lost=report.lost + report.transition.lost,
        late=report.late + report.transition.late,
        settled_ms=round((phase.steady[0].sent_ns - phase.began_ns) / 1e6, 1),
    )
