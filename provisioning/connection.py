"""The way to a device over SSH, and whether it is that device which answers.

Host keys are those in the fleet's own `known_hosts`; unknown and changed ones are refused.
"""

import base64
import contextlib
import hashlib
import logging
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import paramiko
from fabric import Config, Connection
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from provisioning.hosts import KnownHosts, Login
from provisioning.inventory import Device, InventoryError
from provisioning.remote import CONNECT_S, Remote, RemoteError

_DEAD_MS: Final = 5_000
_CHANNEL_S: Final = 10
"""How long a jump may take to reach a device; paramiko would give it an hour, in which it may have lost its power."""

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it raises is explained; it prints traces, too


@contextlib.contextmanager
def connect(device: Device, known_hosts: KnownHosts, password: str = "") -> Iterator[Remote]:
    """Yield a connection to a device; raises RemoteError."""
    with _opened(device, known_hosts) as connection, contextlib.closing(Remote(connection, device, password)) as remote:
        yield remote


@contextlib.contextmanager
def _opened(device: Device, known_hosts: KnownHosts) -> Iterator[Connection]:
    """Yield an open connection that believes nobody but `known_hosts`, and goes by the device's jump if it has one."""
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(_opened(jump_of(device), known_hosts)) if device.jump else None
        connection = stack.enter_context(contextlib.closing(_connection(device, known_hosts, gateway)))
        with _explained(device, known_hosts):
            connection.open()
        _notice_death(connection)
        yield connection


def jump_of(device: Device) -> Device:
    """Return the machine that a device is reached through."""
    login = Login.parse(device.jump, "jump")
    return Device(address=login.host, port=login.port, user=login.user, key=device.key)


def require_readable(known_hosts: Path) -> None:
    """Raise InventoryError unless each line of a `known_hosts`, if it is there, is one."""
    try:
        lines = known_hosts.read_text(encoding="utf-8").splitlines() if known_hosts.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InventoryError(f"{known_hosts}: cannot be read ({reason}): repair it, or remove it and enrol") from error
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#") and not _is_host_key(line):
            raise InventoryError(f"{known_hosts}: line {number} is no host key: remove it, and enrol its device again")


def _is_host_key(line: str) -> bool:
    try:
        HostKeyEntry.from_line(line)
    except (InvalidHostKey, paramiko.SSHException, ValueError):
        return False
    return len(line.split()) >= 3


def _pinned(device: Device, known_hosts: KnownHosts) -> Mapping[str, paramiko.PKey]:
    """Return the host keys that a device is believed by, one of a kind."""
    keys = paramiko.HostKeys(str(known_hosts.file) if known_hosts.file.exists() else None)
    return keys.lookup(known_hosts.name_of(device.place, device.jump_place)) or {}


def _notice_death(connection: Connection) -> None:
    """Let a connection whose other end has lost its power end by itself, in seconds and not in minutes."""
    connection.transport.set_keepalive(2)
    sock = connection.transport.sock
    if isinstance(sock, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_MS)


def _connection(device: Device, known_hosts: KnownHosts, gateway: Connection | None) -> Connection:
    """Return a connection that is not open yet."""
    connection = Connection(
        device.address,
        user=device.user,
        port=device.port,
        gateway=gateway,
        connect_timeout=CONNECT_S,
        config=Config(lazy=True, overrides={"load_ssh_configs": False}),
        connect_kwargs={
            "banner_timeout": CONNECT_S,
            "auth_timeout": CONNECT_S,
            "channel_timeout": _CHANNEL_S,
            **({"key_filename": device.key, "look_for_keys": False, "allow_agent": False} if device.key else {}),
        },
    )
    for kind, pinned in _pinned(device, known_hosts).items():
        connection.client.get_host_keys().add(device.place, kind, pinned)
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    return connection


@contextlib.contextmanager
def _explained(device: Device, known_hosts: KnownHosts) -> Iterator[None]:
    """Turn what goes wrong while connecting into one sentence."""
    where = f"{device.address} port {device.port}{f' behind {device.jump}' if device.jump else ''}"
    try:
        yield
    except paramiko.BadHostKeyException as error:
        raise RemoteError(
            f"{where} shows another host key than the one enrolled ({fingerprint(error.key)}): somebody stands "
            f"between, or it was set up anew; then remove its line from {known_hosts.file} and enrol it again"
        ) from error
    except paramiko.PasswordRequiredException as error:
        raise RemoteError(
            f"key {device.key or 'in ~/.ssh'} has a passphrase: give it to your SSH agent, `ssh-add`, "
            "and take `key = …` out of the inventory"
        ) from error
    except paramiko.AuthenticationException as error:
        key = f"key {device.key}" if device.key else "any key of your SSH agent or in ~/.ssh"
        raise RemoteError(f"{where} does not take {key} for user {device.user}: add one with ssh-copy-id") from error
    except paramiko.SSHException as error:
        raise RemoteError(_refused(error, device, where)) from error
    except (OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise RemoteError(f"key {device.key} is not there") from error
        raise RemoteError(
            f"nothing answers on SSH at {where} ({_reason(error)}): is it on, and in this network?"
        ) from error


def _refused(error: paramiko.SSHException, device: Device, where: str) -> str:
    """Return what is wrong, by the only thing that tells it: paramiko's words."""
    if isinstance(error, paramiko.ChannelException) or "opening channel" in str(error):
        return f"nothing answers on SSH at {where} ({_reason(error)}): are both on?"
    if "not found in known_hosts" in str(error):
        return f"{where} has a host key nobody enrolled: `fogguard provision enrol` shows it"
    if "No authentication methods available" in str(error):
        return (
            f"you have no key to log in with at {where}: name its file in the inventory, `key = …`, or give it to "
            "your SSH agent, `ssh-add`; ssh-keygen makes one"
        )
    if "private key file" in str(error):
        return f"key {device.key} is no private key of OpenSSH ({error})"
    return f"{where} does not speak SSH as it should ({error})"


def _reason(error: Exception) -> str:
    known = getattr(error, "strerror", None) or getattr(error, "text", None)
    return known or str(error) or "the connection was closed"


class HostKey(NamedTuple):
    """What a device says it is, and how the fleet's known_hosts sees that."""

    line: str
    fingerprint: str
    state: str  # "new", "known" or "changed"


def fetch_host_key(device: Device, known_hosts: KnownHosts) -> HostKey:
    """Ask a device for its host key, without logging in; raises RemoteError, or InventoryError before it asks."""
    require_readable(known_hosts.file)
    with contextlib.ExitStack() as stack, _explained(device, known_hosts):
        if device.jump:
            gateway = stack.enter_context(_opened(jump_of(device), known_hosts))
            sock = gateway.transport.open_channel("direct-tcpip", (device.address, device.port), ("", 0))
        else:
            sock = socket.create_connection((device.address, device.port), timeout=CONNECT_S)
        transport = paramiko.Transport(sock)
        stack.callback(transport.close)
        transport.start_client(timeout=CONNECT_S)
        key = transport.get_remote_server_key()
    known = _pinned(device, known_hosts)
    state = "new" if not known else "known" if known.get(key.get_name()) == key else "changed"
    name = known_hosts.name_of(device.place, device.jump_place)
    return HostKey(f"{name} {key.get_name()} {key.get_base64()}\n", fingerprint(key), state)


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's name for people, as `ssh-keygen -lf` prints it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"
