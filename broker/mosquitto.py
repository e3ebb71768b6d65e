"""Configurations of mosquitto: for one machine, and for a fleet whose every member has a certificate."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

PACKET_BYTES: Final = 17 << 20
EVERYWHERE: Final = ""
"""The host of a broker that listens on all addresses of its machine, those of IPv6 too."""
CONFIG, ACL = "mosquitto.conf", "acl"
CA, CERTIFICATE, KEY = "ca.crt", "broker.crt", "broker.key"

_COMMON = """\
# Two messages in a row must not wait for an acknowledgement.
set_tcp_nodelay true
# What the largest message of the fleet takes; whoever sends more is disconnected.
max_packet_size {packet}
max_queued_messages 10000
# A birth kept on disk would outlive its node: agents publish theirs anew with every connection.
persistence false

listener {place}
"""

_OPEN = """\
allow_anonymous true
"""

_SECURE = """\
allow_anonymous false
cafile {ca}
certfile {certificate}
keyfile {key}
tls_version tlsv1.2
# Only who shows a certificate of the fleet's CA comes in, as the one that it names.
require_certificate true
use_identity_as_username true
# A client is its certificate: nobody throws another out by taking its client id.
use_username_as_clientid true
# What each of them may write and read; who is not in there, nothing.
acl_file {acl}
"""


class Access(NamedTuple):
    """The topics, or filters of topics, that one client may write and read."""

    writes: tuple[str, ...]
    reads: tuple[str, ...]


def render_open(host: str, port: int) -> str:
    """Return a mosquitto.conf with one listener that asks nobody who he is."""
    return _COMMON.format(place=_place(host, port), packet=PACKET_BYTES) + _OPEN


def render_secure(host: str, port: int, packet_bytes: int, folder: Path) -> str:
    """Return a mosquitto.conf for TLS with client certificates, its other files in `folder`."""
    files = {"ca": CA, "certificate": CERTIFICATE, "key": KEY, "acl": ACL}
    paths = {what: folder / name for what, name in files.items()}
    return _COMMON.format(place=_place(host, port), packet=packet_bytes) + _SECURE.format(**paths)


def _place(host: str, port: int) -> str:
    return f"{port} {host}".rstrip()


def render_acl(access: Mapping[str, Access]) -> str:
    """Return mosquitto's access control list; what it does not name is refused."""
    return "\n".join(line for name, each in access.items() for line in _lines(name, each))


def _lines(name: str, access: Access) -> Iterable[str]:
    yield f"user {name}"
    yield from (f"topic write {topic}" for topic in access.writes)
    yield from (f"topic read {topic}" for topic in access.reads)
    yield ""
