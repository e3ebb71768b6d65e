"""When to connect again, and when there is no point: a connection that somebody ends again and again is contested.

Time comes in as an argument.
"""

from typing import Final

_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 1.0
_BRIEF_S: Final = 2.0
_BRIEF_LIVES: Final = 5


class Retry:
    """Pauses between attempts that grow until one succeeds, and a count of connections that ended at once."""

    def __init__(self) -> None:
        self._pause_s = _FIRST_PAUSE_S
        self._due_s = 0.0
        self._up_since_s = 0.0
        self._brief_lives = 0

    @property
    def is_contested(self) -> bool:
        """Whether the last five connections ended within two seconds each."""
        return self._brief_lives >= _BRIEF_LIVES

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait for the next attempt; none at all if it is not positive."""
        return self._due_s - now_s

    def on_attempt(self, now_s: float) -> None:
        """Take in that an attempt begins."""
        self._due_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LAST_PAUSE_S)

    def on_silence(self) -> None:
        """Take in that nobody answered it: the broker was gone, so no other client had ended the connections before."""
        self._brief_lives = 0

    def on_up(self, now_s: float) -> None:
        """Take in that it succeeded."""
        self._up_since_s = now_s
        self._pause_s = _FIRST_PAUSE_S

    def on_lost(self, now_s: float) -> None:
        """Take in that a connection ended."""
        self._brief_lives = self._brief_lives + 1 if now_s - self._up_since_s < _BRIEF_S else 0
