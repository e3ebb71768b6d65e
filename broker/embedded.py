"""A broker for one machine, which ends with the process that started it.

`embedded` is rumqttd from the `iotcore` wheel, `mosquitto` the program of that name. Both listen on the
loopback address unless told otherwise: neither asks who is there.
"""

import contextlib
import errno
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from broker.errors import FogError
from broker.mosquitto import CONFIG, PACKET_BYTES, render_open
from broker.process import spawn, stop
from broker.scratch import scratch
from broker.url import BrokerUrl

Kind = Literal["embedded", "mosquitto"]
LOOPBACK: Final = "127.0.0.1"

_RUMQTTD = """\
id = 0

[router]
id = 0
max_connections = 1024
max_outgoing_packet_count = 200
max_segment_size = {segment}
max_segment_count = 4

[v5.1]
name = "fogguard"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {segment}
max_inflight_count = 200
dynamic_filters = true
"""

_READY_S: Final = 10.0


class BrokerError(FogError):
    """A broker could not be started here."""


def choose_kind() -> Kind:
    """Return the broker that this machine has, the embedded one first; raises BrokerError."""
    if find_spec("iotcore"):
        return "embedded"
    if mosquitto():
        return "mosquitto"
    raise BrokerError("no broker on this machine: pip install 'fogguard[broker]', or install mosquitto")


@contextlib.contextmanager
def running_broker(kind: Kind | None = None, host: str = LOOPBACK, port: int = 0) -> Iterator[BrokerUrl]:
    """Run a broker until the block ends; port 0 takes a free one.

    Raises BrokerError if the port is taken, the broker is not installed or it does not come up.
    """
    with LocalBroker(kind, host, port) as broker:
        yield broker.url


class LocalBroker:
    """A broker on this machine that runs until the block ends, and can be restarted in its place.

    Args:
        kind: Which; by default what is here.
        host: Where it listens.
        port: 0 takes a free one.
    """

    def __init__(self, kind: Kind | None = None, host: str = LOOPBACK, port: int = 0) -> None:
        self.kind = kind or choose_kind()
        self.url = BrokerUrl(host, _require_free(host, port))
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LocalBroker":
        """Start it; raises BrokerError."""
        self._left = contextlib.ExitStack()
        self._folder = self._left.enter_context(scratch("broker"))
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def restart(self) -> None:
        """SIGKILL it and start it again, at the same address, remembering nothing; raises BrokerError."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._start()

    def _start(self) -> None:
        folder = self._folder
        log = folder / "broker.log"
        user = _mosquittos_user() if self.kind == "mosquitto" and os.geteuid() == 0 else None
        child = self._child = spawn(_command(self.kind, self.url, folder), log=log, folder=folder, user=user)
        ends_s = time.monotonic() + _READY_S
        while not _answers(self.url):
            if child.poll() is not None or time.monotonic() > ends_s:
                raise BrokerError(
                    f"the {self.kind} broker did not start at {self.url}: {log.read_text().strip()[-400:]}"
                )
            time.sleep(0.02)

    def _end(self) -> None:
        if self._child is not None:
            stop(self._child)
        self._left.close()


def _command(kind: Kind, url: BrokerUrl, folder: Path) -> list[str]:
    """Write the broker's configuration into `folder` and return the command that runs it."""
    if kind == "embedded":
        if not find_spec("iotcore"):
            raise BrokerError("the embedded broker is not installed: pip install 'fogguard[broker]'")
        config = folder / "rumqttd.toml"
        config.write_text(_RUMQTTD.format(host=url.host, port=url.port, segment=PACKET_BYTES))
        return [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]
    program = mosquitto()
    if program is None:
        raise BrokerError("mosquitto is not installed: use the embedded broker, or install it with apt or brew")
    config = folder / CONFIG
    config.write_text(render_open(url.host, url.port))
    if os.geteuid() == 0:
        folder.chmod(0o755)  # mosquitto is no root: its own user must be able to read this
    return [program, "-c", str(config)]


def _mosquittos_user() -> str:
    """Return who mosquitto would become if it were started by root."""
    try:
        return pwd.getpwnam("mosquitto").pw_name
    except KeyError:
        return "nobody"


def mosquitto() -> str | None:
    """Return where the program is, if it is installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def _require_free(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            hint = "choose another --host or --port"
            if error.errno == errno.EADDRINUSE:
                hint = "another program has it; choose another with --port, or use the broker that runs there"
            raise BrokerError(f"cannot listen on {host}:{port} ({error.strerror}): {hint}") from error
        return int(probe.getsockname()[1])


def _answers(url: BrokerUrl) -> bool:
    try:
        socket.create_connection((url.host, url.port), timeout=0.2).close()
    except OSError:
        return False
    return True
