"""Counts the steps of a drill once nothing can come of them any more, and forgets them."""

import time

from benchmarks.drilled import Drilled
from benchmarks.fleet import Trial
from benchmarks.recording import Phase, StepRecord
from benchmarks.told import SILENT_S
from export.failures import GUESS

_GRACE_S = SILENT_S + 1.0  # without an answer it may be that the sink is away, which shows only by then


class Ledger:
    """The steps of one sitting.

    Args:
        trial: Whose driver records them, phase by phase.
        found: Where they are counted.
        began_ns: When the drill began, or would have if it had had one sitting only.

    Attributes:
        recovering_ns: The beginnings of phases in which the fleet comes back from an outage: what is lost until it has
            settled was lost in the outage.
    """

    def __init__(self, trial: Trial, found: Drilled, began_ns: int) -> None:
        self._trial, self._found, self._began_ns = trial, found, began_ns
        self._driver, self._manifest = trial.driver, trial.bundle.manifest
        self._contributors: dict[frozenset[str], frozenset[str]] = {}
        self.recovering_ns: set[int] = set()

    def count(self, *, everything: bool = False, in_outage: bool = False) -> None:
        """Count the steps of which nothing can come any more, and forget them."""
        phases, now_ns = self._driver.phases, time.monotonic_ns()
        for phase in phases:
            is_recovery = phase.began_ns in self.recovering_ns
            for records, is_steady in ((phase.transition, False), (phase.steady, True)):
                over = len(records) if everything else self._over(records, now_ns)
                for record in records[:over]:
                    is_excused = in_outage or (is_recovery and not is_steady)
                    self._take(phase, record, is_steady=is_steady, is_excused=is_excused)
                del records[:over]
        phases[:] = [phase for phase in phases[:-1] if phase.transition or phase.steady] + phases[-1:]

    def _over(self, records: list[StepRecord], now_ns: int) -> int:
        """Return how many of the first records are over."""
        deadline_ns = self._driver.deadline_ms * 1e6
        for position, record in enumerate(records):
            patience_ns = deadline_ns if record.is_answered else deadline_ns + _GRACE_S * 1e9
            if now_ns - record.sent_ns <= patience_ns:
                return position
        return len(records)

    def _take(self, phase: Phase, record: StepRecord, *, is_steady: bool, is_excused: bool) -> None:
        tally = self._found.tally(self._manifest.mask_key(phase.alive))
        expected = self._trial.predicted[tally.mask][record.row]
        right, right_predicted = self._share(record.label, record.row), self._share(expected, record.row)
        latency_ms = record.latency_ms if record.is_answered else None
        self._found.course.add((record.sent_ns - self._began_ns) / 1e9, right, right_predicted, latency_ms)
        tally.sent += 1
        tally.changing += not is_steady
        if latency_ms is None:
            self._found.lost_in_outages += is_excused
            tally.lost += not is_excused
            return
        tally.answered += 1
        tally.late += latency_ms > self._driver.deadline_ms
        tally.guesses += record.label == GUESS
        tally.time(latency_ms)
        if is_steady and record.complete and record.contributors == self._expected(phase):
            tally.compare(right, right_predicted, equal=bool(record.label == expected))
        elif is_steady:
            tally.held_up += 1

    def _expected(self, phase: Phase) -> frozenset[str]:
        if phase.alive not in self._contributors:
            self._contributors[phase.alive] = self._driver.expected_contributors(phase.alive)
        return self._contributors[phase.alive]

    def _share(self, label: int | None, row: int) -> float:
        """Return the share of a label that counts as right: of a guess, its expectation."""
        truth = self._trial.held_out.truth[row]
        return float(self._manifest.prior[truth]) if label == GUESS else float(label == truth)
