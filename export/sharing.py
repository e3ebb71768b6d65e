"""What must be computed once: under many failure combinations most nodes say the same.

A node's output depends only on which vectors reach it, and those on theirs. So each node has *states*: Φ, and one
for each distinct choice of its sources' states. All 2^n combinations share them.

    f2 hears e1 and iot     states of f2: Φ, (e1, iot), (Φ, iot)      three, under eight combinations
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Value = TypeVar("Value")
NULL = 0
"""The state of a node that says nothing."""


class Shared(NamedTuple):
    """The distinct states of each node, and which of the sink's belongs to each combination.

    Attributes:
        states: Per node in topological order, the states of its sources for each of its own: state k of the node
            stands at k - 1; state 0 is Φ. A sensor has one state, 1.
        sink: (masks,) the state of the sink under each mask.
    """

    states: dict[str, list[tuple[int, ...]]]
    sink: Indices

    @property
    def runs(self) -> int:
        """How often a node must be run to know every answer."""
        return sum(map(len, self.states.values()))


def share(inputs: Mapping[str, Sequence[str]], order: Sequence[str], sink: str, alive: npt.NDArray[np.bool_]) -> Shared:
    """Find the distinct states under the failure combinations `alive`, (masks, nodes that can fail).

    Args:
        inputs: The sources of each node, in topological order; what is a source only is a sensor.
        order: The nodes that can fail: the columns of `alive`.
        sink: The node that answers.
        alive: One row per combination, true = alive.
    """
    columns = {node: alive[:, position] for position, node in enumerate(order)}
    index: dict[str, Indices] = {}
    states: dict[str, list[tuple[int, ...]]] = {}
    for node, sources in inputs.items():
        heard = [index.get(source, np.ones(len(alive), np.int64)) for source in sources]
        speaks = np.logical_or.reduce([state != NULL for state in heard])
        if node in columns:
            speaks = speaks & columns[node]
        rows = np.flatnonzero(speaks)
        first, of_row = _distinct([state[rows] for state in heard])
        states[node] = list(zip(*(state[rows][first].tolist() for state in heard), strict=True))
        index[node] = np.zeros(len(alive), np.int64)
        index[node][rows] = of_row + 1
    return Shared(states, index[sink])


def _distinct(columns: Sequence[Indices]) -> tuple[Indices, Indices]:
    """Return the first row of each distinct combination of the columns, and which one each row is."""
    first, of_row = np.unique(columns[0], return_index=True, return_inverse=True)[1:]
    for column in columns[1:]:
        joined = of_row * (int(column.max(initial=0)) + 1) + column
        first, of_row = np.unique(joined, return_index=True, return_inverse=True)[1:]
    return first, of_row


def compute(
    shared: Shared,
    inputs: Mapping[str, Sequence[str]],
    sensed: Mapping[str, Value],
    run: Callable[[str, list[Value | None]], Value],
    sink: str,
) -> list[Value]:
    """Run every node once in each of its states; return the sink's outputs, state k at k - 1.

    Args:
        shared: From `share`.
        inputs: The sources of each node, in topological order.
        sensed: What each sensor puts out.
        run: Runs a node on one value per source, None where absent.
        sink: The node that answers.
    """
    values: dict[str, list[Value]] = {sensor: [value] for sensor, value in sensed.items()}
    last_heard_by = {source: node for node, sources in inputs.items() for source in sources}
    for node, states in shared.states.items():
        values[node] = [
            run(
                node,
                [
                    None if state == NULL else values[source][state - 1]
                    for source, state in zip(inputs[node], combination, strict=True)
                ],
            )
            for combination in states
        ]
        for source in inputs[node]:
            if last_heard_by[source] == node:
                del values[source]  # with many nodes there are many states
    return values[sink]
