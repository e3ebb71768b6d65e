"""A command on a terminal of its own, as a person would see it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import contextmanager
from io import StringIO

from rich.console import Console
from rich.live import Live
from support import command


def drawn(picture, width):
    """What a terminal so many columns wide shows of a picture that changes."""
    screen = Console(file=StringIO(), width=width, height=60, soft_wrap=True, force_terminal=True)
    with Live(picture, console=screen, auto_refresh=False):
        pass
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())


class Terminal:
    """A command on a terminal of its own, and what it has shown so far."""

    def __init__(self, arguments, folder):
        self._screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 140, 0, 0))
        self.process = subprocess.Popen(
            [command("fogguard"), *map(str, arguments)],
            cwd=folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(inner)
        self.shown, self._read = "", 0

    def wait_for(self, pattern, timeout_s=40):
        """The next match of `pattern` in what is shown from now on."""
        ends = time.monotonic() + timeout_s
        while True:
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown).replace("\r", "")
            if found := re.compile(pattern).search(plain, self._read):
                self._read = found.end()
                return found
            assert time.monotonic() < ends, f"{pattern!r} not in: {plain[self._read :]}"
            self.take()

    def take(self):
        if select.select([self._screen], [], [], 0.1)[0]:
            try:
                self.shown += os.read(self._screen, 65536).decode(errors="replace")
            except OSError:  # it has ended
                time.sleep(0.1)

    def end(self):
        ends = time.monotonic() + 90
        while self.process.poll() is None and time.monotonic() < ends:
            self.take()
        return self.process.wait(1)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)
        os.close(self._screen)


@contextmanager
def terminal(arguments, folder):
    shown = Terminal(arguments, folder)
    try:
        yield shown
    finally:
        shown.close()
