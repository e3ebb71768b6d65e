"""Which of several brokers to go to: the one where the fleet is, and when that stays away the next.

Going back is nobody's own decision: a fleet whose members return one by one is no fleet. So the broker that let us in
last is home, whichever stands first in the list. Time comes in as an argument.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

Url = TypeVar("Url")

_PATIENCE_S: Final = 0.3
_FIRST_PATIENCE_S: Final = 5.0  # when everything is switched on at once, the first broker may be the last to come up


class Brokers(Generic[Url]):
    """The brokers that a link may go to.

    Args:
        urls: The first is home to begin with; the others stand by, in this order.
    """

    def __init__(self, urls: Sequence[Url]) -> None:
        self.home = urls[0]
        self._urls = list(urls)
        self._mute: set[Url] = set()
        self._lost_s: float | None = None
        self._patience_s = _FIRST_PATIENCE_S

    @property
    def first(self) -> Url:
        """The one that stands first in the list."""
        return self._urls[0]

    def go_back(self) -> None:
        """Make the first one home again: the operator's command."""
        self.home = self._urls[0]
        self._lost_s = None

    def all(self) -> list[Url]:
        """Return every broker, home first."""
        position = self._urls.index(self.home)
        return self._urls[position:] + self._urls[:position]

    def candidates(self, now_s: float) -> list[Url]:
        """Return whom to try now, in this order: at first only home, and it stays the first."""
        if self._lost_s is None:
            self._lost_s = now_s
        if now_s - self._lost_s < self._patience_s:
            return [self.home]
        answering = [url for url in self.all() if url not in self._mute]
        if not answering:
            self._mute.clear()
        return answering or self.all()

    def on_up(self, url: Url) -> None:
        """Take in that a broker has let us in."""
        self.home = url
        self._lost_s = None
        self._patience_s = _PATIENCE_S
        self._mute.clear()

    def on_silence(self, url: Url) -> None:
        """Take in that a broker took the connection and did not answer: a frozen one, or none at all."""
        self._mute.add(url)
