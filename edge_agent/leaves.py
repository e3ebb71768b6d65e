"""Which sensors are worth waiting for: those whose agent is alive, and those that somebody feeds by hand.

An agent says of itself that it lives, as a node's does. Who feeds a sensor by hand says nothing, and sends vectors of
an epoch that no agent has told: such a sensor is waited for in any case, and so is one that nothing was heard of.
"""

from collections.abc import Iterable
from typing import Literal

from broker.presence import MISSED, Presence, Status


class Leaves(Presence):
    """The presence of sensors; by hand until an agent is heard of."""

    def __init__(self, sensors: Iterable[str], missed: int = MISSED) -> None:
        super().__init__(sensors, missed)
        self._by_hand = set(self.view)

    def alive(self) -> frozenset[str]:
        """Return the sensors that are worth waiting for."""
        return super().alive() | self._by_hand

    def on_status(self, node: str, status: Status, now_ns: int) -> bool:
        """Take in the birth or the death of a sensor's agent; return whether anything changed."""
        is_news = super().on_status(node, status, now_ns)
        if is_news:
            self._by_hand.discard(node)
        return is_news

    def on_sign(
        self, node: str, epoch: int, now_ns: int, layer: Literal["beat", "frame"], interval_ns: int | None = None
    ) -> bool:
        """Take in a sign of life, or a vector that somebody else has sent; return whether anything changed."""
        was_by_hand = node in self._by_hand
        if layer == "frame" and epoch != self.view[node].epoch:
            self._by_hand.add(node)
            return not was_by_hand
        is_news = super().on_sign(node, epoch, now_ns, layer, interval_ns)
        if is_news or layer == "frame":
            self._by_hand.discard(node)
        return is_news or (was_by_hand and node not in self._by_hand)
