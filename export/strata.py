"""Eq. (3) for more nodes than can be enumerated: combinations drawn by how many nodes are dead.

How likely it is that k nodes are dead is known exactly. Where a stratum, the combinations with k dead, is small, all
of it is measured; of the others some are drawn as the reliability setting draws them, given k. What is rare but
matters is so never missed, and the rest leaves a confidence interval.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NEGLIGIBLE = 1e-12
"""The probability of a stratum that is not worth measuring; the sum of them is the bias."""
Floats64 = npt.NDArray[np.float64]


class Stratum(NamedTuple):
    """The combinations with a certain number of dead nodes.

    Attributes:
        probability: That a combination is one of them.
        weights: (combinations,) each one's share of the stratum's average; they add up to 1.
        exact: Whether these are all of them.
    """

    probability: float
    weights: Floats64
    exact: bool


class Sample(NamedTuple):
    """Combinations to measure, (combinations, nodes that can fail), stratum after stratum."""

    alive: npt.NDArray[np.bool_]
    strata: list[Stratum]

    def estimate(self, accuracies: Floats64) -> tuple[Floats64, float]:
        """Return the average accuracy of each seed, and half the width of the 95 % interval of the seeds' mean.

        Args:
            accuracies: (combinations, seeds).
        """
        total, variance, start = np.zeros(accuracies.shape[1]), 0.0, 0
        for stratum in self.strata:
            these = accuracies[start : start + len(stratum.weights)]
            start += len(stratum.weights)
            total += stratum.probability * (stratum.weights @ these)
            if not stratum.exact:
                variance += stratum.probability**2 * these.mean(axis=1).var(ddof=1) / len(these)
        return total / sum(stratum.probability for stratum in self.strata), 1.96 * sqrt(variance)


def stratified(reliability: Sequence[float], count: int, seed: int = 0) -> Sample:
    """Choose about `count` combinations for a reliability setting, r_i in the order of the specification."""
    r = np.asarray(reliability, float)
    generator = np.random.default_rng(seed)
    tails = _dead_of_last(r)
    is_room_for_all = 1 << len(r) <= count
    rows: list[npt.NDArray[np.bool_]] = []
    strata: list[Stratum] = []
    for dead, probability in enumerate(tails[0]):
        if probability <= NEGLIGIBLE:
            continue
        share = max(2, round(count * probability))
        if is_room_for_all or comb(len(r), dead) <= max(share, 2 * len(r)):
            alive = _all_with(len(r), dead)
            each = np.where(alive, r, 1 - r).prod(axis=1)
            weights, exact = each / each.sum(), True
        else:
            alive = _drawn_with(r, dead, share, tails, generator)
            weights, exact = np.full(share, 1 / share), False
        rows.append(alive)
        strata.append(Stratum(float(probability), weights, exact))
    return Sample(np.concatenate(rows), strata)


def _dead_of_last(r: Floats64) -> Floats64:
    """Return (nodes + 1, nodes + 1): at [i, k] the probability that k of the nodes from i on are dead."""
    nodes = len(r)
    table = np.zeros((nodes + 1, nodes + 1))
    table[nodes, 0] = 1
    for node in reversed(range(nodes)):
        table[node] = r[node] * table[node + 1]
        table[node, 1:] += (1 - r[node]) * table[node + 1, :-1]
    return table


def _all_with(nodes: int, dead: int) -> npt.NDArray[np.bool_]:
    chosen = list(combinations(range(nodes), dead))
    alive = np.ones((len(chosen), nodes), bool)
    for row, names in enumerate(chosen):
        alive[row, list(names)] = False
    return alive


def _drawn_with(
    r: Floats64, dead: int, count: int, tails: Floats64, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw combinations as the setting does, given how many nodes are dead: node after node."""
    alive = np.ones((count, len(r)), bool)
    left = np.full(count, dead)
    for node, up in enumerate(r):
        dies = (1 - up) * np.where(left > 0, tails[node + 1][left - 1], 0.0) / tails[node][left]
        alive[:, node] = generator.random(count) >= dies
        left -= ~alive[:, node]
    return alive
