"""What a TCP connection of small messages needs.

They are sent at once (TCP_NODELAY) and acknowledged at once (TCP_QUICKACK, where there is one): without both, two
messages in a row cost 40 ms at each hop.
"""

import contextlib
import socket
import sys
from typing import Any, Final

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None) if sys.platform == "linux" else None


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
