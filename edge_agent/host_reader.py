"""Reads how the device is in a thread of its own: what takes its time, a slow bus or a firmware, holds up no step.

the agent's thread ── `ask` ──► thread "host" ── read_host ──► `answered` ── replies ──► the agent's thread
"""

import threading
from collections import deque
from typing import Final

from msgspec.structs import replace

from broker.message import Request
from edge_agent.commands import Reply
from edge_agent.host import Host

_MOST_WAITING: Final = 16


class HostReader:
    """Gives the replies to `host` what they tell: one thread at most, for all who wait, of too many the latest."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Request, Reply]] = deque(maxlen=_MOST_WAITING)
        self._reading: threading.Thread | None = None
        self._read: list[Host] = []

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits."""
        return self._reading is not None

    def ask(self, request: Request, reply: Reply) -> None:
        """Begin to read for this reply, or let it wait for what is being read."""
        self._waiting.append((request, reply))
        if self._reading is None:
            self._reading = threading.Thread(target=self._run, name="host", daemon=True)
            self._reading.start()

    def answered(self) -> list[tuple[Request, Reply]]:
        """Return what can be replied now, and to which requests."""
        if self._reading is None or self._reading.is_alive():
            return []
        host = self._read.pop() if self._read else None
        told = [(request, replace(reply, host=host)) for request, reply in self._waiting]
        self._waiting.clear()
        self._reading = None
        return told

    def _run(self) -> None:
        from edge_agent.proc import read_host  # brings what an agent that is not asked has no use for, and 0.4 MB

        self._read.append(read_host())
