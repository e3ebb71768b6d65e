"""Which sensor raises steps, and how they are numbered.

All sensors of a fleet put their samples into the same steps. The first one raises them, at its rate; the others hear
each on the topic `step` and answer it. Whoever has heard of none for a while, longer the later a sensor stands in the
manifest, raises steps itself until one before it does again.

A step's number tells who raised it, so that no two sensors raise the same one, and nobody answers what was fed by hand:

    bits 63-32   the raiser's epoch
    bit  31      1: raised by a sensor
    bits 30-25   its place among the sensors
    bits 24-0    counts up
"""

from typing import Final

_RAISED: Final = 1 << 31
_PLACE_SHIFT: Final = 25
_COUNTED: Final = (1 << _PLACE_SHIFT) - 1
_PATIENCE: Final = 3
_PLACES: Final = 64


def step_number(epoch: int, place: int, count: int) -> int:
    """Return the number of the step that the sensor at `place` raises as its `count`-th."""
    return (epoch & 0xFFFFFFFF) << 32 | _RAISED | (place % _PLACES) << _PLACE_SHIFT | count & _COUNTED


def raiser(step: int) -> int | None:
    """Return the place of the sensor that raised a step; None if none did."""
    return (step & (_RAISED - 1)) >> _PLACE_SHIFT if step & _RAISED else None


class Pace:
    """When one sensor raises its next step.

    Args:
        place: The sensor's, among the sensors of the manifest.
        interval_ns: Between two steps.
    """

    def __init__(self, place: int, interval_ns: int) -> None:
        self.due_ns = 0
        self._place = place
        self._interval_ns = interval_ns

    @property
    def patience_ns(self) -> int:
        """How long the sensors before this one may be silent until it raises steps."""
        return self._interval_ns * (_PATIENCE + 2 * self._place) if self._place else 0

    def on_start(self, now_ns: int) -> None:
        """Begin, or begin to listen again."""
        self.due_ns = now_ns + self.patience_ns

    def on_raised(self, now_ns: int) -> None:
        """Take in that this sensor has raised a step: the next is due an interval later, whatever was missed."""
        self.due_ns = max(self.due_ns + self._interval_ns, now_ns)

    def on_heard(self, place: int, now_ns: int) -> None:
        """Take in a step of another sensor: one that stands before this one leads."""
        if place < self._place:
            self.due_ns = now_ns + self.patience_ns
