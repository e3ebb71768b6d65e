"""The steps that were sent and have no answer yet, and which of a phase's steps a change may have touched. Pure."""

from benchmarks.feed import Feed
from benchmarks.recording import Phase, StepRecord
from edge_agent.answer import Answer, guess
from export.failures import GUESS


class UnderWay:
    """The steps without an answer, by their numbers, the oldest first.

    Args:
        feed: What they carry, and for which bundle.
        patience_ns: How long an answer can be expected.
    """

    def __init__(self, feed: Feed, patience_ns: float) -> None:
        self._feed, self._patience_ns = feed, patience_ns
        self._steps: dict[int, StepRecord] = {}
        self._known_sets: dict[frozenset[str], frozenset[str]] = {}  # one object for each, not one a step

    def __len__(self) -> int:
        return len(self._steps)

    def send(self, step: int, now_ns: int) -> StepRecord:
        """Return the record of a step that is sent now."""
        self._steps[step] = record = StepRecord(self._feed.row(step), now_ns, bundle=self._feed.bundle)
        return record

    def answer(self, answer: Answer, now_ns: int) -> None:
        """Take in an answer."""
        record = self._steps.pop(answer.step, None)
        if record is not None:
            contributors = frozenset(answer.contributors)
            record.answered_ns, record.complete = now_ns, answer.complete
            record.answered_by = answer.bundle
            is_drawn = answer.guess and answer.label == guess(answer.step, self._feed.manifest(record.bundle).prior)
            record.label = GUESS if is_drawn else answer.label
            record.contributors = self._known_sets.setdefault(contributors, contributors)

    def forget_lost(self, now_ns: int) -> None:
        """Stop counting a step as under way once no answer can be expected: it must not block the window."""
        oldest = next(iter(self._steps.items()), None)
        if oldest is not None and now_ns - oldest[1].sent_ns > self._patience_ns:
            del self._steps[oldest[0]]

    def forget_all(self) -> None:
        """Expect no answer any more: what carried them is gone."""
        self._steps.clear()


def first_touched(phase: Phase, expected: frozenset[str], now_ns: int, deadline_ms: float, *, noticed: bool) -> int:
    """Return the position of the first steady step that a change which comes now may have touched.

    Args:
        phase: Whose.
        expected: Who contributes to an answer if the change does not touch it.
        now_ns: When it comes.
        deadline_ms: Steps sent longer ago are not touched.
        noticed: Whether it came a little before, so that answered steps may be touched too.
    """
    for position, record in enumerate(phase.steady):
        is_recent = now_ns - record.sent_ns < deadline_ms * 1e6
        is_touched = noticed and not (record.complete and record.contributors == expected)
        if is_recent and (is_touched or not record.is_answered):
            return position
    return len(phase.steady)
