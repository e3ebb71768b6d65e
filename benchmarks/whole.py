"""The baseline of one device: all of a bundle's graphs, one after the other in this process, nothing in between."""

import time
from collections.abc import Mapping

from benchmarks.stages import quantiles
from broker.frame import Vector
from edge_agent.bundle import Bundle
from edge_agent.loading import load_session

_WARM_UP = 20


def time_whole(bundle: Bundle, sensed: Mapping[str, Vector], steps: int) -> dict[str, float]:
    """Return quantiles in ms of a step of the whole network."""
    inputs = bundle.manifest.inputs
    sessions = {node: load_session(bundle, node) for node in inputs}
    whole_ms: list[float] = []
    for number in range(_WARM_UP + steps):
        vectors = {sensor: rows[number % len(rows)] for sensor, rows in sensed.items()}
        began_ns = time.perf_counter_ns()
        for node, sources in inputs.items():
            vectors[node] = sessions[node].step([vectors[source] for source in sources])
        whole_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
    return quantiles(whole_ms[_WARM_UP:])
