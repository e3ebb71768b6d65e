"""What chance alone makes of counts and measurements."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_RESAMPLES: Final = 2_000
_ENUMERATED: Final = 20_000


class Count(NamedTuple):
    """So many bad ones out of n."""

    bad: int
    n: int


class Sample(NamedTuple):
    """Independent measurements of one thing; `less_is_better` or more. What `is_time` depends on the machine."""

    values: Sequence[float]
    less_is_better: bool = True
    is_time: bool = False


class Average(NamedTuple):
    """A mean that lies within ± `ci95` with 95 %, `over` these things; more is better."""

    mean: float
    ci95: float
    over: frozenset[str]


def least_chance(old: Sample, new: Sample) -> float:
    """Return the smallest chance that `by_rank` can find for so many values."""
    return 1 / math.comb(len(old.values) + len(new.values), len(new.values))


def by_rank(old: Sequence[float], new: Sequence[float]) -> float:
    """Return how likely the values of `new` rank at least so high among all if both are alike: Mann-Whitney's test."""
    numbers = np.array([*old, *new], float)
    _, of_each, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[of_each]  # equal values share the mean of their ranks
    found, total, n = float(ranks[len(old) :].sum()), len(numbers), len(new)
    if math.comb(total, n) <= _ENUMERATED:
        sums = [sum(some) for some in combinations(ranks.tolist(), n)]
        return sum(1 for each in sums if each >= found - 1e-9) / len(sums)
    ties = float((counts**3 - counts).sum()) / (total * (total - 1))
    variance: float = len(old) * n / 12 * (total + 1 - ties)
    z = (found - n * (total + 1) / 2 - 0.5) / math.sqrt(max(variance, 1e-12))
    return math.erfc(z / math.sqrt(2)) / 2


def by_chance(old: Count, new: Count) -> float:
    """Return how likely `new` has at least so many of all the bad ones if both are alike: Fisher's exact test."""
    bad, total = old.bad + new.bad, old.n + new.n
    most = min(bad, new.n)
    whole = _log_choose(total, new.n)
    terms = (_log_choose(bad, k) + _log_choose(total - bad, new.n - k) - whole for k in range(new.bad, most + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def by_interval(old: Average, new: Average) -> float:
    """Return how likely `new` is at least so much lower if both are alike, each with a normal error of its own."""
    z = 1.96 * (old.mean - new.mean) / math.hypot(old.ci95, new.ci95)
    return math.erfc(z / math.sqrt(2)) / 2


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def ratio_interval(old: Sequence[float], new: Sequence[float]) -> tuple[float, float]:
    """Return where the ratio of the medians lies with 95 %, by resampling both."""
    drawn = np.random.default_rng(0)

    def medians(values: Sequence[float]) -> npt.NDArray[np.float64]:
        resampled = drawn.choice(np.asarray(values, float), (_RESAMPLES, len(values)))
        return np.asarray(np.median(resampled, axis=1))

    ratios = medians(new) / np.maximum(medians(old), 1e-9)
    low, high = np.quantile(ratios, [0.025, 0.975]).tolist()
    return round(low, 6), round(high, 6)
