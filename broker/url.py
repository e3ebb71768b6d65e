"""Where a broker is, as its users write it."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from broker.errors import FogError

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class UrlError(FogError):
    """A broker's URL is wrong."""


class BrokerUrl(NamedTuple):
    """Where a broker listens, and whether with TLS."""

    host: str
    port: int
    secure: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.secure else 'mqtt'}://{host}:{self.port}"


def parse_url(url: str) -> BrokerUrl:
    """Return what `mqtt://HOST[:PORT]`, or `mqtts://` for TLS, says; raises UrlError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError as error:
        raise UrlError(f"broker {url!r}: {error}; write mqtt://HOST:PORT") from error
    if parts.scheme not in _PORTS or not host or not port or parts.path not in ("", "/"):
        raise UrlError(f"broker {url!r}: write mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS")
    return BrokerUrl(host, port, parts.scheme == "mqtts")


def parse_urls(urls: str) -> list[BrokerUrl]:
    """Return what several URLs with commas between them say; raises UrlError."""
    return [parse_url(each) for each in urls.split(",")]
