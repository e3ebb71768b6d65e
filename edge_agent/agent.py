"""An agent: one node on a real broker, for as long as the process lives.

One thread does everything, from the socket to the inference and back; it feeds the systemd watchdog, so a
loop that hangs is a loop that gets restarted.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from broker.errors import FogError
from broker.link import Link, Message, parse_url
from broker.presence import Status, StatusError, decode_status, encode_status
from broker.topics import Topics, require_name
from edge_agent.bundle import Bundle, load
from edge_agent.epoch import next_epoch
from edge_agent.node import Node
from edge_agent.service import Supervisor
from edge_agent.session import Session

_METRICS_EVERY_S = 1.0
_FAREWELL_S = 1.0
_BURST = 64


class ConfigError(FogError):
    """The agent's configuration file is missing or wrong."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The device's own file, JSON: which node of which bundle, and which broker."""

    node: str
    bundle: str
    broker: str
    fleet: str
    state: str
    keepalive_s: int = 2
    threads: int = 1


def load_config(file: Path) -> Config:
    """Read and check `file`; raises ConfigError."""
    try:
        config = msgspec.json.decode(file.read_bytes(), type=Config)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {error}") from error
    require_name(config.fleet, f"{file}: fleet")
    require_name(config.node, f"{file}: node")
    if not 1 <= config.keepalive_s <= 3600 or config.threads < 1:
        raise ConfigError(f"{file}: keepalive_s lies between 1 and 3600, threads is at least 1")
    return config


def load_session(bundle: Bundle, node: str, threads: int = 1) -> Session:
    """Load the graph of `node`, its hash checked first; raises BundleError, BundleDamaged or SessionError."""
    entry = bundle.manifest.entry(node)
    bundle.verify([entry.file])
    return Session(bundle.file(entry.file), entry.inputs, entry.shape, threads)


def run(config: Config, supervisor: Supervisor, is_stopping: Callable[[], bool]) -> None:
    """Serve as `config.node` until `is_stopping()`; then publish its death and return.

    Waits for the broker if it is not there yet, and comes back with it. Raises FogError.
    """
    bundle = load(Path(config.bundle))
    if config.node not in bundle.manifest.nodes:
        raise ConfigError(
            f"node {config.node!r} is not in bundle {config.bundle}: it has {', '.join(bundle.manifest.nodes)}"
        )
    session = load_session(bundle, config.node, config.threads)
    topics = Topics(config.fleet)
    own_status = topics.status(config.node)
    epoch_file = Path(config.state) / f"{config.node}.epoch"
    highest_epoch = 0

    def status(reason: Literal["", "lost", "stopped"] = "") -> bytes:
        return encode_status(Status(online=not reason, epoch=node.epoch, bundle=bundle.id.hex(), reason=reason))

    def last_will() -> Message:
        node.epoch = next_epoch(epoch_file, highest_epoch)
        return Message(own_status, status("lost"))

    def on_up() -> None:
        link.publish(own_status, status(), qos=1, retain=True)
        supervisor.notify("READY=1")

    def on_message(topic: str, payload: bytes) -> None:
        if topic == own_status:
            on_own_status(payload)
        else:
            node.on_message(topic, payload, time.monotonic_ns())

    def on_own_status(payload: bytes) -> None:
        """Begin anew above what the broker remembers, if the epoch file does not: a new card, a wiped folder."""
        nonlocal highest_epoch
        with contextlib.suppress(StatusError):
            known = decode_status(payload)
            is_later = known.epoch > node.epoch or (known.epoch == node.epoch and not known.online)
            if is_later and not is_stopping():
                highest_epoch = known.epoch
                link.drop()

    node = Node(config.node, bundle, session, topics, lambda topic, payload: link.publish(topic, payload))
    link = Link(
        parse_url(config.broker),
        f"{config.fleet}-{config.node}",
        subscriptions=[(own_status, 1), *node.subscriptions],
        on_message=on_message,
        on_up=on_up,
        last_will=last_will,
        keepalive_s=config.keepalive_s,
    )
    with link:
        _serve(link, node, supervisor, is_stopping)
        supervisor.notify("STOPPING=1")
        link.publish_confirmed(own_status, status("stopped"), retain=True, timeout_s=_FAREWELL_S)


def _serve(link: Link, node: Node, supervisor: Supervisor, is_stopping: Callable[[], bool]) -> None:
    wake_s = min(_METRICS_EVERY_S, (supervisor.watchdog_s or _METRICS_EVERY_S) / 3)
    next_metrics_s = next_watchdog_s = 0.0
    while not is_stopping():
        due_ns = node.next_deadline_ns
        wait_s = wake_s if due_ns is None else min(wake_s, (due_ns - time.monotonic_ns()) / 1e9)
        # What has arrived counts, even if this process was held up past a deadline: read before cutting off.
        for _ in range(_BURST):
            if not link.poll(wait_s):
                break
            wait_s = 0
        node.on_time(time.monotonic_ns())
        now_s = time.monotonic()
        if now_s >= next_metrics_s:
            next_metrics_s = now_s + _METRICS_EVERY_S
            node.publish_metrics()
        if supervisor.watchdog_s and now_s >= next_watchdog_s:
            next_watchdog_s = now_s + wake_s
            supervisor.notify("WATCHDOG=1")
