"""How long an inference takes each node of a running fleet while nothing is fed."""

from collections.abc import Sequence
from typing import Final

from provisioning.asking import Operator

_ROUNDS: Final = 3


def ask_speeds(operator: Operator, nodes: Sequence[str]) -> dict[str, list[float]]:
    """Return by node in ms what the means of 30 ms of inferences were, one after the other; raises NoReply.

    One node at a time, for they may share a processor; some in a row, or one that is held back would rest in between;
    and again, or whatever else the machine did meanwhile would be blamed on one of them.
    """
    found: dict[str, list[float]] = {node: [] for node in nodes}
    for node in [*nodes] * _ROUNDS:
        told = [operator.ask([node], "speed")[node].reply.infer_ms for _ in range(_ROUNDS)]
        found[node].extend(filter(None, told))
    return found
