"""Deadlines from what a fleet has measured: as short as they can be while what is cut off upstream still arrives.

A node's deadline is that of its slowest source and its own hop; a hop is a multiple of the 99th percentile of how long
the node has waited for a source. A specification knows no times, and allows for 100 ms a hop.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from broker.errors import FailureFound
from edge_agent.metrics import Metrics

LEAST_HOP_MS: Final = 5.0
LEAST_FRAMES: Final = 1000


class TooFew(FailureFound):
    """The fleet has not run for long enough."""


class Derived(NamedTuple):
    """One node's deadline, and what it comes from: 99 of 100 vectors of `source` were there within `wait_ms`."""

    source: str
    wait_ms: float
    deadline_ms: float


def derive(inputs: Mapping[str, Sequence[str]], told: Mapping[str, Metrics], margin: float) -> dict[str, Derived]:
    """Return the deadline of each node; raises TooFew.

    Args:
        inputs: The sources of each node, in an order in which every node comes after its sources.
        told: What each node counted while all were alive, under the load to come.
        margin: How many times the 99th percentile a hop may take.
    """
    found: dict[str, Derived] = {}
    for node, sources in inputs.items():
        waits = {source: told[node].sources[source] for source in sources}
        few = {source: seen.frames for source, seen in waits.items() if seen.frames < LEAST_FRAMES}
        if few:
            source, frames = min(few.items(), key=lambda each: each[1])
            raise TooFew(
                f"{node} has had {frames} vectors of {source} since it started, {LEAST_FRAMES} say something: let all "
                "nodes run for a while under the load to come"
            )
        wait_ms, source = max((seen.wait.quantile_ms(0.99), source) for source, seen in waits.items())
        slowest_ms = max((found[source].deadline_ms for source in sources if source in found), default=0.0)
        found[node] = Derived(source, wait_ms, round(slowest_ms + max(LEAST_HOP_MS, margin * wait_ms), 1))
    return found
