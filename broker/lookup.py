"""Where a host is, asked without waiting for longer than one can.

The system asks name servers and mDNS for as long as it likes, 5 s for a `.local` device that is off, and nothing can
interrupt it. So a name is asked for in a thread of its own, and what is answered too late is kept for the next call.
"""

import contextlib
import socket
import threading
from typing import Any

Address = tuple[Any, ...]
"""What `socket.getaddrinfo` says: family, type, protocol, "", and where to connect."""


class Lookup:
    """Asks where hosts are, and remembers what was not answered yet."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], _Question] = {}

    def addresses(self, host: str, port: int, timeout_s: float) -> list[Address]:
        """Return where to connect to, the best first; raises OSError, TimeoutError if it is not known yet."""
        with contextlib.suppress(socket.gaierror):  # an address needs no asking, and no thread
            return _ask(host, port, socket.AI_NUMERICHOST)
        question = self._asked.pop((host, port), None) or _Question(host, port)
        question.join(timeout_s)
        if question.is_alive():
            self._asked[host, port] = question
            raise TimeoutError(f"the address of {host} is not known after {timeout_s:g} s")
        if question.error is not None:
            raise question.error
        return question.answer


class _Question(threading.Thread):
    """One question to the system's resolver, which is begun at once."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name=f"where is {host}", daemon=True)
        self.answer: list[Address] = []
        self.error: OSError | None = None
        self._host, self._port = host, port
        self.start()

    def run(self) -> None:
        try:
            self.answer = _ask(self._host, self._port)
        except OSError as error:
            self.error = error


def _ask(host: str, port: int, flags: int = 0) -> list[Address]:
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
