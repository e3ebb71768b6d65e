"""What became of the steps while a fleet went over to another bundle and back. Plain data."""

from typing import Final

import msgspec

from benchmarks.phases import Latency
from broker.errors import FailureFound


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the steps sent in one stretch of a switch.

    `mixed` were answered by another bundle than they were fed for; `held_up` by fewer nodes than all, on a busy
    machine: their labels are not compared.
    """

    name: str
    seconds: float
    sent: int
    answered: int
    lost: int
    mixed: int
    held_up: int
    labels_compared: int
    labels_equal: int
    latency_ms: Latency
    longest_ms: float


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """One switch, and what each agent held in memory before, while it held both bundles, and after."""

    old: str
    new: str
    stretches: list[Stretch]
    rss_mb: dict[str, dict[str, float]]

    @property
    def faults(self) -> list[str]:
        """Return in sentences what must not happen."""
        found = [
            f"{self.old} to {self.new}, {each.name}: {each.lost} of {each.sent} steps lost, {each.mixed} answered by "
            f"another bundle, {each.labels_compared - each.labels_equal} of {each.labels_compared} labels wrong"
            for each in self.stretches
            if each.lost or each.mixed or each.labels_equal < each.labels_compared
        ]
        if not any(each.labels_compared for each in self.stretches):
            found.append(f"{self.old} to {self.new}: no label could be compared: somebody was missing in every answer")
        return found

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Return the stretches, to be shown under COLUMNS."""
        return [
            (
                *(each.name, f"{each.seconds:.2f}"),
                *map(str, (each.sent, each.lost, each.mixed, each.held_up)),
                f"{each.labels_equal} of {each.labels_compared}",
                *(f"{ms:.1f}" for ms in (each.latency_ms.p50, each.latency_ms.p99, each.longest_ms)),
            )
            for each in self.stretches
        ]


COLUMNS: Final = ("", "s", "sent", "lost", "mixed", "held up", "labels as predicted", "p50 ms", "p99 ms", "longest ms")


def require_whole(switches: list[Switch]) -> None:
    """Raise FailureFound if a step was lost or answered by another bundle, or a label is wrong or none compared."""
    if faults := [fault for each in switches for fault in each.faults]:
        raise FailureFound("; ".join(faults))
