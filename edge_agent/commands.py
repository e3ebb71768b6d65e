"""What an operator may ask of a node: a request on its command topic, answered where the sender waits.

MQTT does not say who published a message: that it was the operator, the broker's access rules ensure.
"""

from typing import Final, Literal

import msgspec

from broker.errors import FogError
from edge_agent.metrics import Metrics

Command = Literal["ping", "metrics", "probe", "return"]
_MAX_BYTES: Final = 1024


class CommandError(FogError):
    """A command topic carried something that is not a request."""


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request."""

    command: Command


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reply to a request; `metrics` only if these were asked for.

    `broker` is where the node is, as it calls it, and `refusal` why it does not `return` to its first broker, or could
    not (`probe`); empty if it does, could, or is there already.
    """

    command: Command
    node: str
    epoch: int
    bundle: str
    broker: str = ""
    refusal: str = ""
    metrics: Metrics | None = None


_encode = msgspec.json.Encoder().encode
_ask_decoder = msgspec.json.Decoder(Ask)
_reply_decoder = msgspec.json.Decoder(Reply)


def encode_ask(command: Command) -> bytes:
    """Return a request's JSON."""
    return _encode(Ask(command=command))


def decode_ask(payload: bytes) -> Ask:
    """Return the request in `payload`; raises CommandError."""
    if len(payload) > _MAX_BYTES:
        raise CommandError(f"not a request: {len(payload)} bytes, the limit is {_MAX_BYTES}")
    try:
        return _ask_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"not a request: {error}") from error


def encode_reply(reply: Reply) -> bytes:
    """Return a reply's JSON."""
    return _encode(reply)


def decode_reply(payload: bytes) -> Reply:
    """Return the reply in `payload`; raises CommandError."""
    try:
        return _reply_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"not a reply: {error}") from error
