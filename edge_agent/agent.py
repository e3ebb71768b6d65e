"""An agent: one node, or one sensor, on a real broker, for as long as the process lives.

One thread does everything, from the socket to the inference and back. It feeds the systemd watchdog when it comes round
and with each vector that it publishes, if the link has moved since, or was not looked at. So an inference that hangs
gets restarted, and a connection that nothing comes from any more, not even the own beats.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from broker.errors import FogError
from broker.link import HASTY_HANDSHAKE_S, Link
from broker.message import Message, Request
from broker.presence import Reason, Status, StatusError, decode_status, encode_status
from broker.topics import Topics
from edge_agent.bundle import Bundle
from edge_agent.commands import encode_reply
from edge_agent.config import Config, brokers_of
from edge_agent.epoch import is_superseded, next_epoch
from edge_agent.exchange import Exchange, load_current
from edge_agent.generations import Generations
from edge_agent.host_reader import HostReader
from edge_agent.loading import configured_session, require_member
from edge_agent.memory import give_back
from edge_agent.node import Node
from edge_agent.service import Supervisor, Watchdog
from edge_agent.session import Session

if TYPE_CHECKING:
    from edge_agent.sensor import Sensor

_METRICS_EVERY_S = 1.0
_FAREWELL_S = 1.0
_READING_S = 0.005
_BURST = 64


def run(
    config: Config,
    supervisor: Supervisor,
    is_stopping: Callable[[], bool],
    is_hung_up: Callable[[], bool] = lambda: False,
) -> None:
    """Serve as `config.node` until `is_stopping()`; then publish its death and return.

    When `is_hung_up()`, looks again which bundles it is to have. Waits for the broker if it is not there yet, and comes
    back with it. Raises FogError.
    """
    bundle = load_current(config)
    require_member(config, bundle.manifest)
    session = configured_session(config, bundle)
    Agent(config, bundle, session, supervisor, is_stopping, is_hung_up).serve()


def epoch_file(config: Config) -> Path:
    """Return where the agent keeps its epoch."""
    return Path(config.state) / f"{config.node}.epoch"


def client_id(config: Config) -> str:
    """Return who the agent is to a broker."""
    return f"{config.fleet}-{config.node}"


class Agent:
    """A node or sensor, its link, and its life: an epoch that begins with a birth and ends with a death."""

    def __init__(
        self,
        config: Config,
        bundle: Bundle,
        session: Session,
        supervisor: Supervisor,
        is_stopping: Callable[[], bool],
        is_hung_up: Callable[[], bool] = lambda: False,
    ) -> None:
        topics = Topics(config.fleet)
        self._supervisor = supervisor
        self._watchdog = Watchdog(supervisor)
        self._is_stopping = is_stopping
        self._is_hung_up = is_hung_up
        self._own_status = topics.status(config.node)
        self._own_reply = topics.reply(config.node)
        self._epoch_file = epoch_file(config)
        self._remembered_epoch: int | None = None
        self._was_up = False
        self._is_birth_heard = False
        self._is_epoch_used = True
        self._is_leaving = False
        self._host_reader = HostReader()
        self._client_id = client_id(config)
        self._tls = config.tls
        beat_ms = min(config.beat_ms, round(1e3 * (supervisor.watchdog_s or 60) / 4))  # its echo feeds the watchdog

        def node_of(bundle: Bundle, session: Session) -> Node:
            known = (config.node, bundle, session, topics, self._publish, time.monotonic_ns)
            node = Node(*known, beat_ms=beat_ms, missed=config.missed_beats)
            node.warm_up()
            return node

        def load_node(bundle: Bundle) -> Node:
            return node_of(bundle, configured_session(config, bundle))

        self._held: Generations[Node] | Generations[Sensor]
        self._exchange: Exchange | None = None
        if config.source is None:
            held = Generations(bundle.id, node_of(bundle, session), topics, self._publish)
            self._held, self._exchange = held, Exchange(config, bundle.manifest.wiring, held, load_node)
        else:
            from edge_agent import sensor  # brings what a node has no use for, and 1 MB

            known = (config.node, bundle, session, topics, self._publish, time.monotonic_ns)
            member = sensor.Sensor(*known, source=config.source, beat_ms=beat_ms)
            member.warm_up()
            self._held = Generations(bundle.id, member, topics, self._publish)
        first, *others = brokers_of(config)
        self._link = Link(
            first,
            self._client_id,
            others=others,
            subscriptions=[(self._own_status, 1), *self._held.subscriptions],
            takes_kept=False,
            on_message=self._on_message,
            on_up=self._on_up,
            last_will=self._last_will,
            keepalive_s=config.keepalive_s,
            tls=config.tls,
            max_bytes=bundle.manifest.message_bytes,
            requests=(topics.cmd(config.node), self._on_request),
        )

    def serve(self) -> None:
        """Answer messages, beat, cut off steps, publish metrics and feed the watchdog until told to stop."""
        wake_s = min(_METRICS_EVERY_S, self._watchdog.every_s)
        next_metrics_s = 0.0
        self._tell_supervisor()
        with self._link:
            while not self._is_stopping():
                self._work(_READING_S if self._host_reader.is_busy else wake_s)
                for request, reply in self._host_reader.answered():
                    self._link.reply(request, encode_reply(reply))
                self._follow_links()
                if self._is_leaving:
                    self._leave()
                now_s = time.monotonic()
                if now_s >= next_metrics_s:
                    next_metrics_s = now_s + _METRICS_EVERY_S
                    self._held.current.publish_metrics()
                    if self._exchange is not None and self._exchange.drop(time.monotonic_ns()):
                        give_back()
                        self._tell()
                self._watchdog.feed(now_s, self._link.activity)
            self._supervisor.notify("STOPPING=1")
            farewell = self._status("stopped")
            self._link.publish_confirmed(self._own_status, farewell, retain=True, timeout_s=_FAREWELL_S)

    def _follow_links(self) -> None:
        """Hold the bundles that the configuration's links lead to, no more and no less."""
        if self._exchange is None:
            return
        if self._is_hung_up():
            self._exchange.ask()
        if self._exchange.poll(time.monotonic_ns()):
            self._tell()

    def _work(self, wait_s: float) -> None:
        """Wait for messages and handle them, then cut off the steps that are overdue."""
        deadline_ns, beat_ns = self._held.next_deadline_ns, self._held.current.next_beat_ns
        due_ns = beat_ns if deadline_ns is None else min(deadline_ns, beat_ns)
        wait_s = min(wait_s, (due_ns - time.monotonic_ns()) / 1e9)
        for _ in range(_BURST):
            has_read = self._link.poll(wait_s)
            self._watchdog.has_looked = True
            now_ns = time.monotonic_ns()
            if now_ns >= self._held.current.next_beat_ns:
                self._held.beat(now_ns)
            deadline_ns = self._held.next_deadline_ns
            if deadline_ns is None or now_ns < deadline_ns:
                return
            # What has arrived counts, even if this process was held up past a deadline: read before cutting off.
            if not has_read:
                break
            wait_s = 0
        self._held.on_time(time.monotonic_ns())

    def _publish(self, topic: str, payload: bytes) -> None:
        self._held.current.counters.unsent += not self._link.publish(topic, payload)
        self._watchdog.feed(time.monotonic(), self._link.activity)  # what came at once may take seconds to compute

    def _status(self, reason: Reason = "") -> bytes:
        bundle, beside = self._held.bundle.hex(), tuple(each.hex() for each in self._held.beside)
        epoch = self._held.current.epoch
        return encode_status(Status(online=not reason, epoch=epoch, bundle=bundle, beside=beside, reason=reason))

    def _last_will(self) -> Message:
        """Begin an epoch: each connection has its own, and an attempt that came to nothing leaves it to the next."""
        if self._is_epoch_used:
            self._remembered_epoch = next_epoch(self._epoch_file, self._remembered_epoch)
            self._held.begin_epoch(self._remembered_epoch)
            self._is_epoch_used = False
        return Message(self._own_status, self._status("lost"))

    def _on_up(self) -> None:
        self._is_birth_heard = False
        self._publish_birth()
        self._is_epoch_used = True
        self._held.current.counters.reconnects += self._was_up
        self._was_up = True
        self._held.on_link_up(time.monotonic_ns())
        self._supervisor.notify("READY=1")
        self._tell_supervisor()

    def _tell(self) -> None:
        """Say which bundles are held: to the fleet, and to whoever exchanges them on this device."""
        if self._link.is_up:
            self._publish_birth()
        self._tell_supervisor()

    def _tell_supervisor(self) -> None:
        held = " beside ".join(each.hex() for each in (self._held.bundle, *self._held.beside))
        exchange = self._exchange
        at = f", at {self._link.url}" if self._link.is_up else ""
        looks = f", look {exchange.looks}" if exchange else ""
        refusal = f", refused: {exchange.refusal}" if exchange and exchange.refusal else ""
        self._supervisor.notify(f"STATUS=bundle {held}{at}{looks}{refusal}")

    def _publish_birth(self) -> None:
        self._link.publish(self._own_status, self._status(), qos=1, retain=True)

    def _on_message(self, topic: str, payload: bytes) -> None:
        if topic == self._own_status:
            self._on_own_status(payload)
        else:
            self._held.on_message(topic, payload, time.monotonic_ns())

    def _on_request(self, request: Request) -> None:
        """Reply to the operator, but nowhere else than where a node's replies belong."""
        reply = self._held.current.on_request(request.payload)
        if reply is None or request.reply_to != self._own_reply:
            return
        url, is_away = str(self._link.url), self._link.url != self._link.first
        refusal = self._try_first() if is_away and reply.command in ("probe", "return") else ""
        reply = msgspec.structs.replace(reply, broker=url, refusal=refusal)
        if reply.command == "host":
            self._host_reader.ask(request, reply)
        else:
            self._link.reply(request, encode_reply(reply))
        if is_away and reply.command == "return" and not refusal:
            self._is_leaving = True

    def _try_first(self) -> str:
        """Return why the first broker does not let this node in; empty if it does."""
        try:
            with Link(self._link.first, self._client_id, tls=self._tls, handshake_s=HASTY_HANDSHAKE_S) as attempt:
                attempt.connect(HASTY_HANDSHAKE_S)
        except FogError as error:
            return str(error)
        return ""

    def _leave(self) -> None:
        """Go back to the first broker; the last word at this one tells those who follow the fleet."""
        self._link.publish_confirmed(self._own_status, self._status("moved"), retain=True, timeout_s=_FAREWELL_S)
        self._link.go_back()
        self._is_leaving = False

    def _on_own_status(self, payload: bytes) -> None:
        """Begin anew after what the broker remembers, if the epoch file does not: a new card, a wiped folder."""
        try:
            known = decode_status(payload)
        except StatusError:
            return
        if self._is_leaving or self._is_stopping():
            return
        if is_superseded(self._held.current.epoch, known):
            self._remembered_epoch = known.epoch
            self._is_epoch_used = True
            self._link.drop()
        elif known.epoch == self._held.current.epoch:
            self._is_birth_heard = True
        elif known.online or self._is_birth_heard:  # what the broker kept from before is heard before the birth
            self._publish_birth()  # neither somebody else's word nor that of a life before may be the last
