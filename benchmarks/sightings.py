"""From what a sink tells to the ups and downs of the nodes that can fail. Pure: time comes in.

A sink that has just begun its life has heard of nobody, and says so until each retained birth or death has come: what
that tells of a node holds from the sink's first word on. A node of which it has never heard is dead once it has kept
saying so, and then from that word on too.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from benchmarks.drilled import Change
from broker.presence import Sensed, State

_UNHEARD_S: Final = 2.0  # the sink tells once a second


class Sightings:
    """How the sink sees each node; all alive at first, but for the `changes` known before.

    Attributes:
        states: The last state of each node.
    """

    def __init__(self, order: Iterable[str], changes: Iterable[Change] = ()) -> None:
        self.states: dict[str, State] = dict.fromkeys(order, "alive")
        self.states.update({change.node: change.state for change in changes})
        self._unheard_s: dict[str, float] = {}

    def look(self, at_s: float, view: Mapping[str, Sensed]) -> list[Change]:
        """Take in how the sink sees its ancestors; return what changed, and since when."""
        changes = []
        for node, known in self.states.items():
            if node not in view:
                continue
            state, is_heard_of = view[node].state, view[node].epoch >= 0
            first_s = self._unheard_s.pop(node, at_s) if is_heard_of else self._unheard_s.setdefault(node, at_s)
            is_beginning = at_s - first_s < _UNHEARD_S
            if state != known and (is_heard_of or not is_beginning):
                since_s = at_s if is_heard_of and not is_beginning else first_s
                changes.append(Change(at_s=round(since_s, 4), node=node, state=state))
        self.states.update({change.node: change.state for change in changes})
        return changes
