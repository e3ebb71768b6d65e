"""Eq. (3) measured: a running fleet is put into one node failure combination after the other, and fed the test rows.

Combinations follow each other in Gray-code order, so that one node fails or comes back at a time. The rows that count
are fed only when every living node sees the combination and a step has been answered under it: an earlier step may
still be answered by a node that is dead by now, or without one that is back.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.fleet import Trial
from benchmarks.phases import PhaseReport
from benchmarks.recording import Phase
from broker.errors import FailureFound, FogError
from export.average import DIGITS
from export.data.rows import Integers
from export.failures import GUESS, combinations_of_masks, masks, probabilities

By = Literal["kill", "stop", "freeze"]
Progress = Callable[[int, int, str], None]


class Switch(NamedTuple):
    """How nodes of a fleet are put out and brought back."""

    off: Callable[[Iterable[str]], None]
    on: Callable[[Iterable[str]], None]


class MaskAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """One combination, bits as in the specification's order, 1 = alive.

    Attributes:
        mask: Which.
        n: How many rows were answered.
        accuracy_measured: A guess counts with its expectation.
        accuracy_predicted: Of the bundle's parts in one process, on the same rows.
        labels_equal: How many of `n` are the predicted ones.
        guesses: Answers without any information.
        cut: Answers that somebody was not waited for, though it lives: a machine that is too busy.
        lost: Steps without an answer, those under way while the node failed or came back among them.
        late: Answers after the fleet's deadline, of all steps.
        settled_ms: From the failure or return until the rows were fed.
    """

    mask: str
    n: int
    accuracy_measured: float
    accuracy_predicted: float
    labels_equal: int
    guesses: int
    cut: int
    lost: int
    late: int
    settled_ms: float


class AverageAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Eq. (3) over the combinations that were measured.

    Attributes:
        measured: By the fleet.
        predicted: By the bundle's parts, over the same combinations and rows.
        ci95: Half the width of the 95 % interval that comes from having measured these rows and no others.
        covered: The probability of the combinations measured; 1: all were.
    """

    measured: float
    predicted: float
    ci95: float
    covered: float


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `fogguard bench accuracy`."""

    order: tuple[str, ...]
    by: By
    rows: int
    masks: list[MaskAccuracy]
    average: dict[str, AverageAccuracy]
    steps_per_s: float


class NotAsPredicted(FailureFound):
    """The running fleet answers otherwise than the bundle predicts, or not at all."""


def switch_of(trial: Trial, by: By) -> Switch:
    """Return how the trial's agents are put out and brought back; raises FogError if they run elsewhere."""
    agents = trial.agents
    if agents is None:
        raise FogError("only the agents of this machine can be put out and brought back from here")
    return {
        "kill": Switch(agents.kill, agents.start),
        "stop": Switch(agents.stop, agents.start),
        "freeze": Switch(agents.freeze, agents.thaw),
    }[by]


def gray_order(some: Iterable[str]) -> list[str]:
    """Return masks in the order of the reflected Gray code of their dead nodes, all alive first."""
    return sorted(some, key=_gray_rank)


def _gray_rank(mask: str) -> int:
    code, rank = int(f"0{mask}", 2) ^ (1 << len(mask)) - 1, 0  # the bits of the dead
    while code:
        rank ^= code
        code >>= 1
    return rank


def chosen_masks(
    order: Sequence[str], settings: Sequence[Sequence[float]], count: int | None, seed: int, named: Sequence[str] = ()
) -> list[str]:
    """Return the masks to measure, in Gray-code order; raises FogError.

    Args:
        order: The nodes that can fail.
        settings: For each reliability setting, r_i in this order; masks are drawn from all of them in turn.
        count: How many, or None for all.
        seed: Of the draw.
        named: Exactly these instead.
    """
    for mask in named:
        if len(mask) != len(order) or set(mask) - set("01"):
            raise FogError(f"--mask {mask!r}: write a 1 (alive) or 0 for each of {', '.join(order)}")
    if named:
        return gray_order(dict.fromkeys(named))
    every = masks(len(order))
    if count is None or count >= len(every):
        return gray_order(every)
    alive = combinations_of_masks(every)
    mixture = np.mean([probabilities(alive, each) for each in settings] or [np.ones(len(every))], axis=0)
    # One setting may leave less than `count` combinations possible; the rest comes from all alike.
    weights = mixture / mixture.sum() + 1e-9
    drawn = np.random.default_rng(seed).choice(len(every), count, replace=False, p=weights / weights.sum())
    return gray_order(every[number] for number in drawn)


