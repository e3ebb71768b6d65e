"""What the init system and the terminal want of a long-running program: readiness, watchdog, signals, logs."""

import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Mapping
from types import FrameType


class Supervisor:
    """systemd's notification socket, if there is one (sd_notify(3)); silent otherwise."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() else None

    def notify(self, state: str) -> None:
        """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=…`."""
        if self._address:
            name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.sendto(state.encode(), name)


class Watchdog:
    """Feeds the supervisor's watchdog each second, or thrice in its patience, as long as something moves."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.every_s = min(1.0, supervisor.watchdog_s / 3) if supervisor.watchdog_s else math.inf
        self.has_looked = True
        """Whether there was an occasion for something to move since it was fed."""
        self._supervisor = supervisor
        self._next_s = 0.0 if supervisor.watchdog_s else math.inf
        self._fed_at = -1

    def feed(self, now_s: float, activity: int) -> None:
        """Feed it if that is due, and `activity` has grown or could not."""
        if now_s >= self._next_s and (activity > self._fed_at or not self.has_looked):
            self._next_s, self._fed_at, self.has_looked = now_s + self.every_s, activity, False
            self._supervisor.notify("WATCHDOG=1")


class HangUp:
    """Remembers a SIGHUP until it is taken: somebody wants the configuration to be looked at again."""

    def __init__(self) -> None:
        self._received = False
        signal.signal(signal.SIGHUP, self._receive)

    def __call__(self) -> bool:
        """Whether one came since this was asked last."""
        received, self._received = self._received, False
        return received

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True


class StopSignal:
    """Becomes true with the first SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def __bool__(self) -> bool:
        return self._received

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True


def log_to_stderr(*, verbose: bool) -> None:
    """Write one plain line a message, without a time: the journal adds its own."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(levelname)s %(name)s: %(message)s",
    )
