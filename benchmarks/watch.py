"""Listens to a fleet for as long as somebody wants to see it; feeds and commands nothing."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from benchmarks.watched import Snapshot, Watched
from broker.errors import FogError
from broker.link import Link
from broker.tls import Tls
from broker.url import BrokerUrl
from edge_agent.bundle import Bundle
from edge_agent.metrics import Metrics

_SETTLE_S: Final = 0.5  # what is retained comes at once
_SHOW_EVERY_S: Final = 0.5
_SHOW_CHANGES_EVERY_S: Final = 0.05
_AT_ONCE: Final = 1000


class WrongBundle(FogError):
    """The fleet runs something else than what is to be watched."""


def watch(
    bundle: Bundle,
    brokers: Sequence[BrokerUrl],
    fleet: str,
    show: Callable[[Snapshot, Mapping[str, Metrics]], None],
    tls: Tls | None = None,
) -> None:
    """Watch until interrupted; `show` is told how the fleet stands, and what each node told last.

    Raises WrongBundle, and LinkError if there is no broker when it begins; one that goes away later is waited for.
    """
    watched = Watched(bundle, fleet, time.monotonic())
    with Link(
        brokers[0],
        f"{fleet}-watch-{secrets.token_hex(4)}",
        others=brokers[1:],
        subscriptions=watched.subscriptions,
        on_message=lambda topic, payload: watched.on_message(topic, payload, time.monotonic()),
        tls=tls,
    ) as link:
        link.connect()
        link.poll_until(lambda: False, _SETTLE_S)
        if watched.are_all_strangers:
            found = ", ".join(sorted(set(watched.strangers.values())))
            raise WrongBundle(f"fleet {fleet} runs bundle {found}, not {bundle.id.hex()}: watch it with that one")
        heard_s = now_s = time.monotonic()
        watched.on_broker(link.is_up, now_s)
        shown, shown_s = 0, 0.0
        while True:
            if now_s - shown_s > (_SHOW_EVERY_S if watched.changes == shown else _SHOW_CHANGES_EVERY_S):
                shown, shown_s = watched.changes, now_s
                show(watched.snapshot(now_s), watched.metrics)
            if link.poll(_SHOW_CHANGES_EVERY_S):
                heard_s = time.monotonic()
            if any(not link.poll(0.0) for _ in range(_AT_ONCE)):  # that was all
                watched.on_time(heard_s, time.monotonic())
            if watched.has_moved and link.url != link.first:
                link.go_back()
            if link.is_up and not watched.broker_up:
                link.poll_until(lambda: False, _SETTLE_S)
            now_s = time.monotonic()
            watched.on_broker(link.is_up, now_s)
