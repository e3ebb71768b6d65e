"""Draws samples from a source in a thread of its own, one for each time that it is asked: it may block or raise.

The thread is a daemon: a driver that never returns does not keep the process from ending.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from edge_agent.sample import Sample, SampleRefused, vector

Trouble = Literal["", "refused", "failed", "ended"]


class Drawn(NamedTuple):
    """What came of one draw: a sample, None if there is none, and then what the trouble was, if there was any."""

    sample: Sample | None
    trouble: Trouble = ""
    why: str = ""


class Reader:
    """One source, opened at the first draw, and again after it failed.

    Args:
        name: The sensor's.
        shape: Of its samples.
        open_source: Opens the source.
    """

    def __init__(self, name: str, shape: tuple[int, ...], open_source: Callable[[], Iterator[Any]]) -> None:
        self._shape = shape
        self._open = open_source
        self._source: Iterator[Any] | None = None
        self._count = 0
        self._asked = threading.Semaphore(0)
        self._drawn: Drawn | None = None
        self.is_busy = False
        """Whether it was asked, and what came of it has not been taken."""
        self._thread = threading.Thread(target=self._run, name=f"source of {name}", daemon=True)

    def ask(self) -> None:
        """Draw, if it is not being done."""
        if not self.is_busy:
            self.is_busy = True
            if not self._thread.is_alive():
                self._thread.start()
            self._asked.release()

    def take(self) -> Drawn | None:
        """Return what was drawn, once; None if nothing is there yet."""
        drawn = self._drawn
        if drawn is not None:
            self._drawn = None
            self.is_busy = False
        return drawn

    def _run(self) -> None:
        while True:
            self._asked.acquire()
            self._drawn = self._draw()

    def _draw(self) -> Drawn:
        self._count += 1
        try:
            if self._source is None:
                self._source = self._open()
            found = next(self._source)
            return Drawn(None if found is None else vector(found, self._shape, f"sample {self._count}"))
        except StopIteration:
            return Drawn(None, "ended", f"it has ended after {self._count - 1} samples")
        except SampleRefused as error:
            return Drawn(None, "refused", str(error))
        except BaseException as error:  # noqa: BLE001, a stranger's code: a driver may raise anything
            self._source = None
            return Drawn(None, "failed", f"{error}" if str(error) else repr(error))
