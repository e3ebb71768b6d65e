"""Smart plugs that are switched over MQTT, in the words of their kind."""

import time
from collections.abc import Mapping
from typing import Final

from benchmarks.plug_kinds import kind_of
from benchmarks.scenario import Harm
from broker.errors import FailureFound, FogError
from broker.link import Link
from provisioning.plug import EXAMPLE, FORM, Plug, parse_plug

_TAKEN_S: Final = 3.0


class Plugs:
    """The plugs of a fleet's devices, by their nodes."""

    def __init__(self, plugs: Mapping[str, Plug]) -> None:
        self._plugs = plugs

    def do(self, harm: Harm, node: str) -> int:
        """Switch a device off; raises FailureFound if the plug's broker does not take that."""
        if harm.verb != "power":
            raise FogError(f"a plug is switched off and on: {harm.verb} is nothing that it can do")
        return self._switch(node, is_on=False)

    def undo(self, harm: Harm, node: str) -> int:  # noqa: ARG002 - all that a plug does is undone alike
        """Switch it on."""
        return self._switch(node, is_on=True)

    def finish(self) -> None:
        """Return: plugs need no preparation."""

    def _switch(self, node: str, *, is_on: bool) -> int:
        if node not in self._plugs:
            raise FogError(f"{node} has no plug: --plug {node}={FORM} names it, or `plug` in fleet.toml")
        broker, topic = self._plugs[node]
        kind = kind_of(topic)
        word = kind.on if is_on else kind.off
        with Link(broker, f"fogguard-plug-{time.time_ns()}") as link:
            link.connect()
            began_ns = time.monotonic_ns()
            if not link.publish_confirmed(topic, word, retain=False, timeout_s=_TAKEN_S):
                raise FailureFound(f"{broker} did not take {word.decode()!r} for {node}'s plug")
        return began_ns


def plug_of(choice: str) -> tuple[str, Plug]:
    """Return the node and the plug in `NODE=mqtt://HOST:PORT/TOPIC`; raises FogError."""
    node, equals, where = choice.partition("=")
    if not (node and equals):
        raise FogError(f"--plug {choice}: write NODE={FORM}, such as f1={EXAMPLE}")
    return node, parse_plug(where, f"--plug {node}:")
