"""paho-mqtt's client, but quick with what makes up nearly all traffic: messages of QoS 0 without properties.

paho asks the socket for each packet in four pieces or more, a system call each, and makes fifty objects of a message.
Here one call reads whatever has arrived, plain messages are taken from there at once, and all else is paho's, which
reads from the same place. Should paho change inside, plain messages go its way too.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

from broker.sockets import acknowledge_at_once

_READ_BYTES: Final = 1 << 16
_PLAIN: Final = 0x30
"""The first byte of a PUBLISH of QoS 0 that is neither retained nor a duplicate (MQTT 5, 3.3.1)."""


class Client(mqtt.Client):
    """A client whose owner must not wait for its socket while `has_read_ahead`."""

    on_plain: Callable[[str, bytes], None]
    """Called with topic and payload of each plain message; of all others paho's `on_message` is."""
    reach: Callable[[str, int], socket.socket]
    """Connects to a host's port; paho's own way waits for a name for as long as the system does."""
    _ahead = b""
    _position = 0

    @property
    def has_read_ahead(self) -> bool:
        """Whether something was read from the socket that is not taken yet."""
        return self._position < len(self._ahead)

    def forget_read_ahead(self) -> None:
        """Begin anew: what was read belongs to a connection that is gone."""
        self._ahead, self._position = b"", 0

    def use(self, context: ssl.SSLContext) -> None:
        """Speak TLS from the next connection on, as `context` says; paho takes one only once."""
        self._ssl_context = None
        self.tls_set_context(context)

    def _create_socket_connection(self) -> socket.socket:
        return self.reach(self._host, self._port)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Take one packet, or what has come of it."""
        is_between_packets = self._in_packet["command"] == 0
        if is_between_packets and not self.has_read_ahead:
            with contextlib.suppress(OSError):  # nothing has come, or paho sees it when it reads in its turn
                self._read_ahead()
        if is_between_packets and self.has_read_ahead and self._take_plain():
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        return super().loop_read(max_packets)

    def _read_ahead(self) -> None:
        self._ahead, self._position = super()._sock_recv(_READ_BYTES), 0
        if self._ahead:
            self._last_bytes_received = time.monotonic()  # an answer to its ping may wait behind what streams
        acknowledge_at_once(self.socket())

    def _take_plain(self) -> bool:
        """Hand on the next message, if it is plain and here whole; return whether it was."""
        ahead, begin = self._ahead, self._position + 1
        if ahead[self._position] != _PLAIN:
            return False
        length = shift = 0
        for byte in ahead[begin : begin + 4]:
            begin += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            return False
        end, topic = begin + length, begin + 2
        properties = topic + int.from_bytes(ahead[begin:topic], "big")
        if end > len(ahead) or properties >= end or ahead[properties] != 0:
            return False
        self._position = end
        self.on_plain(str(ahead[topic:properties], "utf-8", "replace"), ahead[properties + 1 : end])
        return True

    def _sock_recv(self, bufsize: int) -> bytes:
        """Give paho a piece of what was read ahead."""
        if not self.has_read_ahead:
            self._read_ahead()
        begin = self._position
        self._position += bufsize
        return self._ahead[begin : self._position]
