"""What `bench accuracy` finds, and which masks it goes through. Plain data."""

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.culprits import Finding
from benchmarks.evidence import Evidence
from benchmarks.scenario import Verb
from broker.errors import FailureFound, FogError
from export.failures import combinations_of_masks, masks, probabilities


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
    """The result of `fogguard bench accuracy`; `evidence` is what was seen beside the feeding."""

    order: tuple[str, ...]
    by: Verb
    rows: int
    masks: list[MaskAccuracy]
    average: dict[str, AverageAccuracy]
    steps_per_s: float
    evidence: Evidence
    findings: list[Finding] = []


class NotAsPredicted(FailureFound):
    """The running fleet answers otherwise than the bundle predicts, or not at all."""


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
        count: How many, or None for all. Half of them are drawn as likely as the settings make them, half all alike,
            so often that each node is once alive and once dead.
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
    chance = np.random.default_rng(seed)
    while True:
        likely = chance.choice(len(every), (count + 1) // 2, replace=False, p=weights / weights.sum())
        rest = np.setdiff1d(np.arange(len(every)), likely)
        drawn = [*likely, *chance.choice(rest, count // 2, replace=False)]
        ups = alive[drawn].sum(axis=0)
        if count <= len(order) or ((ups > 0) & (ups < count)).all():
            return gray_order(every[number] for number in drawn)


def is_as_predicted(each: MaskAccuracy, rows: int) -> bool:
    """Whether every one of `rows` labels is the predicted one, and no step was lost."""
    return not each.lost and rows == each.n == each.labels_equal


def require_as_predicted(found: Accuracy) -> None:
    """Raise NotAsPredicted if a label differs or a step has no answer."""
    bad = [each for each in found.masks if not is_as_predicted(each, found.rows)]
    if bad:
        details = "; ".join(
            f"{each.mask}: {each.n - each.labels_equal} of {each.n} labels differ, {each.lost} steps lost"
            for each in bad[:8]
        )
        raise NotAsPredicted(f"{len(bad)} of {len(found.masks)} masks are not as predicted: {details}")


def half_width(right: npt.NDArray[np.float64]) -> float:
    """Return half the width of the 95 % interval of the mean of `right`, the (rows,) shares that count as right.

    Two rows that are right and two that are wrong are added (Agresti and Coull 1998): where all rows are right, that
    does not prove that all others would be.
    """
    padded = np.append(right, (1.0, 1.0, 0.0, 0.0))
    return 1.96 * float(padded.std()) / math.sqrt(len(padded))
