"""How a source is: what went wrong with it, whether it rests after a failure, whether it has ended."""

import logging
from typing import Final

from edge_agent.metrics import Source
from edge_agent.reader import Drawn

_log = logging.getLogger("fogguard.source")
_FIRST_REST_NS, _LAST_REST_NS = 1_000_000_000, 60_000_000_000
_SAY_AGAIN_NS: Final = 60_000_000_000


class Health:
    """Counts what is drawn into `tally`, and says each new trouble once, the same one once a minute.

    Args:
        name: The sensor's.
        tally: `frames` are samples, `null` draws that gave none, `late` samples that came when no step waited, and
            `rejected` counts by trouble: samples `refused`, how often the source `failed`, whether it `ended`, and
            messages on its topic that a newer one replaced (`overrun`).
    """

    def __init__(self, name: str, tally: Source) -> None:
        self.has_ended = False
        self.resting_until_ns = 0
        self._name = name
        self._tally = tally
        self._rest_ns = _FIRST_REST_NS
        self._said = ""
        self._said_ns = 0

    def is_out(self, now_ns: int) -> bool:
        """Whether there is no point in asking now."""
        return self.has_ended or now_ns < self.resting_until_ns

    def on_drawn(self, drawn: Drawn, now_ns: int) -> None:
        """Take in what was drawn; after a failure the source rests, twice as long each time."""
        if drawn.sample is not None:
            self._tally.frames += 1
            self._rest_ns = _FIRST_REST_NS
        elif not drawn.trouble:
            self._tally.null += 1
        else:
            self.count(drawn.trouble)
            self._say(f"source of {self._name} {drawn.trouble}: {drawn.why}", now_ns)
        if drawn.trouble == "failed":
            self.resting_until_ns = now_ns + self._rest_ns
            self._rest_ns = min(2 * self._rest_ns, _LAST_REST_NS)
        self.has_ended = drawn.trouble == "ended"

    def count(self, trouble: str) -> None:
        """Count a trouble."""
        self._tally.rejected = {**self._tally.rejected, trouble: self._tally.rejected.get(trouble, 0) + 1}

    def _say(self, what: str, now_ns: int) -> None:
        if what != self._said or now_ns - self._said_ns > _SAY_AGAIN_NS:
            self._said, self._said_ns = what, now_ns
            _log.warning("%s", what)
