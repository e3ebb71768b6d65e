"""What a TCP connection of small messages needs.

They are sent at once (TCP_NODELAY) and acknowledged at once (TCP_QUICKACK, where there is one): without both, two
messages in a row cost 40 ms at each hop.
"""

import contextlib
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from broker.lookup import Address

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None) if sys.platform == "linux" else None


def connected(addresses: Sequence[Address], timeout_s: float) -> socket.socket:
    """Return a connection to the first address that takes one, each given its share of the time; raises OSError."""
    ends_s = time.monotonic() + timeout_s
    failure = OSError("it has no address")
    for position, (family, kind, protocol, _, where) in enumerate(addresses):
        share_s = (ends_s - time.monotonic()) / (len(addresses) - position)
        connection = None
        try:
            connection = socket.socket(family, kind, protocol)
            connection.settimeout(max(0.01, share_s))
            connection.connect(where)  # whole: what is known on this link only needs the number of its interface
        except OSError as error:
            failure = error
            if connection is not None:
                connection.close()
        else:
            return connection
    raise failure


def send_at_once(connection: Any) -> None:
    """Hold back neither what is sent over a new connection nor what acknowledges it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    acknowledge_at_once(connection)


def acknowledge_at_once(connection: Any) -> None:
    """Arm TCP_QUICKACK again, which the kernel takes back after a while."""
    if _QUICKACK is not None:
        with contextlib.suppress(OSError):  # the read before may have closed it
            connection.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def shut(connection: Any) -> None:
    """End both directions; whoever reads it next sees the end."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
