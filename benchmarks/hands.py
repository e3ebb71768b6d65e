"""What pulls the plugs: signals to the agents of this machine, a process of its own for a lab, or the operator."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from benchmarks.scenario import Harm
from broker.embedded import LocalBroker
from broker.errors import FogError
from provisioning.local import LocalFleet

BROKER: Final = "the broker"
"""Stands where a node stands, for what is done to the broker."""


class Hands(Protocol):
    """Do things to nodes, or to BROKER, and undo them, one after the other."""

    def do(self, harm: Harm, node: str) -> None:
        """Let something go wrong with a node."""

    def undo(self, harm: Harm, node: str) -> None:
        """Bring it back; nothing where it comes back by itself."""

    def began_ns(self) -> int | None:
        """Return when the last of what was asked for began to happen: None if it has not yet, 0 if nobody can tell."""

    def check(self) -> None:
        """Raise a FogError if something could not be done, or went wrong by itself."""

    def finish(self) -> None:
        """Undo what is still wrong, and return when all is done; raises what that raised."""


class LocalHands:
    """Signals to agents that run here; who is killed or stopped is started anew.

    Args:
        agents: They end with the block that they were started in, so nothing is left to be undone.
        broker: If it runs here too.
    """

    def __init__(self, agents: LocalFleet, broker: LocalBroker | None = None) -> None:
        self._agents, self._broker = agents, broker
        self._began_ns = 0

    def do(self, harm: Harm, node: str) -> None:
        """Kill, stop, freeze or restart an agent, or kill the broker, which is started again at once."""
        self._began_ns = time.monotonic_ns()
        agents = self._agents
        if node == BROKER and self._broker is not None:
            self._broker.restart()
        elif harm.verb == "restart":
            agents.stop([node])
            agents.start([node])
        else:
            {"kill": agents.kill, "stop": agents.stop, "freeze": agents.freeze}[harm.verb]([node])

    def undo(self, harm: Harm, node: str) -> None:
        """Thaw or start an agent."""
        self._began_ns = time.monotonic_ns()
        if harm.verb == "freeze":
            self._agents.thaw([node])
        elif harm.verb != "restart" and node != BROKER:
            self._agents.start([node])

    def began_ns(self) -> int:
        """Return when the last thing was done."""
        return self._began_ns

    def check(self) -> None:
        """Raise AgentDied if an agent ended that was let alone."""
        self._agents.require_running()

    def finish(self) -> None:
        """Return: all is done at once."""


class NoHands:
    """Nothing is done from here: whatever happens is what we came for."""

    def do(self, harm: Harm, node: str) -> None:
        """Raise: nobody should have asked."""
        raise FogError(f"{node} runs elsewhere: nobody can {harm.verb} it from here")

    undo = do

    def began_ns(self) -> int:
        """Return that nobody can tell."""
        return 0

    def check(self) -> None:
        """Return: whatever happens is what we came for."""

    def finish(self) -> None:
        """Return: nothing was done."""


class OperatorHands(NoHands):
    """Those of the operator, who is told what to do.

    Args:
        tell: Says it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def do(self, harm: Harm, node: str) -> None:  # noqa: ARG002 - there is one way by hand
        """Ask for a device to be unplugged."""
        self._tell(f"unplug {node}")

    def undo(self, harm: Harm, node: str) -> None:  # noqa: ARG002
        """Ask for it to be plugged in again."""
        self._tell(f"plug in {node}")
