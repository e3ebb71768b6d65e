"""A device's smart plug, as `mqtt://HOST:PORT/TOPIC`: at which broker, and the topic that switches it."""

from typing import Final, NamedTuple

from broker.errors import FogError
from broker.url import BrokerUrl, parse_url

FORM: Final = "mqtt://HOST:PORT/TOPIC"
EXAMPLE: Final = "mqtt://10.0.0.2:1883/cmnd/plug1/POWER"


class Plug(NamedTuple):
    """Where a plug is switched."""

    broker: BrokerUrl
    topic: str

    def __str__(self) -> str:
        return f"{self.broker}/{self.topic}"


def parse_plug(text: str, what: str) -> Plug:
    """Return the plug at `text`, which stands in `what`; raises FogError."""
    scheme, slashes, rest = text.partition("://")
    host, _, topic = rest.partition("/")
    if not (slashes and topic) or set(topic) & set("+#") or "@" in host:  # nobody gives a plug's broker a password
        raise FogError(f"{what} {text!r}: write {FORM}, such as {EXAMPLE}")
    try:
        return Plug(parse_url(f"{scheme}://{host}"), topic)
    except FogError as error:
        raise FogError(f"{what} {text!r}: {error}") from error
