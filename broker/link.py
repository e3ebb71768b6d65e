"""The link to a broker: all of paho-mqtt that the rest of the project sees.

One thread owns a link and drives it by calling `poll`; no other exists, but to ask where a named host is. An
exception in a message handler is therefore raised where `poll` was called, not lost in a network thread. The
guarantee is that of MQTT with QoS 0: what arrives is whole and in order for each topic, and anything may be missing;
nothing is queued while the broker is away, or for longer than a moment while it does not read.
"""

import logging
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.brokers import Brokers
from broker.client import Client
from broker.errors import FailureFound, FogError
from broker.lookup import Lookup
from broker.message import Message, Request
from broker.retry import Retry
from broker.sockets import connected, send_at_once, shut
from broker.tls import Tls, TlsError, client_context, explain
from broker.url import BrokerUrl

_log = logging.getLogger("fogguard.link")
_HANDSHAKE_S: Final = 5.0
_LOOKUP_S: Final = 1.0  # and the next attempt goes on waiting for the answer
_BLOCKED_S: Final = 2.0  # what no traffic can be waited for meanwhile: a host that has lost its power does not refuse
HASTY_HANDSHAKE_S: Final = 0.4  # if another broker stands by
_STALE_S: Final = 0.25
_UPKEEP_S: Final = 0.1
_NOT_YET: Final = ("Server unavailable", "Server busy")


class LinkError(FogError):
    """Nothing answers at the broker's URL, or not as a broker does."""


class LinkLost(FailureFound):
    """The broker ended the connection, and connecting again would be wrong."""


