"""Which sensors are worth waiting for: those whose agent is alive, and whatever is fed by hand.

An agent says of itself that it lives, as a node's does, and raises steps that name it. Who feeds a fleet by hand says
nothing, and raises steps that name nobody: while such steps come, every sensor is waited for.
"""

from collections.abc import Iterable
from typing import Final, Literal

from broker.presence import MISSED, Presence
from edge_agent.pace import raiser

_HAND_NS: Final = 5_000_000_000


class Leaves(Presence):
    """The presence of sensors; one that was never heard of counts as fed by hand."""

    def __init__(self, sensors: Iterable[str], missed: int = MISSED) -> None:
        super().__init__(sensors, missed)
        self._is_by_hand = False
        self._by_hand_ns = 0

    def alive(self) -> frozenset[str]:
        """Return the sensors that are worth waiting for."""
        if self._is_by_hand:
            return frozenset(self.view)
        return super().alive() | {sensor for sensor, sensed in self.view.items() if sensed.layer == "none"}

    def on_sign(
        self, node: str, epoch: int, now_ns: int, layer: Literal["beat", "frame"], interval_ns: int | None = None
    ) -> bool:
        """Take in a sign of life; a vector of an epoch that no agent has told is somebody else's, who will not beat."""
        is_ours = layer == "beat" or epoch == self.view[node].epoch
        return is_ours and super().on_sign(node, epoch, now_ns, layer, interval_ns)

    def on_step(self, step: int, now_ns: int) -> bool:
        """Take in that a step came; return whether it changes who is worth waiting for."""
        if raiser(step) is None:
            was_by_hand, self._is_by_hand, self._by_hand_ns = self._is_by_hand, True, now_ns
            return not was_by_hand
        if self._is_by_hand and now_ns - self._by_hand_ns > _HAND_NS:
            self._is_by_hand = False
            return True
        return False
