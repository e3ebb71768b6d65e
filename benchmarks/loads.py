"""What load a running fleet bears: steps at one rate after the other, whatever becomes of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from benchmarks.reached import Reached
from benchmarks.stages import quantiles

_LOAD_S: Final = 2.0
_FIRST_RATE: Final = 50.0
_LAST_RATE: Final = 50_000.0
_BORNE: Final = 0.95
"""A load is borne if this share of it is answered in its time, and nothing lost."""


def offer(
    reached: Reached, offered: Sequence[float] | None, progress: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Offer one rate after the other, and yield what became of each.

    Without `offered`, a rate that is doubled until it is not borne.
    """
    for rate in offered if offered is not None else _doubled():
        progress(f"{rate:g} steps a second")
        with reached.probe() as probe:
            found = probe.offered(rate, _LOAD_S)
        answered_per_s = len(found.fed) / found.seconds
        is_borne = not found.lost and answered_per_s >= _BORNE * rate
        yield {
            "offered_per_s": rate,
            "answered_per_s": answered_per_s,
            "lost": found.lost,
            "borne": is_borne,
            "answers_ms": quantiles([fed.ms for fed in found.fed]),
            "sent_late_ms": quantiles([(fed.sent_ns - fed.due_ns) / 1e6 for fed in found.fed]),
        }
        if offered is None and not is_borne:
            return


def _doubled() -> Iterator[float]:
    rate = _FIRST_RATE
    while rate <= _LAST_RATE:
        yield rate
        rate *= 2
