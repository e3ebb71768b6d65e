"""The topics of one fleet, all under `fog/<fleet>/`."""

import re
from dataclasses import dataclass

from broker.errors import FogError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def require_name(name: str, what: str) -> str:
    """Return `name` if it can stand in a topic, a file name and a client id; else raise FogError."""
    if not _NAME.fullmatch(name):
        raise FogError(f"{what} {name!r}: use letters, digits, '-' and '_', beginning with a letter or digit")
    return name


@dataclass(frozen=True)
class Topics:
    """Where the nodes of `fleet` publish."""

    fleet: str

    def tensor(self, node: str) -> str:
        """One frame a step: the node's output vector, published once for all who subscribe."""
        return f"fog/{self.fleet}/{node}/tensor"

    def status(self, node: str) -> str:
        """Retained birth and death of a node."""
        return f"fog/{self.fleet}/{node}/status"

    def beat(self, node: str) -> str:
        """A node's signs of life, several a second."""
        return f"fog/{self.fleet}/{node}/beat"

    def metrics(self, node: str) -> str:
        """Counters, and how the node sees its ancestors."""
        return f"fog/{self.fleet}/{node}/metrics"

    def cmd(self, node: str) -> str:
        """Requests to a node, from the operator alone."""
        return f"fog/{self.fleet}/{node}/cmd"

    def reply(self, node: str) -> str:
        """A node's replies to requests."""
        return f"fog/{self.fleet}/{node}/reply"

    def below(self, topic_filter: str) -> str:
        """Return a filter over the topics of this fleet."""
        return f"fog/{self.fleet}/{topic_filter}"

    @property
    def step(self) -> str:
        """One null frame a step from the source to the sink, so that every step is answered."""
        return f"fog/{self.fleet}/step"

    @property
    def result(self) -> str:
        """The sink's answers."""
        return f"fog/{self.fleet}/result"