def measure(trial: Trial, switch: Switch, by: By, some: Sequence[str], progress: Progress) -> Accuracy:
    """Put the fleet, all alive, into each of the masks `some`, feed it every row under each, and compare.

    Raises FleetSilent if it does not settle on one.
    """
    driver, order = trial.driver, trial.bundle.manifest.order
    rows = len(trial.held_out.truth)
    alive = frozenset(order)
    for done, mask in enumerate(some):
        wanted = frozenset(node for node, bit in zip(order, mask, strict=True) if bit == "1")
        progress(done, len(some), mask)
        driver.begin(mask, wanted)
        switch.off(alive - wanted)
        switch.on(wanted - alive)
        alive = wanted
        driver.settle(by_all=True)
        driver.measure(rows)
        driver.finish()
    driver.drain()
    progress(len(some), len(some), "")
    reports = trial.reports()
    fed_ns = sum(max(r.answered_ns or r.sent_ns for r in p.steady) - p.steady[0].sent_ns for p in driver.phases)
    return Accuracy(
        order=order,
        by=by,
        rows=rows,
        masks=[_entry(*each) for each in zip(some, driver.phases, reports, strict=True)],
        average=_averages(trial, some),
        steps_per_s=round(rows * len(some) / (fed_ns / 1e9), 1),
    )


def require_as_predicted(found: Accuracy) -> None:
    """Raise NotAsPredicted if a label differs or a step has no answer."""
    bad = [each for each in found.masks if each.lost or not found.rows == each.n == each.labels_equal]
    if bad:
        details = "; ".join(
            f"{each.mask}: {each.n - each.labels_equal} of {each.n} labels differ, {each.lost} steps lost"
            for each in bad[:8]
        )
        raise NotAsPredicted(f"{len(bad)} of {len(found.masks)} masks are not as predicted: {details}")


def _entry(mask: str, phase: Phase, report: PhaseReport) -> MaskAccuracy:
    return MaskAccuracy(
        mask=mask,
        n=report.labels_compared,
        accuracy_measured=round(report.accuracy_measured, DIGITS),
        accuracy_predicted=round(report.accuracy_predicted, DIGITS),
        labels_equal=report.labels_equal,
        guesses=report.guesses,
        cut=sum(record.is_answered and not record.complete for record in phase.steady),
        lost=report.lost + report.transition.lost,
        late=report.late + report.transition.late,
        settled_ms=round((phase.steady[0].sent_ns - phase.began_ns) / 1e6, 1),
    )


def _averages(trial: Trial, some: Sequence[str]) -> dict[str, AverageAccuracy]:
    """Return Eq. (3) for each setting, with what each row contributes for the interval."""
    manifest, truth = trial.bundle.manifest, trial.held_out.truth
    measured, predicted = [], []
    for mask, phase in zip(some, trial.driver.phases, strict=True):
        found = np.full(len(truth), -2)  # no label at all: an unanswered step is wrong
        for record in phase.steady:
            found[record.row] = -2 if record.label is None else record.label
        measured.append(_right(found, truth, manifest.prior))
        predicted.append(_right(trial.predicted[mask], truth, manifest.prior))
    alive = combinations_of_masks(some)
    averages = {}
    for name, setting in manifest.settings.items():
        weights = probabilities(alive, [setting[node] for node in manifest.order])
        covered = float(weights.sum())
        if covered == 0:
            continue
        each = weights @ np.array(measured) / covered  # (rows,)
        averages[name] = AverageAccuracy(
            measured=round(float(each.mean()), DIGITS),
            predicted=round(float((weights @ np.array(predicted)).mean() / covered), DIGITS),
            ci95=round(1.96 * float(each.std()) / len(each) ** 0.5, DIGITS),
            covered=round(covered, DIGITS),
        )
    return averages


def _right(found: Integers, truth: Integers, prior: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return for each row the share that counts: a guess with its expectation."""
    right: npt.NDArray[np.float64] = np.where(found == GUESS, np.asarray(prior)[truth], found == truth)
    return right