class Link:
    """A connection to one broker that comes back by itself.

    Args:
        url: Where the broker is.
        others: Where to go when it dies, in this order; then `url` tells where the link is.
        client_id: Unique in the broker. Two clients of one id throw each other out for ever: whoever loses five
            connections in a row within two seconds each, and did not drop them, gives up with LinkLost.
        subscriptions: Topic filters and their QoS, renewed with every connection.
        takes_kept: Whether what the broker kept (retained) is taken too on topics of QoS 0; it comes with every
            connection, and is new to nobody who had it before.
        on_message: Called from `poll` with each message's topic and payload.
        on_up: Called from `poll` once every subscription of a new connection is granted.
        last_will: Called before each connection; what the broker publishes, retained, if the link is lost.
        keepalive_s: Seconds of silence after which either side may give the other up (the broker after 1.5 x).
        tls: Our certificate and the CA to believe, with `mqtts` URLs; raises TlsError with any other.
        max_bytes: The largest message that the broker may pass on to us, if there is a limit.
        requests: The topic (or filter) that takes requests, and what is called from `poll` with each of them.
        handshake_s: How long a broker may take to let us in. [default: 5, or 0.4 if others stand by]
    """

    def __init__(
        self,
        url: BrokerUrl,
        client_id: str,
        *,
        others: Sequence[BrokerUrl] = (),
        subscriptions: Sequence[tuple[str, int]] = (),
        takes_kept: bool = True,
        on_message: Callable[[str, bytes], None] = lambda _topic, _payload: None,
        on_up: Callable[[], None] = lambda: None,
        last_will: Callable[[], Message] | None = None,
        keepalive_s: int = 2,
        tls: Tls | None = None,
        max_bytes: int | None = None,
        requests: tuple[str, Callable[[Request], None]] | None = None,
        handshake_s: float | None = None,
    ) -> None:
        for each in (url, *others):
            if tls is not None and not each.secure:
                raise TlsError(f"certificates are for TLS: write mqtts:// instead of {each}")
            if each.secure != url.secure:
                raise TlsError(f"one link speaks to {url} and {each}: write mqtts:// for all, or for none")
        self.url = url
        self.is_up = False
        self.activity = 0
        """Grows with whatever is read, each attempt to connect and each loss: a link that moves is not hung."""
        self._brokers = Brokers([url, *others])
        self._handshake_s = handshake_s or (HASTY_HANDSHAKE_S if others else _HANDSHAKE_S)
        self._lookup = Lookup()
        self._lookup_s = _LOOKUP_S
        self._unread_since_s: float | None = None
        if requests is not None:
            subscriptions = [*subscriptions, (requests[0], 1)]
        self._subscriptions = [(topic, SubscribeOptions(qos=qos)) for topic, qos in subscriptions]
        self._kept = [topic for topic, qos in subscriptions if qos or takes_kept]
        self._on_message = on_message
        self._requests = requests
        self._is_request = _matcher(requests[0]) if requests is not None else lambda _topic: False
        self._tls = tls
        self._told: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        if max_bytes is not None:
            self._told.MaximumPacketSize = max_bytes
        self._has_been_up = False
        self._blocked_s = min(self._handshake_s, _BLOCKED_S)
        self._client_id = client_id
        self._on_up = on_up
        self._last_will = last_will
        self._keepalive_s = keepalive_s
        self._retry = Retry()
        self._handshake_ends_s = 0.0
        self._upkeep_due_s = 0.0
        self._is_dropped = False
        self._failure: FogError | None = None
        client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
        client.connect_timeout = self._blocked_s
        client.reach = self._reach
        client.on_socket_open = self._opened
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_plain = self._received_plain
        self._client = client

    def __enter__(self) -> "Link":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Disconnect cleanly, which withholds the last will; after an error, drop the socket instead."""
        connection: Any = self._client.socket()
        if kind is not None:
            self.drop()
        elif connection is not None:
            self._client.disconnect()
            self.poll_until(lambda: self._client.socket() is None or not self._client.want_write(), 0.5)
        if connection is not None:
            connection.close()  # nobody polls any more, so paho would leave it to the garbage collector
        self.is_up = False

    def connect(self, timeout_s: float = _HANDSHAKE_S) -> None:
        """Return once the link is up; raises LinkError if it is not within `timeout_s` seconds."""
        try:
            self._attempt(self._brokers.all(), timeout_s)
        except OSError as error:
            raise LinkError(self._why(error)) from error
        if not self.poll_until(lambda: self.is_up, timeout_s):
            hint = "does it take our certificate?" if self._tls else "does it want TLS, mqtts://?"
            raise LinkError(f"{self.url} accepts connections but does not answer as an MQTT 5 broker: {hint}")

    @property
    def first(self) -> BrokerUrl:
        """The broker that stands first in the list."""
        return self._brokers.first

    def go_back(self) -> None:
        """Leave for the first broker without a farewell; if it does not answer, `poll` finds another, as ever."""
        self._brokers.go_back()
        self.drop()

    def drop(self) -> None:
        """End this connection without a farewell; `poll` makes the next one."""
        connection = self._client.socket()
        if connection is not None:
            self._is_dropped = True
            shut(connection)

    def poll(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds for traffic, handle one message, and write what waits to be written.

        Returns whether something was read, so that there may be more. Connects again when the link is down and its
        next attempt is due. Raises what the handlers raise, and LinkLost when this client must not come back.
        """
        connection: Any = self._client.socket()
        if connection is None:
            self._reconnect_when_due(timeout_s)
            return False
        is_readable = self._client.has_read_ahead or self._wait(connection, timeout_s)
        if is_readable:
            self.activity += 1
            self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        now_s = time.monotonic()
        if not self._client.want_write():
            self._unread_since_s = None
        elif self._unread_since_s is None:
            self._unread_since_s = now_s
        if now_s >= self._upkeep_due_s:
            self._upkeep_due_s = now_s + _UPKEEP_S
            self._client.loop_misc()
        if not self.is_up and now_s > self._handshake_ends_s:
            self.drop()
        if self._failure is not None:
            raise self._failure
        return is_readable

    def _wait(self, connection: Any, timeout_s: float) -> bool:
        """Wait for traffic in either direction; return whether there is something to read."""
        if self.url.secure and connection.pending() > 0:  # decrypted already: select does not see it
            return True
        wants_write = [connection] if self._client.want_write() else []
        readable, _, _ = select.select([connection], wants_write, [], max(0.0, timeout_s))
        return bool(readable)

    def poll_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Poll until `condition()` holds or `timeout_s` seconds have passed; return whether it held."""
        ends_s = time.monotonic() + timeout_s
        while not condition():
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                return False
            self.poll(min(left_s, 0.1))
        return True

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        """Send `payload`; with QoS 0 it is dropped while the link is down or the broker does not read.

        Returns whether it was handed on.
        """
        if not qos and (not self.is_up or self._is_stuck()):
            return False
        self._client.publish(topic, payload, qos, retain)
        return True

    def _is_stuck(self) -> bool:
        """Whether what was to be sent has waited for too long: more would only grow old behind it."""
        return self._unread_since_s is not None and time.monotonic() - self._unread_since_s > _STALE_S

    def request(self, topic: str, request: Request) -> None:
        """Send a request, QoS 1."""
        self._client.publish(topic, request.payload, 1, False, _properties(request))

    def reply(self, request: Request, payload: bytes) -> None:
        """Answer a request where its sender waits; dropped as `publish` drops with QoS 0."""
        if self.is_up and not self._is_stuck():
            self._client.publish(request.reply_to, payload, 0, False, _properties(request, is_reply=True))

    def publish_confirmed(self, topic: str, payload: bytes, *, retain: bool, timeout_s: float) -> bool:
        """Publish with QoS 1 and poll until the broker has it; return whether it took it in time."""
        if not self.is_up:
            return False
        refused: list[int] = []

        def on_publish(_c: mqtt.Client, _u: Any, mid: int, reason: Any, _p: Any) -> None:
            if reason.is_failure:
                refused.append(mid)

        self._client.on_publish = on_publish  # for now only: it would be called for each tensor too
        try:
            sent = self._client.publish(topic, payload, 1, retain)
            is_over = self.poll_until(lambda: sent.is_published() or not self.is_up, timeout_s)
        finally:
            self._client.on_publish = None
        return is_over and self.is_up and sent.mid not in refused

    def _attempt(self, urls: Sequence[BrokerUrl], lookup_s: float) -> None:
        """Begin a connection to the first of `urls` that takes one; raises OSError if none does."""
        self.activity += 1
        self._lookup_s = lookup_s
        if self._last_will is not None:
            will = self._last_will()
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)
        if self.url.secure:
            self._client.use(client_context(self._tls, self._blocked_s))
        for position, self.url in enumerate(urls, 1):
            try:
                self._client.connect(
                    self.url.host, self.url.port, self._keepalive_s, clean_start=True, properties=self._told
                )
                break
            except OSError:
                if position == len(urls):
                    raise
        self._handshake_ends_s = time.monotonic() + self._handshake_s

    def _reconnect_when_due(self, timeout_s: float) -> None:
        if self._failure is not None:
            raise self._failure
        wait_s = self._retry.wait_s(time.monotonic())
        if wait_s > 0:
            time.sleep(min(wait_s, max(0.0, timeout_s)))
            return
        self._retry.on_attempt(time.monotonic())
        try:
            self._attempt(self._brokers.candidates(time.monotonic()), min(self._handshake_s, _LOOKUP_S))
        except OSError as error:
            self._retry.on_silence()
            _log.warning("%s; trying again", self._why(error))
        except TlsError as error:  # files that are being renewed: they do not belong together for a moment
            if not self._has_been_up:
                raise
            self._retry.on_silence()
            _log.warning("%s; trying again", error)

    def _reach(self, host: str, port: int) -> socket.socket:
        return connected(self._lookup.addresses(host, port, self._lookup_s), self._client.connect_timeout)

    def _why(self, error: OSError) -> str:
        """Return what it means that no connection came about."""
        if self.url.secure and isinstance(error, (ssl.SSLError, ConnectionResetError)):
            return f"{self.url} {explain(error, self._tls)}"
        return f"no broker answers at {self.url} ({error}): start one with `fogguard broker`, or check its address"

    def _received_plain(self, topic: str, payload: bytes) -> None:
        if self._requests is not None and self._is_request(topic):
            self._requests[1](Request(payload, "", b""))
        else:
            self._on_message(topic, payload)

    def _received(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        topic = message.topic
        if self._requests is None or not self._is_request(topic):
            if not message.retain or any(mqtt.topic_matches_sub(each, topic) for each in self._kept):
                self._on_message(topic, bytes(message.payload))
        elif not message.retain:  # a request that was kept would be obeyed with each new connection
            told = message.properties
            reply_to, correlation = getattr(told, "ResponseTopic", ""), getattr(told, "CorrelationData", b"")
            self._requests[1](Request(bytes(message.payload), reply_to, correlation))

    def _opened(self, _c: mqtt.Client, _u: Any, connection: Any) -> None:
        self._client.forget_read_ahead()
        send_at_once(connection)

    def _connected(self, client: mqtt.Client, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if str(reason) in _NOT_YET:
            self.drop()
        elif reason.is_failure:
            self._failure = LinkLost(f"{self.url} refused {self._client_id!r}: {reason}")
        elif self._subscriptions:
            client.subscribe(self._subscriptions)
        else:
            self._up()

    def _subscribed(self, _c: mqtt.Client, _u: Any, _mid: int, reasons: list[Any], _p: Any) -> None:
        refused = [topic for (topic, _), reason in zip(self._subscriptions, reasons, strict=True) if reason.is_failure]
        if refused:
            self._failure = LinkLost(f"{self.url} does not let {self._client_id!r} read {', '.join(refused)}")
        else:
            self._up()

    def _up(self) -> None:
        self.is_up = self._has_been_up = True
        self._is_dropped = False
        self._retry.on_up(time.monotonic())
        self._brokers.on_up(self.url)
        self._on_up()

    def _disconnected(self, _c: mqtt.Client, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        self.activity += 1
        if self.is_up:
            if not self._is_dropped:
                self._retry.on_lost(time.monotonic())
        else:
            self._brokers.on_silence(self.url)
        self.is_up = False
        # Some brokers say why they end a connection; others, mosquitto 2.0 among them, just close it.
        if reason == "Session taken over" or self._retry.is_contested:
            self._failure = LinkLost(
                f"{self.url} ends this connection again and again: another client is there as {self._client_id!r}"
                f"{', or with ' + self._tls.certificate if self._tls else ''}; stop one of the two"
            )
        elif reason.is_failure:
            _log.warning("lost %s: %s", self.url, reason)


def _matcher(topic_filter: str) -> Callable[[str], bool]:
    """Return what tells whether a topic is meant; asked with every message, so a plain topic is just compared."""
    return partial(mqtt.topic_matches_sub, topic_filter) if "+" in topic_filter else topic_filter.__eq__


def _properties(request: Request, *, is_reply: bool = False) -> Any:
    """Return what marks a request or its reply (MQTT 5, 4.10)."""
    properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if request.correlation:
        properties.CorrelationData = request.correlation
    if not is_reply:
        properties.ResponseTopic = request.reply_to
    return properties
