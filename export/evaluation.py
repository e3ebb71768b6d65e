"""What a network answers under every node failure combination.

The composed parts are run as the fleet runs them: one graph a node, absent vectors absent. A node's output
depends only on which of its ancestors are alive, so equal sub-masks are computed once.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from edge_agent.agent import load_session
from edge_agent.bundle import Bundle
from edge_agent.flow import ancestors
from edge_agent.session import Floats
from export.data.rows import Integers
from export.failures import GUESS, alive_nodes

Vectors = Floats | None
"""(rows, width) values, or None for the null vector."""


class Composed:
    """A bundle's parts in this process."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest = bundle.manifest
        self._sessions = {name: load_session(bundle, name, threads) for name in bundle.manifest.names}

    def sensed(self, raw: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return what each sensor puts out for raw (rows, width) values."""
        return {name: self._sessions[name].run([raw[name]]) for name in self.manifest.sensors}

    def logits(self, raw: Mapping[str, Floats], masks: Iterable[str]) -> dict[str, Vectors]:
        """Return the sink's (rows, classes) logits under each mask, None where no information reaches it."""
        sensed = self.sensed(raw)
        known: dict[tuple[str, frozenset[str]], Vectors] = {}
        return {mask: self._answer(mask, sensed, known) for mask in masks}

    def _answer(
        self, mask: str, sensed: Mapping[str, Floats], known: dict[tuple[str, frozenset[str]], Vectors]
    ) -> Vectors:
        """Return the sink's logits under `mask`; `known` holds what other masks have computed, by living ancestors."""
        inputs = self.manifest.inputs
        alive = alive_nodes(mask, self.manifest.order) | {self.manifest.sink}
        values: dict[str, Vectors] = dict(sensed)
        for name, sources in inputs.items():
            if name not in alive:
                values[name] = None
                continue
            key = (name, ancestors(inputs, name) & alive)
            if key not in known:
                xs = [values[source] for source in sources]
                known[key] = None if all(x is None for x in xs) else self._sessions[name].run(xs)
            values[name] = known[key]
        return values[self.manifest.sink]


def labels(logits: Vectors, rows: int) -> Integers:
    """Return (rows,) labels, GUESS where there are no logits."""
    return np.full(rows, GUESS) if logits is None else logits.argmax(axis=1)
