"""Where information can flow: which nodes a living path from a sensor still reaches."""

from collections.abc import Collection, Mapping, Sequence


def fed(inputs: Mapping[str, Sequence[str]], alive: Collection[str]) -> frozenset[str]:
    """Return the living nodes and sensors that have something to say.

    A sensor has whenever it is alive; a node when one of its sources has. Every other node puts out the
    null vector, so nobody needs to wait for it.

    Args:
        inputs: The sources of each node, in topological order; what is a source only is a sensor.
        alive: The nodes and sensors that are alive.
    """
    speaking = {source for sources in inputs.values() for source in sources if source not in inputs} & set(alive)
    for node, sources in inputs.items():
        if node in alive and not speaking.isdisjoint(sources):
            speaking.add(node)
    return frozenset(speaking)


def ancestors(inputs: Mapping[str, Sequence[str]], node: str) -> frozenset[str]:
    """Return every node and sensor whose vector can reach `node`."""
    found: set[str] = set()
    waiting = list(inputs.get(node, ()))
    while waiting:
        source = waiting.pop()
        if source not in found:
            found.add(source)
            waiting.extend(inputs.get(source, ()))
    return frozenset(found)
