"""Metered smart plugs, read while something else is measured: what each says by itself, and what it says when asked.

Whoever measures calls now and then; nothing is read, and nobody asked, in between. Each plug has a link of its own.
"""

import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from benchmarks.plug_kinds import kind_of, watts
from broker.link import Link
from provisioning.plug import Plug

_KEPT_S: Final = 0.3  # for what a broker has kept: it is of another time
_IDLE_S: Final = 600
_ASKED_EVERY_S: Final = 1.0  # they measure no faster than that


class Meters:
    """The plugs of some nodes, as far as they can be read; raises LinkError where a plug's broker does not answer."""

    def __init__(self, plugs: Mapping[str, Plug]) -> None:
        self._kinds = {node: kind for node, plug in plugs.items() if (kind := kind_of(plug.topic)).readings}
        self._said: dict[str, list[float]] = {}
        self._asked_s = 0.0
        self._links = {
            node: Link(
                plugs[node].broker,
                f"fogguard-meter-{secrets.token_hex(8)}",
                subscriptions=[(topic, 0) for topic in kind.readings],
                on_message=partial(self._on_message, node),
                keepalive_s=_IDLE_S,
            )
            for node, kind in self._kinds.items()
        }
        self._stack = ExitStack()

    def __enter__(self) -> "Meters":
        with ExitStack() as stack:
            for link in self._links.values():
                stack.enter_context(link).connect()
            self._stack = stack.pop_all()
        for link in self._links.values():
            link.poll_until(lambda: False, _KEPT_S)
        self._said.clear()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def read_w(self) -> dict[str, list[float]]:
        """Return what each node's plug has said since the last call, and ask all of them anew."""
        for link in self._links.values():
            while link.poll(0.0):
                pass
        said, self._said = self._said, {}
        if time.monotonic() >= self._asked_s + _ASKED_EVERY_S:
            self._asked_s = time.monotonic()
            for node, kind in self._kinds.items():
                if kind.question:
                    self._links[node].publish(*kind.question)
        return said

    def _on_message(self, node: str, topic: str, payload: bytes) -> None:
        if (found := watts(self._kinds[node], topic, payload)) is not None:
            self._said.setdefault(node, []).append(found)
