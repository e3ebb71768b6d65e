"""What an operator may ask of a node: a request on its command topic, answered where the sender waits.

MQTT does not say who published a message: that it was the operator, the broker's access rules ensure.
"""

from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec
from msgspec.structs import replace

from broker.errors import FogError
from edge_agent.host import Host
from edge_agent.metrics import Metrics
from edge_agent.trace import StepTrace, Trace

if TYPE_CHECKING:
    from edge_agent.session import Session  # to load onnxruntime so early costs 0.6 MB

Command = Literal["ping", "metrics", "trace", "host", "speed", "probe", "return"]
_MAX_BYTES: Final = 1024
_MAX_TRACE_BYTES: Final = 60_000  # a message of JSON has 64 kB in every fleet


class CommandError(FogError):
    """A command topic carried something that is not a request."""


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request."""

    command: Command


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reply to a request; `metrics`, `trace`, `host` and `infer_ms` (`speed`) only if these were asked for.

    `now_ns` is the node's monotonic clock when it replied: whoever asked learns how far theirs is from it.
    `broker` is where the node is, as it calls it, and `refusal` why it does not `return` to its first broker, or could
    not (`probe`); empty if it does, could, or is there already.
    """

    command: Command
    node: str
    epoch: int
    bundle: str
    broker: str = ""
    refusal: str = ""
    now_ns: int = 0
    metrics: Metrics | None = None
    trace: list[StepTrace] | None = None
    host: Host | None = None
    infer_ms: float | None = None


class Member(Protocol):
    """A node or a sensor, as far as it is asked."""

    name: str
    epoch: int

    def metrics(self) -> Metrics:
        """Return its counters."""


_encode = msgspec.json.Encoder().encode
_ask_decoder = msgspec.json.Decoder(Ask)


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


def reply_of(command: Command, member: Member, bundle: bytes, now_ns: int, trace: Trace, session: "Session") -> Reply:
    """Return what a node or sensor replies to a request, as far as it knows itself; its speed takes 30 ms to find.

    How its device is, its agent adds (host_reader.py).
    """
    reply = Reply(command=command, node=member.name, epoch=member.epoch, bundle=bundle.hex(), now_ns=now_ns)
    if command == "metrics":
        return replace(reply, metrics=member.metrics())
    if command == "trace":
        return replace(reply, trace=trace.told())
    if command == "speed":
        return replace(reply, infer_ms=session.mean_ms())
    return reply


def encode_reply(reply: Reply) -> bytes:
    """Return a reply's JSON; of a trace the latest steps, as many as a message of this fleet has room for."""
    told = _encode(reply)
    while reply.trace and len(told) > _MAX_TRACE_BYTES:
        reply = replace(reply, trace=reply.trace[(len(reply.trace) + 1) // 2 :])
        told = _encode(reply)
    return told


def decode_reply(payload: bytes) -> Reply:
    """Return the reply in `payload`; raises CommandError."""
    try:
        return msgspec.json.decode(payload, type=Reply)  # a device decodes none: what that takes is made when needed
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"not a reply: {error}") from error
