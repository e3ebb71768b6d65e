"""Node failure combinations, and what is expected over them: Eq. (2) and (3) of the paper.

A combination B is one bit per node that can fail, 1 = alive; as text it is a *mask* such as "101", in the order
of the specification. A reliability setting R gives each node the probability of being alive.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

EXACT_NODES: Final = 20
"""Up to how many nodes that can fail all 2^n combinations are enumerated."""
GUESS: Final = -1
"""The label that stands for the random guess, where no information reached the sink."""


def masks(nodes: int) -> list[str]:
    """Return all 2^n masks, all alive first."""
    return [format(number, f"0{nodes}b") if nodes else "" for number in reversed(range(1 << nodes))]


def sampled_masks(nodes: int, limit: int = 1024) -> list[str]:
    """Return all masks if there are at most `limit`, else as many: few failures first, then a fixed random draw."""
    if 1 << nodes <= limit:
        return masks(nodes)
    likely = ["1" * nodes, *("1" * dead + "0" + "1" * (nodes - dead - 1) for dead in range(nodes)), "0" * nodes]
    drawn = np.random.default_rng(0).integers(0, 2, (limit, nodes))
    return list(dict.fromkeys([*likely, *("".join(map(str, row)) for row in drawn)]))[:limit]


def combinations_of(nodes: int) -> npt.NDArray[np.bool_]:
    """Return all 2^n combinations, (2^n, nodes) bool in the order of `masks`: all alive first."""
    numbers = np.arange(1 << nodes)[::-1, None]
    found: npt.NDArray[np.bool_] = (numbers >> np.arange(nodes)[::-1]) & 1 == 1
    return found


def combinations_of_masks(some: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return the combinations of masks, (masks, nodes) bool."""
    return np.array([[bit == "1" for bit in mask] for mask in some], bool).reshape(len(some), -1)


def mask_of(alive: Sequence[bool]) -> str:
    """Return a combination as text."""
    return "".join("1" if up else "0" for up in alive)


def probabilities(alive: npt.NDArray[np.bool_], reliability: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return p(B|R) of Eq. (2) for each row of `alive`, (combinations, nodes)."""
    r = np.asarray(reliability, float)
    found: npt.NDArray[np.float64] = np.where(alive, r, 1 - r).prod(axis=1)
    return found


def average_accuracy(per_mask: Mapping[str, float], order: Sequence[str], reliability: Mapping[str, float]) -> float:
    """Return the average accuracy of Eq. (3); if `per_mask` holds not every mask, that over those it holds."""
    weights = probabilities(combinations_of_masks(list(per_mask)), [reliability[node] for node in order])
    return float(weights @ np.array(list(per_mask.values())) / weights.sum())


def accuracy(labels: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], prior: Sequence[float]) -> float:
    """Return the share of right labels, a GUESS counting as its expectation: the prior of the true class.

    Args:
        labels: (rows,), GUESS where no information came.
        truth: (rows,), the true classes.
        prior: The class frequencies in training, which guesses are drawn from.
    """
    right = np.where(labels == GUESS, np.asarray(prior)[truth], labels == truth)
    return float(right.mean())


def weighted_combinations(
    order: Sequence[str], settings: Mapping[str, Mapping[str, float]], limit: int = 1024
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return combinations and weights whose weighted sum of accuracies is Eq. (3), mean of the settings.

    All where there are at most `limit`, else that many drawn from the settings; without settings all nodes are alive.
    """
    if not settings:
        return np.ones((1, len(order)), bool), np.ones(1)
    reliabilities = [[setting[node] for node in order] for setting in settings.values()]
    if 1 << len(order) <= limit:
        every = combinations_of(len(order))
        weights: npt.NDArray[np.float64] = np.mean([probabilities(every, each) for each in reliabilities], axis=0)
        return every, weights
    drawn = np.random.default_rng(0).random((limit, len(order)))
    return drawn < np.resize(np.array(reliabilities), drawn.shape), np.full(limit, 1 / limit)
