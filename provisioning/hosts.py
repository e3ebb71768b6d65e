"""How a machine is called: by a name or an address, alone."""

import re
from ipaddress import ip_address
from typing import Final

from broker.errors import FogError

_NAME: Final = re.compile(r"\w([\w.-]*\w)?")


class HostError(FogError):
    """What should be a host's name or address is something else."""


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
