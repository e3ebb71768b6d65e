"""What is done on a device over SSH: scripts, conversations, files.

A file arrives under a temporary name, is hashed where it arrived, and only then gets its own. One thread drives a
connection. What Fabric and paramiko are is known here and in connection.py alone.
"""

import contextlib
import io
import os
import shlex
from collections.abc import Callable, Sequence
from typing import IO, Final, NamedTuple

import invoke
import paramiko
from fabric import Connection

from broker.errors import FailureFound
from provisioning.inventory import Device

CONNECT_S: Final = 10
_UPLOADS: Final = ".cache/fogguard"
_SUDO_REFUSALS: Final = ("sudo: a password is required", "sudo: no password was provided", "Sorry, try again")


class RemoteError(FailureFound):
    """A device cannot be reached, or refuses what it was asked."""


class NoRoom(RemoteError):
    """A device's disk has no room for what is copied there."""


class Outcome(NamedTuple):
    """What a script on a device came to."""

    code: int
    out: str
    error: str

    @property
    def last_words(self) -> str:
        """The last line of its errors, or of its output."""
        lines = (self.error.strip() or self.out.strip()).splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


class _Ear(io.StringIO):
    """Hands on what is written to it."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__()
        self._hear = hear

    def write(self, text: str) -> int:
        self._hear(text)
        return len(text)


class Conversation:
    """A script on a device that goes on for as long as it is talked to; it ends with the connection at the latest."""

    def __init__(self, channel: paramiko.Channel, explained: Callable[["Outcome"], "Outcome"]) -> None:
        self._channel = channel
        self._explained = explained

    def say(self, text: str) -> None:
        """Write to its standard input, if it still listens."""
        with contextlib.suppress(OSError):
            self._channel.sendall(text.encode())

    def line(self) -> str:
        """Return the next line that it prints, or nothing if it has ended; raises RemoteError."""
        found = b""
        try:
            while not found.endswith(b"\n") and (more := self._channel.recv(1)):
                found += more
        except OSError as error:
            raise _broken(error) from error
        return found.decode(errors="replace").strip()

    def end(self) -> Outcome:
        """Return what it came to; raises RemoteError if it was not let in."""
        words = self._channel.makefile_stderr("rb").read().decode(errors="replace")
        return self._explained(Outcome(self._channel.recv_exit_status(), "", words))


class Remote:
    """An open connection to a device."""

    def __init__(self, connection: Connection, device: Device, password: str) -> None:
        self._connection = connection
        self._device = device
        self._password = password
        self._is_closed = False

    def close(self) -> None:
        """End the connection, from whatever thread: what goes on over it fails, and nothing more is begun."""
        self._is_closed = True
        self._connection.close()

    def run(
        self,
        script: str,
        *arguments: str,
        root: bool = False,
        timeout_s: float = 60,
        hear: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Run a POSIX shell script as the login, or as root; raises RemoteError if it cannot be run at all.

        `hear` is told what it prints while it goes on.
        """
        outcome = self._run(*self._command(script, arguments, root), timeout_s, hear)
        return self._let_in(outcome) if root else outcome

    def converse(self, script: str, *arguments: str, timeout_s: float) -> Conversation:
        """Start a script as root that goes on by itself, and may be silent for so long; raises RemoteError."""
        self.run(":", root=True)  # sudo would wait for a better password for as long as there may be one
        command, stdin = self._command(script, arguments, root=True)
        try:
            channel = self._connection.transport.open_session(timeout=CONNECT_S)
            channel.settimeout(timeout_s)
            channel.exec_command(command)
            channel.sendall(stdin.encode())
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise _broken(error) from error
        return Conversation(channel, self._let_in)

    def upload(self, source: IO[bytes], sha256: str, what: str) -> str:
        """Bring a file whose hash is `sha256` to the device, unless it is there; return its path there."""
        here = 'mkdir -p "$1" && chmod 700 "$1" && cd "$1" && pwd && if [ -f "$2" ]; then echo there; fi'
        ready = self.run(here, _UPLOADS, sha256)
        if ready.code:
            raise RemoteError(f"its home takes no files ({ready.last_words})")
        folder, *there = ready.out.splitlines()
        name = f"{folder}/{sha256}"
        if there:
            return name
        try:
            self._connection.sftp().putfo(source, f"{name}.part")
        except (paramiko.SSHException, EOFError, ConnectionError, TimeoutError) as error:
            raise RemoteError(f"the connection broke while {what} was copied: run it again") from error
        except OSError as error:  # SFTP says no more than "Failure" when the disk is full
            self.run('rm -f "$1"', f"{name}.part")
            free_mb = self.free_mb(folder)
            if str(error) == "Failure" and free_mb << 20 <= source.seek(0, os.SEEK_END):
                raise NoRoom(f"{what} cannot be copied, {free_mb} MB free in {folder}") from error
            hint = "is its disk full?" if str(error) == "Failure" else f"may {self._device.user} write to ~/{_UPLOADS}?"
            raise RemoteError(f"{what} cannot be copied ({error}): {hint}") from error
        check = 'cd "$1" && echo "$2  $2.part" | sha256sum -c --status && sync "$2.part" && mv "$2.part" "$2"'
        if self.run(check, folder, sha256, timeout_s=300).code:
            self.run('rm -f "$1"', f"{name}.part")
            raise RemoteError(f"{what} arrived changed: run it again; if it stays so, the card or cable is bad")
        return name

    def free_mb(self, folder: str) -> int:
        """Return how much is free on the file system of a folder; raises RemoteError."""
        return int(self.run('df -Pk "$1" | tail -n 1', folder).out.split()[3]) // 1024

    def _let_in(self, outcome: Outcome) -> Outcome:
        """Raise RemoteError if sudo refused."""
        if outcome.code and any(word in outcome.error for word in _SUDO_REFUSALS):
            problem = "the sudo password is wrong" if self._password else "sudo asks for a password"
            raise RemoteError(f"{problem}: add --ask-sudo-password, or give {self._device.user} NOPASSWD in sudoers")
        return outcome

    def _command(self, script: str, arguments: Sequence[str], root: bool) -> tuple[str, str]:
        """Return what runs a script, and what it must be told first."""
        words = ["sh", "-c", script, "fogguard", *arguments]
        stdin = ""
        if root and self._device.user != "root":
            words = ["sudo", "-S", "-p", "", *words] if self._password else ["sudo", "-n", *words]
            stdin = self._password + "\n" if self._password else ""
        return "LC_ALL=C exec " + shlex.join(words), stdin

    def _run(self, command: str, stdin: str, timeout_s: float, hear: Callable[[str], None] | None = None) -> Outcome:
        if self._is_closed:  # Fabric would open it again
            raise RemoteError("interrupted")
        try:
            done = self._connection.run(
                command,
                hide=True,
                warn=True,
                in_stream=io.StringIO(stdin),
                out_stream=_Ear(hear) if hear else None,
                timeout=timeout_s,
                encoding="utf-8",
            )
        except invoke.exceptions.CommandTimedOut as error:
            raise RemoteError(f"did not finish within {timeout_s:.0f} s: is the device overloaded?") from error
        except (OSError, EOFError, paramiko.SSHException, invoke.exceptions.ThreadException) as error:
            raise _broken(error) from error
        if done.exited < 0 and self._is_closed:
            raise RemoteError("interrupted")
        if done.exited < 0:  # nobody has said how it ended
            raise RemoteError("the connection broke, or what ran there was killed: run it again")
        return Outcome(done.exited, done.stdout, done.stderr)


def _broken(error: Exception) -> RemoteError:
    return RemoteError(f"the connection broke ({str(error) or 'it was closed'}): run it again")
