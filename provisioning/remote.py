"""A device on SSH: all of Fabric and paramiko that the rest of the project sees.

Host keys are those in the fleet's own `known_hosts`; unknown and changed ones are refused. A file arrives under a
temporary name, is hashed where it arrived, and only then gets its own. One thread drives a connection.
"""

import base64
import contextlib
import hashlib
import io
import os
import shlex
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import invoke
import paramiko
from fabric import Config, Connection

from broker.errors import FailureFound
from provisioning.inventory import Device, Login

_CONNECT_S: Final = 10
_DEAD_MS: Final = 5_000
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
        if isinstance(self._connection.gateway, Connection):
            self._connection.gateway.close()

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
            channel = self._connection.transport.open_session(timeout=_CONNECT_S)
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
        return Outcome(done.exited, done.stdout, done.stderr)


def _broken(error: Exception) -> RemoteError:
    return RemoteError(f"the connection broke ({str(error) or 'it was closed'}): run it again")


@contextlib.contextmanager
def connect(device: Device, known_hosts: Path, password: str = "") -> Iterator[Remote]:
    """Yield a connection to a device; raises RemoteError."""
    connection = _connection(device, known_hosts)
    with contextlib.closing(Remote(connection, device, password)) as remote:
        with _explained(device, known_hosts):
            connection.open()
            _notice_death(connection)
        yield remote


def _notice_death(connection: Connection) -> None:
    """Let a connection whose other end has lost its power end by itself, in seconds and not in minutes."""
    connection.transport.set_keepalive(2)
    sock = connection.transport.sock
    if isinstance(sock, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)
    if isinstance(connection.gateway, Connection):
        _notice_death(connection.gateway)


def _connection(device: Device, known_hosts: Path) -> Connection:
    """Return a connection that is not open yet, and that believes nobody but `known_hosts`."""
    gateway = None
    if device.jump:
        jump = Login.parse(device.jump, "jump")
        through = Device(address=jump.host, port=jump.port, user=jump.user, key=device.key)
        gateway = _connection(through, known_hosts)
    connection = Connection(
        device.address,
        user=device.user,
        port=device.port,
        gateway=gateway,
        connect_timeout=_CONNECT_S,
        config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        connect_kwargs={
            "banner_timeout": _CONNECT_S,
            "auth_timeout": _CONNECT_S,
            **({"key_filename": device.key, "look_for_keys": False, "allow_agent": False} if device.key else {}),
        },
    )
    if known_hosts.exists():
        connection.client.load_host_keys(str(known_hosts))
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    return connection


@contextlib.contextmanager
def _explained(device: Device, known_hosts: Path) -> Iterator[None]:
    """Turn what goes wrong while connecting into one sentence."""
    where = f"{device.address} port {device.port}"
    try:
        yield
    except paramiko.BadHostKeyException as error:
        raise RemoteError(
            f"{where} shows another host key than the one enrolled ({fingerprint(error.key)}): somebody stands "
            f"between, or it was set up anew; then remove its line from {known_hosts} and enrol it again"
        ) from error
    except paramiko.PasswordRequiredException as error:
        raise RemoteError(
            f"key {device.key or 'in ~/.ssh'} has a passphrase: give it to your SSH agent, `ssh-add`, "
            "and take `key = …` out of the inventory"
        ) from error
    except paramiko.AuthenticationException as error:
        key = device.key or "your SSH agent's"
        raise RemoteError(f"{where} does not take key {key} for user {device.user}: add it with ssh-copy-id") from error
    except paramiko.SSHException as error:
        if "not found in known_hosts" in str(error):
            raise RemoteError(f"{where} has a host key nobody enrolled: `fogguard provision enrol` shows it") from error
        if "private key file" in str(error):
            raise RemoteError(f"key {device.key} is no private key of OpenSSH ({error})") from error
        raise RemoteError(f"{where} does not speak SSH as it should ({error})") from error
    except (OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise RemoteError(f"key {device.key} is not there") from error
        raise RemoteError(
            f"nothing answers on SSH at {where} ({_reason(error)}): is it on, and in this network?"
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or "the connection was closed"


class HostKey(NamedTuple):
    """What a device says it is, and how the fleet's known_hosts sees that."""

    line: str
    fingerprint: str
    state: str  # "new", "known" or "changed"


def fetch_host_key(device: Device, known_hosts: Path) -> HostKey:
    """Ask a device for its host key, without logging in; raises RemoteError."""
    with contextlib.ExitStack() as stack, _explained(device, known_hosts):
        if device.jump:
            gateway = _connection(device, known_hosts).gateway
            stack.callback(gateway.close)
            gateway.open()
            sock = gateway.transport.open_channel("direct-tcpip", (device.address, device.port), ("", 0))
        else:
            sock = socket.create_connection((device.address, device.port), timeout=_CONNECT_S)
        transport = paramiko.Transport(sock)
        stack.callback(transport.close)
        transport.start_client(timeout=_CONNECT_S)
        key = transport.get_remote_server_key()
    name = device.address if device.port == 22 else f"[{device.address}]:{device.port}"
    known = paramiko.HostKeys(str(known_hosts) if known_hosts.exists() else None).lookup(name)
    of_kind = known.get(key.get_name()) if known else None
    state = "new" if not known else "known" if of_kind == key else "changed"
    return HostKey(f"{name} {key.get_name()} {key.get_base64()}\n", fingerprint(key), state)


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's name for people, as `ssh-keygen -lf` prints it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"
