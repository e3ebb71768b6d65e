"""Records the ups and downs of a fleet in normal running, as its sink tells them; feeds and commands nothing."""

import time
from collections.abc import Callable, Sequence

import msgspec

from benchmarks.drilled import Change, Stretch
from benchmarks.sightings import Sightings
from benchmarks.told import SILENT_S
from broker.errors import FailureFound, FogError
from broker.link import Link
from broker.presence import Sensed
from broker.tls import Tls
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.bundle import Manifest
from edge_agent.metrics import Metrics

_decode_metrics = msgspec.json.Decoder(Metrics).decode


class Seen(msgspec.Struct, kw_only=True):
    """What was recorded; times are seconds from the beginning.

    Attributes:
        order: The nodes that can fail.
        elapsed_s: How long it took so far.
        finished: Whether it is over.
        changes: From when on the sink saw a node in another state; all alive before the first.
        stretches: When the sink told anything, with the mask "seen", and when it did not, with none.
    """

    order: tuple[str, ...]
    elapsed_s: float = 0.0
    finished: bool = False
    changes: list[Change] = []
    stretches: list[Stretch] = []


class Observer:
    """Turns what the sink tells into ups and downs. Pure: time comes in."""

    def __init__(self, order: Sequence[str]) -> None:
        self.seen = Seen(order=tuple(order))
        self._sightings = Sightings(order)
        self._told_s = -SILENT_S
        self.unknown: list[str] = []
        """Nodes that the sink knows nothing of: the fleet is another one."""
        self.on_time(0.0)

    @property
    def is_told(self) -> bool:
        """Whether the sink tells anything now."""
        return self.seen.stretches[-1].mask != ""

    def on_view(self, at_s: float, view: dict[str, Sensed]) -> list[Change]:
        """Take in how the sink sees its ancestors; return what changed."""
        self._told_s = at_s = round(at_s, 4)
        self.on_time(at_s)
        self.unknown = [node for node in self.seen.order if node not in view]
        fresh = self._sightings.look(at_s, view)
        self.seen.changes += fresh
        return fresh

    def on_time(self, at_s: float) -> None:
        """Take in that time has passed; a sink that tells nothing for too long has seen nothing since it told last."""
        at_s = round(at_s, 4)
        mask = "seen" if at_s - self._told_s < SILENT_S else ""
        stretches = self.seen.stretches
        if not stretches or stretches[-1].mask != mask:
            since_s = at_s if mask or not stretches else min(at_s, max(self._told_s, stretches[-1].from_s))
            if stretches:
                stretches[-1].to_s = since_s
            stretches.append(Stretch(mask=mask, from_s=since_s, to_s=at_s))
        stretches[-1].to_s = self.seen.elapsed_s = at_s


def observe(
    brokers: Sequence[BrokerUrl],
    fleet: str,
    manifest: Manifest,
    seconds: float,
    keep: Callable[[Seen], None],
    say: Callable[[str], None],
    tls: Tls | None = None,
) -> Seen:
    """Record a fleet for so many seconds; `keep` is called every second, `say` with every change.

    Raises FogError if the fleet is another one, FailureFound if nothing was heard of it in all the time.
    """
    observer, sink = Observer(manifest.order), f"{manifest.sink} of fleet {fleet}"
    was_told: bool | None = None
    began_s = time.monotonic()

    def on_message(_topic: str, payload: bytes) -> None:
        try:
            view = _decode_metrics(payload).view
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # no word of the sink's
        for change in observer.on_view(time.monotonic() - began_s, view):
            say(f"{change.at_s:.1f} s: {change.node} is {change.state}")

    topic = Topics(fleet).metrics(manifest.sink)
    client_id = f"{fleet}-observer-{time.time_ns()}"
    with Link(
        brokers[0], client_id, others=brokers[1:], subscriptions=[(topic, 0)], on_message=on_message, tls=tls
    ) as link:
        link.connect()
        try:
            while (at_s := time.monotonic() - began_s) < seconds:
                link.poll_until(lambda: False, min(1.0, seconds - at_s))
                observer.on_time(at_s := time.monotonic() - began_s)
                if observer.unknown:
                    raise FogError(
                        f"{sink} knows no {', '.join(observer.unknown)}: it runs another bundle than this one"
                    )
                if at_s >= SILENT_S and observer.is_told != was_told:
                    was_told = observer.is_told
                    say(f"{at_s:.1f} s: {sink} tells who is up" if was_told else f"{at_s:.1f} s: {sink} is silent")
                keep(observer.seen)
            observer.seen.finished = True
            if not any(stretch.mask for stretch in observer.seen.stretches):
                raise FailureFound(f"nothing was heard of {sink}: does it run, and is that its name?")
        finally:
            keep(observer.seen)
    return observer.seen
