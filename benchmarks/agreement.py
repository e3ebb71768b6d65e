"""Whom an answer must come from under a combination, and whether all nodes see that combination. Pure functions."""

from collections.abc import Mapping

from broker.presence import Sensed
from edge_agent.bundle import Manifest
from edge_agent.flow import ancestors, fed
from edge_agent.metrics import Metrics


def expected_contributors(manifest: Manifest, alive: frozenset[str]) -> frozenset[str]:
    """Return the sensors and nodes whose units are in an answer when exactly `alive` of `order` live."""
    inputs = manifest.inputs
    speaking = fed(inputs, alive | manifest.sensors.keys() | {manifest.sink})
    found: set[str] = set()
    waiting = [manifest.sink]
    while waiting:
        name = waiting.pop()
        if name in speaking and name not in found:
            found.add(name)
            waiting.extend(inputs.get(name, ()))
    return frozenset(found)


def is_seen_by_all(
    manifest: Manifest, alive: frozenset[str], births: Mapping[str, Sensed], told: Mapping[str, Metrics]
) -> bool:
    """Whether every living node sees each of its ancestors in its present life, or dead with the others.

    Args:
        manifest: Of the bundle that they run.
        alive: The nodes of `order` that live.
        births: Each node's present life, from its status.
        told: What each node told last about its view.
    """
    up = alive | {manifest.sink}
    for node in up:
        seen = ancestors(manifest.inputs, node) & manifest.nodes.keys()
        if not seen:
            continue
        if node not in told or told[node].epoch != births[node].epoch:
            return False
        view = told[node].view
        if {each for each in seen if view[each].state == "alive"} != seen & up:
            return False
        if any(view[each].epoch != births[each].epoch for each in seen & up):
            return False
    return True
