"""Smart plugs that are switched over MQTT, as Tasmota's and Shelly's are: `on` and `off` on a topic of their own."""

import time
from collections.abc import Iterable
from typing import Final

from benchmarks.scenario import Harm
from broker.errors import FailureFound, FogError
from broker.link import Link
from broker.url import BrokerUrl, parse_url

_TAKEN_S: Final = 3.0


class Plugs:
    """The plugs of a fleet's devices.

    Args:
        choices: For each device `NODE=mqtt://HOST:PORT/TOPIC`; raises FogError if one says something else.
    """

    def __init__(self, choices: Iterable[str]) -> None:
        self._plugs = dict(map(plug_of, choices))

    def do(self, harm: Harm, node: str) -> int:
        """Switch a device off; raises FailureFound if the plug's broker does not take that."""
        if harm.verb != "power":
            raise FogError(f"a plug is switched off and on: {harm.verb} is nothing that it can do")
        return self._switch(node, b"off")

    def undo(self, harm: Harm, node: str) -> int:  # noqa: ARG002 - all that a plug does is undone alike
        """Switch it on."""
        return self._switch(node, b"on")

    def finish(self) -> None:
        """Return: plugs need no preparation."""

    def _switch(self, node: str, word: bytes) -> int:
        if node not in self._plugs:
            raise FogError(f"{node} has no plug: --plug {node}=mqtt://HOST:PORT/TOPIC names it")
        broker, topic = self._plugs[node]
        with Link(broker, f"fogguard-plug-{time.time_ns()}") as link:
            link.connect()
            began_ns = time.monotonic_ns()
            if not link.publish_confirmed(topic, word, retain=False, timeout_s=_TAKEN_S):
                raise FailureFound(f"{broker} did not take {word.decode()!r} for {node}'s plug")
        return began_ns


def plug_of(choice: str) -> tuple[str, tuple[BrokerUrl, str]]:
    """Return the node, broker and topic in `NODE=mqtt://HOST:PORT/TOPIC`; raises FogError."""
    node, equals, where = choice.partition("=")
    scheme, slashes, rest = where.partition("://")
    host, slash, topic = rest.partition("/")
    if not (node and equals and slashes and slash and topic) or set(topic) & set("+#"):
        raise FogError(
            f"--plug {choice}: write NODE=mqtt://HOST:PORT/TOPIC, such as f1=mqtt://10.0.0.2/cmnd/plug1/POWER"
        )
    return node, (parse_url(f"{scheme}://{host}"), topic)
