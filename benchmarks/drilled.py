"""How a drill stands: what happened, and what became of the steps under each mask; it grows with time, not with steps.

The file is one JSON object, written anew about once a second, and all that a drill needs to go on where it was.
"""

from typing import Final

import msgspec
import numpy as np

from benchmarks.culprits import Finding
from benchmarks.evidence import Evidence
from benchmarks.scenario import Plan
from benchmarks.times import count
from broker.errors import FailureFound
from broker.presence import State

_LONGEST: Final = 3600


class Tally(msgspec.Struct, kw_only=True):
    """What became of the steps under one node failure combination.

    Attributes:
        mask: Bits as in the specification's order, 1 = alive.
        sent: All steps.
        answered: Of these.
        lost: Without an answer, though the sink and its broker were there.
        late: Answered after the deadline.
        guesses: Answered without any information.
        changing: Of `sent`, those under way while the combination changed; their labels are not compared.
        held_up: Answers that somebody who lives is missing in, or was not waited for; not compared either.
        n: Labels compared.
        labels_equal: Of these, how many are the predicted ones.
        accuracy_measured: Of the n, a guess counting with its expectation.
        accuracy_predicted: Of the bundle's parts, on the same rows.
        answer_times: How many answers took 10^(k / 20) ms or up to an eighth more, for each k.
    """

    mask: str
    sent: int = 0
    answered: int = 0
    lost: int = 0
    late: int = 0
    guesses: int = 0
    changing: int = 0
    held_up: int = 0
    n: int = 0
    labels_equal: int = 0
    accuracy_measured: float = 0.0
    accuracy_predicted: float = 0.0
    answer_times: dict[int, int] = {}

    def compare(self, right: float, right_predicted: float, *, equal: bool) -> None:
        """Take in one label: the share of it that counts, and of the predicted one."""
        self.n += 1
        self.labels_equal += equal
        self.accuracy_measured += (right - self.accuracy_measured) / self.n
        self.accuracy_predicted += (right_predicted - self.accuracy_predicted) / self.n

    def time(self, latency_ms: float) -> None:
        """Take in how long an answer took."""
        count(self.answer_times, latency_ms)


class Course(msgspec.Struct, kw_only=True):
    """The course of time: entry k holds the steps sent in the seconds from k x bucket_s; `right` and `ms` are sums."""

    bucket_s: float = 1.0
    sent: list[int] = []
    answered: list[int] = []
    right: list[float] = []
    predicted: list[float] = []
    ms: list[float] = []

    def add(self, at_s: float, right: float, predicted: float, latency_ms: float | None) -> None:
        """Take in one step; `latency_ms` is None if it was not answered."""
        while at_s >= _LONGEST * self.bucket_s:
            self._coarsen()
        k = max(0, int(at_s / self.bucket_s))
        for column in (self.sent, self.answered, self.right, self.predicted, self.ms):
            column.extend([0] * (k + 1 - len(column)))
        self.sent[k] += 1
        self.right[k] += right
        self.predicted[k] += predicted
        if latency_ms is not None:
            self.answered[k] += 1
            self.ms[k] += latency_ms

    def last(self, seconds: float) -> tuple[int, int, float, float]:
        """Return sent, answered, right and predicted over the last `seconds`."""
        since = -max(1, round(seconds / self.bucket_s))
        return (
            sum(self.sent[since:]),
            sum(self.answered[since:]),
            float(sum(self.right[since:])),
            float(sum(self.predicted[since:])),
        )

    def _coarsen(self) -> None:
        self.bucket_s *= 2
        odd = [0] * (len(self.sent) % 2)
        for name in ("sent", "answered", "right", "predicted", "ms"):
            column = np.array(getattr(self, name) + odd)
            setattr(self, name, column.reshape(-1, 2).sum(axis=1).tolist())


class Stretch(msgspec.Struct, kw_only=True):
    """A stretch in which the sink saw exactly the nodes of `mask` alive; "" until it told, or with nobody to answer."""

    mask: str
    from_s: float
    to_s: float


class Deed(msgspec.Struct, kw_only=True):
    """Something done to a node, and how soon the sink saw it, if it did and was heard all the while."""

    at_s: float
    node: str
    what: str
    sensed_ms: float | None = None


class Change(msgspec.Struct, kw_only=True):
    """From then on the sink saw a node in another state."""

    at_s: float
    node: str
    state: State


class Remark(msgspec.Struct, kw_only=True):
    """What was asked of an operator, or seen instead."""

    at_s: float
    kind: str
    node: str
    text: str
    seconds: float | None = None


class Drilled(msgspec.Struct, kw_only=True):
    """How the drill stands; times are seconds of drill, those between its sittings not counted.

    Attributes:
        plan: What decides what happens.
        order: The bits of the masks, 1 = alive.
        planned_s: How long it is to take; 0: until the plan is over.
        elapsed_s: How long it took so far.
        finished: Whether it is over.
        sittings: How often it was begun or gone on with.
        deadline_ms: An answer that takes longer is late.
        lost_in_outages: Steps without an answer while there was nobody to answer.
        masks: What became of the steps.
        stretches: Under which mask when.
        deeds: What was done.
        changes: How the sink saw the nodes that can fail; all alive before the first.
        remarks: What the operator was asked and did.
        course: Over time.
        evidence: What was seen beside the feeding of who is to blame.
        findings: Who is.
    """

    plan: Plan
    order: tuple[str, ...]
    planned_s: float
    elapsed_s: float = 0.0
    finished: bool = False
    sittings: int = 0
    deadline_ms: float = 0.0
    lost_in_outages: int = 0
    masks: list[Tally] = []
    stretches: list[Stretch] = []
    deeds: list[Deed] = []
    changes: list[Change] = []
    remarks: list[Remark] = []
    course: Course = msgspec.field(default_factory=Course)
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    findings: list[Finding] = []

    def blame(self) -> list[str]:
        """Bring the findings up to date, and return what is new, and what does not hold any more."""
        before, self.findings = self.findings, self.evidence.findings()
        known = {(each.culprit, each.stage) for each in before}
        now = {(each.culprit, each.stage) for each in self.findings}
        new = [f"{each.what} (stage {each.stage})" for each in self.findings if (each.culprit, each.stage) not in known]
        return new + [f"{culprit} is not to blame after all (stage {stage})" for culprit, stage in sorted(known - now)]

    def tally(self, mask: str) -> Tally:
        """Return the tally of a mask, a new one if need be."""
        found = next((each for each in self.masks if each.mask == mask), None)
        if found is None:
            found = Tally(mask=mask)
            self.masks.append(found)
        return found

    def total(self, name: str) -> int:
        """Return the sum over the masks of a tally's count."""
        return sum(int(getattr(tally, name)) for tally in self.masks)


class NotAsPredicted(FailureFound):
    """In a drill a step was lost, answered otherwise than the bundle predicts, or none could be compared at all."""


def require_as_predicted(found: Drilled) -> None:
    """Raise NotAsPredicted if a label differs, a step has no answer, or a drill is over and nothing was compared."""
    bad = [each for each in found.masks if each.lost or each.labels_equal < each.n]
    if bad:
        details = "; ".join(
            f"{each.mask}: {each.n - each.labels_equal} of {each.n} labels differ, {each.lost} steps lost"
            for each in bad[:8]
        )
        raise NotAsPredicted(f"{len(bad)} of {len(found.masks)} masks are not as predicted: {details}")
    if found.finished and not found.total("n"):
        raise NotAsPredicted(
            f"no label could be compared: {found.total('answered')} of {found.total('sent')} steps were answered, "
            "none while all saw the same nodes alive"
        )
