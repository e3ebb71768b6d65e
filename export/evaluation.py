"""What a network answers under every node failure combination, and how often it is right.

The composed parts are run as the fleet runs them: one graph a node, absent vectors absent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from broker.frame import Vector
from edge_agent.bundle import Bundle
from edge_agent.loading import load_session
from edge_agent.session import Floats
from export.data.rows import Integers
from export.failures import GUESS, combinations_of_masks
from export.heldout import HeldOut
from export.sharing import Shared, compute, share

Vectors = Floats | None
"""(rows, width) values, or None for the null vector."""
BYTES_AT_ONCE = 256 << 20
"""About how many bytes of vectors are kept at once, if a vector has 1024."""
BYTES_PER_VECTOR = 1024
Progress = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


class Model(Protocol):
    """A network that can be asked for its answers: trained seeds in torch, or a bundle's parts in onnxruntime."""

    def shared(self, alive: npt.NDArray[np.bool_]) -> Shared:
        """Return the distinct states of the nodes under (combinations, nodes that can fail) `alive`."""

    def logits(self, raw: Mapping[str, Floats], shared: Shared) -> list[Floats]:
        """Return the sink's (rows, classes) or (seeds, rows, classes) logits in each of its states but Φ."""


class Composed:
    """A bundle's parts in this process."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.manifest = bundle.manifest
        self._sessions = {name: load_session(bundle, name, threads) for name in bundle.manifest.names}

    def sensed(self, raw: Mapping[str, Floats]) -> dict[str, Vector]:
        """Return what each sensor puts out for raw (rows, width) values."""
        return {name: self._sessions[name].run([raw[name]]) for name in self.manifest.sensors}

    def shared(self, alive: npt.NDArray[np.bool_]) -> Shared:
        """Return the distinct states of the nodes under (combinations, nodes that can fail) `alive`."""
        return share(self.manifest.inputs, self.manifest.order, self.manifest.sink, alive)

    def logits(self, raw: Mapping[str, Floats], shared: Shared) -> list[Floats]:
        """Return the sink's (rows, classes) logits in each of its states but Φ."""
        found = compute(shared, self.manifest.inputs, self.sensed(raw), self.run_node, self.manifest.sink)
        return [np.asarray(logits, np.float32) for logits in found]

    def run_node(self, name: str, xs: list[Vector | None]) -> Vector:
        """Return what a node puts out for one (rows, width) array or None (absent) per source."""
        return self._sessions[name].run(xs)


def logits_by_mask(model: Model, raw: Mapping[str, Floats], masks: Sequence[str]) -> dict[str, Vectors]:
    """Return the sink's logits under each mask, None where no information reaches it."""
    shared = model.shared(combinations_of_masks(masks))
    answers: list[Vectors] = [None, *model.logits(raw, shared)]
    return {mask: answers[state] for mask, state in zip(masks, shared.sink.tolist(), strict=True)}


def accuracies(
    model: Model,
    held_out: HeldOut,
    prior: Sequence[float],
    alive: npt.NDArray[np.bool_],
    seeds: int = 1,
    progress: Progress = lambda _done, _rows: None,
) -> npt.NDArray[np.float64]:
    """Return A(G∅B), (combinations, seeds): the accuracy under each combination, a guess counting as its expectation.

    Args:
        model: One network, or several seeds of one.
        held_out: The rows.
        prior: The class frequencies in training, which guesses are drawn from.
        alive: (combinations, nodes that can fail).
        seeds: How many the model has.
        progress: Told about each portion of rows.
    """
    shared = model.shared(alive)
    rows = len(held_out.truth)
    portion = max(64, BYTES_AT_ONCE // (BYTES_PER_VECTOR * seeds * max(1, shared.runs)))
    right: list[npt.NDArray[np.float64]] = []
    for start in range(0, rows, portion):
        truth = held_out.truth[start : start + portion]
        raw = {name: values[start : start + portion] for name, values in held_out.raw.items()}
        counts = np.array([np.atleast_1d((each.argmax(-1) == truth).sum(-1)) for each in model.logits(raw, shared)])
        right.append(counts)
        progress(min(rows, start + portion), rows)
    guess = np.full((1, right[0].shape[1]), chance(held_out, prior))
    found: npt.NDArray[np.float64] = np.concatenate([guess, sum(right) / rows])[shared.sink]
    return found


def chance(held_out: HeldOut, prior: Sequence[float]) -> float:
    """Return the expected accuracy of the random guess."""
    return float(np.asarray(prior)[held_out.truth].mean())


def labels(logits: Vectors, rows: int) -> Integers:
    """Return (rows,) labels, GUESS where there are no logits."""
    return np.full(rows, GUESS) if logits is None else logits.argmax(axis=1)
