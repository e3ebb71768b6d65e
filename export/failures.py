"""Node failure combinations, and what is expected over them: Eq. (2) and (3) of the paper.

A combination B is one bit per node that can fail, 1 = alive; as text it is a *mask* such as "101", in the order
of the specification. A reliability setting R gives each node the probability of being alive.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

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


def alive_nodes(mask: str, order: Sequence[str]) -> frozenset[str]:
    """Return the nodes that are alive under `mask`."""
    return frozenset(node for node, bit in zip(order, mask, strict=True) if bit == "1")


def probability(mask: str, reliability: Sequence[float]) -> float:
    """Return p(B|R) = Π [b_i r_i + (1 - b_i)(1 - r_i)], Eq. (2)."""
    product = 1.0
    for bit, r in zip(mask, reliability, strict=True):
        product *= r if bit == "1" else 1 - r
    return product


def average_accuracy(per_mask: Mapping[str, float], reliability: Sequence[float]) -> float:
    """Return Σ_B p(B|R) · A(G∅B), Eq. (3); `per_mask` must hold all 2^n masks."""
    return sum(probability(mask, reliability) * per_mask[mask] for mask in masks(len(reliability)))


def accuracy(labels: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], prior: Sequence[float]) -> float:
    """Return the share of right labels, a GUESS counting as its expectation: the prior of the true class.

    Args:
        labels: (rows,), GUESS where no information came.
        truth: (rows,), the true classes.
        prior: The class frequencies in training, which guesses are drawn from.
    """
    right = np.where(labels == GUESS, np.asarray(prior)[truth], labels == truth)
    return float(right.mean())
