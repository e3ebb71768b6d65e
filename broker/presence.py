"""Who is alive, as one observer has sensed it.

A node's life is one epoch: it begins with a retained birth and ends with a death, which is the last
will (`lost`) or the node's own farewell (`stopped`). Deaths may arrive after the node was born again,
and frames after their sender died: whatever carries an older epoch than the latest is ignored. Time
comes in as an argument.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from broker.errors import FogError

MAX_EPOCH: Final = (1 << 53) - 1
"""The largest number that every reader of JSON keeps exact; a frame holds it too."""
_MAX_STATUS_BYTES: Final = 1024

State = Literal["alive", "dead"]
Layer = Literal["none", "birth", "frame", "will", "farewell"]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands retained on a node's status topic."""

    online: bool
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
    bundle: str = ""
    reason: Literal["", "lost", "stopped"] = ""


class StatusError(FogError):
    """A status topic carried something that is not a status."""


class Sensed(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one node, when it was sensed on the observer's clock, and by which layer."""

    state: State
    epoch: int
    since_ns: int
    layer: Layer


_NEVER_SEEN: Final = Sensed(state="dead", epoch=-1, since_ns=0, layer="none")
_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Status)


def encode_status(status: Status) -> bytes:
    """Return the JSON that goes onto a status topic."""
    return _encoder.encode(status)


def decode_status(payload: bytes) -> Status:
    """Return the status in `payload`; raises StatusError."""
    if len(payload) > _MAX_STATUS_BYTES:
        raise StatusError(f"not a status: {len(payload)} bytes, the limit is {_MAX_STATUS_BYTES}")
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StatusError(f"not a status: {error}") from error


class Presence:
    """The states of the watched nodes; a node never heard of counts as dead."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.view: dict[str, Sensed] = dict.fromkeys(nodes, _NEVER_SEEN)

    def is_alive(self, node: str) -> bool:
        """Whether `node` is alive as far as is known."""
        return self.view[node].state == "alive"

    def alive(self) -> frozenset[str]:
        """Return the nodes that are alive."""
        return frozenset(node for node, sensed in self.view.items() if sensed.state == "alive")

    def on_status(self, node: str, status: Status, now_ns: int) -> bool:
        """Take in a birth or a death; return whether the node's state or epoch changed."""
        known = self.view[node]
        if status.epoch < known.epoch or (status.epoch == known.epoch and known.state == "dead"):
            return False
        if status.online:
            return self._change(node, "alive", status.epoch, now_ns, "birth")
        layer: Layer = "farewell" if status.reason == "stopped" else "will"
        return self._change(node, "dead", status.epoch, now_ns, layer)

    def on_frame(self, node: str, epoch: int, now_ns: int) -> bool:
        """Take a frame as a sign of life; return whether the node's state or epoch changed."""
        return epoch > self.view[node].epoch and self._change(node, "alive", epoch, now_ns, "frame")

    def _change(self, node: str, state: State, epoch: int, now_ns: int, layer: Layer) -> bool:
        known = self.view[node]
        if (known.state, known.epoch) == (state, epoch):
            return False
        self.view[node] = Sensed(state=state, epoch=epoch, since_ns=now_ns, layer=layer)
        return True
