"""How a machine is called: by a name or an address, alone or with who logs in there."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from broker.errors import FogError

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_NAME: Final = re.compile(r"\w([\w.-]*\w)?")


class HostError(FogError):
    """What should be a host's name or address, or a login, is something else."""


def is_host(text: str) -> bool:
    """Whether this can be a host's name, or is its address."""
    try:
        return bool(ip_address(text))
    except ValueError:
        return bool(_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdecimal()  # as that of a false address is


def require_host(text: str, where: str) -> None:
    """Raise HostError unless this can be a host."""
    if not is_host(text):
        raise HostError(
            f"{where} {text!r}: write the host's name or address alone, an IPv6 address without brackets; "
            "its port is port = …, the login user = …"
        )


def place_of(host: str, port: int) -> str:
    """Return what OpenSSH calls a machine in a `known_hosts`."""
    return host if port == 22 else f"[{host}]:{port}"


class KnownHosts(NamedTuple):
    """Where host keys are pinned, and the places there that several machines have, behind one jump and another."""

    file: Path
    shared: frozenset[str] = frozenset()

    def name_of(self, place: str, jump: str) -> str:
        """Return the name of a machine there: its place, and which jump leads to it only if others have that place."""
        return f"{place}%{jump}" if jump and place in self.shared else place


class Login(msgspec.Struct, frozen=True):
    """`USER@HOST[:PORT]`, with an IPv6 address in brackets."""

    user: str
    host: str
    port: int

    @property
    def place(self) -> str:
        """Where that is, by the name in a `known_hosts`."""
        return place_of(self.host, self.port)

    @classmethod
    def parse(cls, text: str, what: str) -> "Login":
        """Return the parts of `text`; raises HostError."""
        user, at, place = text.rpartition("@")
        host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
        host, port = (host, port) if colon else (place, "22")
        if not at or not user or not is_host(host.strip("[]")) or not port.isdecimal() or not 0 < int(port) < 65536:
            raise HostError(f"{what} {text!r}: write USER@HOST or USER@HOST:PORT, an IPv6 address in brackets")
        return cls(user, host.strip("[]"), int(port))
