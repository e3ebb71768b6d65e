"""What pulls the plugs: signals to the agents of this machine, or nobody; lab_hands.py has those of a lab."""

from typing import Protocol

from benchmarks.scenario import Verb
from broker.errors import FogError
from provisioning.local import LocalFleet


class Hands(Protocol):
    """Do things to nodes, and undo them."""

    def do(self, verb: Verb, node: str) -> None:
        """Let something go wrong with a node."""

    def undo(self, verb: Verb, node: str) -> None:
        """Bring it back."""

    def check(self) -> None:
        """Raise a FogError if something could not be done, or went wrong by itself."""

    def finish(self) -> None:
        """Return when all is done that was asked for; raises what that raised."""


class LocalHands:
    """Signals to agents that run here; who is killed or stopped is started anew."""

    def __init__(self, agents: LocalFleet) -> None:
        self._agents = agents

    def do(self, verb: Verb, node: str) -> None:
        """Kill, stop or freeze an agent."""
        agents = self._agents
        {"kill": agents.kill, "stop": agents.stop, "freeze": agents.freeze}[verb]([node])

    def undo(self, verb: Verb, node: str) -> None:
        """Thaw or start an agent."""
        (self._agents.thaw if verb == "freeze" else self._agents.start)([node])

    def check(self) -> None:
        """Raise AgentDied if an agent ended that was let alone."""
        self._agents.require_running()

    def finish(self) -> None:
        """Return: all is done at once."""


class NoHands:
    """Those of the operator: nothing is done from here."""

    def do(self, verb: Verb, node: str) -> None:
        """Raise: nobody should have asked."""
        raise FogError(f"{node} runs elsewhere: nobody can {verb} it from here")

    undo = do

    def check(self) -> None:
        """Return: whatever happens is what we came for."""

    def finish(self) -> None:
        """Return: nothing was done."""
