"""Who is alive, as one observer has sensed it.

A node's life is one epoch: it begins with a retained birth and ends with a death, which is the last will (`lost`),
the node's own farewell (`stopped`; `moved` when it goes to another broker), or what its watchdog left behind (`hung`).
Deaths may arrive after the node was born again, and frames after their sender died: whatever carries an older epoch
than the latest is ignored. Time comes in as an argument.

Only a status is a node's word on its epoch: the node hears it too, and contradicts what somebody else has made up. A
beat or frame of a later epoch is believed until then, because a birth may be overtaken, but bars nothing: neither a
birth nor the signs of the life that the last status tells of.

    alive ──silent for too long──► suspect ──a beat or frame of this life──► alive
      │                               │
      ├──cut off at several deadlines in a row──► slow ──delivers in time──► alive
      │
      └──will, farewell──► dead ◄──will──┘          watchdog ──► hung            a new epoch ──► alive

Silence is judged up to a moment from which everything must have arrived: the sending of an own beat that came
back through the broker. So neither an observer that was held up nor a busy broker makes a node suspect.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from broker.beat import Pulse
from broker.epoch import MAX_EPOCH, is_later
from broker.errors import FogError

_MAX_STATUS_BYTES: Final = 1024

State = Literal["alive", "suspect", "slow", "hung", "dead"]
Layer = Literal["none", "birth", "beat", "frame", "deadline", "will", "farewell", "watchdog"]
Reason = Literal["", "lost", "stopped", "moved", "hung"]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands retained on a node's status topic; `beside` are bundles that it holds besides the one it runs."""

    online: bool
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
    bundle: str = ""
    beside: tuple[str, ...] = ()
    reason: Reason = ""


class StatusError(FogError):
    """A status topic carried something that is not a status."""


class Sensed(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one node, when it was sensed on the observer's clock, and by which layer."""

    state: State
    epoch: int
    since_ns: int
    layer: Layer


MISSED: Final = 3
"""How many beats, or deadlines, in a row a node may miss."""

_OVER: Final = ("dead", "hung")
_DEATHS: Final[dict[Reason, tuple[State, Layer]]] = {
    "": ("dead", "will"),
    "lost": ("dead", "will"),
    "stopped": ("dead", "farewell"),
    "moved": ("dead", "farewell"),
    "hung": ("hung", "watchdog"),
}
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


class _Record:
    """What is remembered of a node beside its state; a strike is a deadline that it missed."""

    def __init__(self, missed: int) -> None:
        self.pulse = Pulse(missed)
        self.strikes = 0
        self.struck_ns = 0


def _is_news(status: Status, told: Status) -> bool:
    """Whether a status says more than the last one.

    A birth is retained, and repeated without the node's help; of different ones the last counts, whatever their epochs.
    A death may come late.
    """
    return status.epoch != told.epoch if status.online else not is_later(told.epoch, status.epoch)


class Presence:
    """The states of the watched nodes; a node never heard of counts as dead.

    Args:
        nodes: Who is watched.
        missed: How many beats, or deadlines, in a row a node may miss.
    """

    def __init__(self, nodes: Iterable[str], missed: int = MISSED) -> None:
        self.view: dict[str, Sensed] = dict.fromkeys(nodes, _NEVER_SEEN)
        self._missed = missed
        self._told: dict[str, Status] = {}
        self._records = {node: _Record(missed) for node in self.view}

    def is_alive(self, node: str) -> bool:
        """Whether `node` is alive and well as far as is known."""
        return self.view[node].state == "alive"

    def alive(self) -> frozenset[str]:
        """Return the nodes that are alive and well: worth waiting for."""
        return frozenset(node for node, sensed in self.view.items() if sensed.state == "alive")

    def on_status(self, node: str, status: Status, now_ns: int) -> bool:
        """Take in a birth or a death; return whether the node's state or epoch changed."""
        known, told = self.view[node], self._told.get(node)
        if told is not None and not _is_news(status, told):
            return False
        self._told[node] = status
        if status.online:
            return status.epoch != known.epoch and self._begin(node, status.epoch, now_ns, "birth")
        state, layer = _DEATHS[status.reason]
        if status.epoch == known.epoch:
            # The watchdog's word comes after the will, and explains it.
            is_vain = known.state in _OVER and state != "hung"
        else:
            # Signs of the next life have overtaken it.
            is_vain = known.epoch >= 0 and is_later(known.epoch, status.epoch)
        return not is_vain and self._change(node, state, status.epoch, now_ns, layer)

    def on_sign(
        self, node: str, epoch: int, now_ns: int, layer: Literal["beat", "frame"], interval_ns: int | None = None
    ) -> bool:
        """Take in a sign of life, a beat with its promise; return whether the node's state or epoch changed."""
        known = self.view[node]
        if not self._is_possible(node, epoch):
            return False
        is_new = epoch != known.epoch and self._begin(node, epoch, now_ns, layer)
        self._records[node].pulse.hear(now_ns, interval_ns)
        return is_new or (known.state == "suspect" and self._change(node, "alive", epoch, now_ns, layer))

    def judge(self, until_ns: int, now_ns: int) -> list[str]:
        """Suspect whoever was silent for too long up to `until_ns`, and return them."""
        silent = [
            node
            for node, sensed in self.view.items()
            if sensed.state in ("alive", "slow") and self._records[node].pulse.is_overdue(until_ns)
        ]
        for node in silent:
            self._change(node, "suspect", self.view[node].epoch, now_ns, "beat")
        return silent

    def on_delivery(self, node: str, now_ns: int) -> bool:
        """Take in that a frame came before its step's deadline; return whether the node's state changed."""
        self._records[node].strikes = 0
        known = self.view[node]
        return known.state == "slow" and self._change(node, "alive", known.epoch, now_ns, "frame")

    def on_missed_deadline(self, node: str, opened_ns: int, now_ns: int) -> bool:
        """Take in that a step opened at `opened_ns` was cut off without this node; return whether it is slow now.

        One hold-up cuts off every step under way, and counts once.
        """
        record = self._records[node]
        if opened_ns < record.struck_ns:
            return False
        record.strikes += 1
        record.struck_ns = now_ns
        known = self.view[node]
        is_slow = record.strikes >= self._missed and known.state == "alive"
        return is_slow and self._change(node, "slow", known.epoch, now_ns, "deadline")

    def restart(self, now_ns: int) -> None:
        """Forgive everyone's silence: the observer itself was cut off."""
        for record in self._records.values():
            record.pulse.restart(now_ns)

    def _is_possible(self, node: str, epoch: int) -> bool:
        """Whether the node may be living in this epoch, for all that is known."""
        known, told = self.view[node], self._told.get(node)
        if epoch == known.epoch:
            return known.state not in _OVER
        is_told = told is not None and told.online and told.epoch == epoch
        return is_told or known.epoch < 0 or is_later(epoch, known.epoch)

    def _begin(self, node: str, epoch: int, now_ns: int, layer: Layer) -> bool:
        self._records[node] = record = _Record(self._missed)
        record.pulse.restart(now_ns)
        return self._change(node, "alive", epoch, now_ns, layer)

    def _change(self, node: str, state: State, epoch: int, now_ns: int, layer: Layer) -> bool:
        known = self.view[node]
        if (known.state, known.epoch) == (state, epoch):
            return False
        self.view[node] = Sensed(state=state, epoch=epoch, since_ns=now_ns, layer=layer)
        return True
