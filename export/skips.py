"""Which skip hyperconnections a fog could have, and which of them are worth their bytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from broker.frame import HEADER_BYTES
from edge_agent.flow import ancestors
from export.failures import EXACT_NODES, combinations_of, probabilities
from export.spec import Spec, SpecError, changed
from export.variants import Choice

Skip = tuple[str, str]
"""Source and target."""
EXHAUSTIVE = 20_000
BEAM = 64


def legal_skips(spec: Spec) -> list[Skip]:
    """Return every skip that the simple hyperconnections allow: from a sensor or node past one or more nodes."""
    simple = {name: node.simple for name, node in spec.nodes.items()}
    names = [*spec.sensors, *spec.nodes]
    return [
        (source, target)
        for target, node in spec.nodes.items()
        for source in names
        if any(source in ancestors(simple, parent) for parent in node.simple) and source not in node.simple
    ]


def choose_skips(spec: Spec, text: str) -> list[Skip]:
    """Return the skips that `text` names.

    That is none, specified, one (all past a single node), nodes (all from a node: what a sensor says may be wide), all,
    or a list such as "e1>f1,f2>cloud".
    """
    simple = {name: node.simple for name, node in spec.nodes.items()}
    match text:
        case "none":
            return []
        case "specified":
            return [(source, name) for name, node in spec.nodes.items() for source in node.skip]
        case "all":
            return legal_skips(spec)
        case "nodes":
            return [skip for skip in legal_skips(spec) if skip[0] in spec.nodes]
        case "one":
            return [
                (source, target)
                for source, target in legal_skips(spec)
                if any(source in simple.get(parent, ()) for parent in simple[target])
            ]
    chosen = []
    for each in text.split(","):
        source, arrow, target = (part.strip() for part in each.partition(">"))
        if not arrow or target not in spec.nodes:
            raise SpecError(f"--skips {each!r}: write SOURCE>NODE, or none, specified, one, nodes, all")
        chosen.append((source, target))
    return chosen


def with_skips(spec: Spec, skips: Sequence[Skip]) -> Spec:
    """Return the specification with these skips and no others; raises SpecError for one that skips nothing."""
    return changed(spec, skips={name: [s for s, target in skips if target == name] for name in spec.nodes})


def chosen_spec(spec: Spec, choice: Choice) -> Spec:
    """Return the specification with what `choice` changes about it."""
    if choice.skips is not None:
        spec = with_skips(spec, choose_skips(spec, choice.skips))
    if choice.split is not None or choice.epochs is not None:
        spec = changed(spec, split=choice.split, epochs=choice.epochs)
    return spec


class Plan(NamedTuple):
    """A set of skips and what it is worth under one reliability setting.

    Attributes:
        skips: The set.
        lives: The probability that a living path leads from a sensor to the sink.
        heard: The expected share of the sensors that a living path leads from.
        bytes_per_step: What the skips add to the receivers' traffic; the sender publishes once whatever they are.
    """

    skips: tuple[Skip, ...]
    lives: float
    heard: float
    bytes_per_step: int


class Planner:
    """Ranks sets of skips for one reliability setting, exactly: over all 2^n failure combinations.

    Args:
        spec: The fog.
        setting: One of its reliability settings.
        most: How many skips at the most; None: any number.
        most_bytes: How many bytes a step they may add; None: any number.
    """

    def __init__(self, spec: Spec, setting: str, most: int | None = None, most_bytes: int | None = None) -> None:
        if setting not in spec.settings:
            raise SpecError(f"setting {setting!r}: {spec.name} has {', '.join(spec.settings) or 'none'}")
        if len(spec.order) > EXACT_NODES:
            raise SpecError(f"{spec.name}: {len(spec.order)} nodes can fail, skips are planned for up to {EXACT_NODES}")
        self._spec = spec
        self._candidates = legal_skips(spec)
        self._most = len(self._candidates) if most is None else min(most, len(self._candidates))
        self._most_bytes = most_bytes
        alive = combinations_of(len(spec.order))
        self._probability = probabilities(alive, [spec.settings[setting][node] for node in spec.order])
        self._alive = {node: alive[:, column] for column, node in enumerate(spec.order)}
        self.exhaustive = sum(comb(len(self._candidates), k) for k in range(self._most + 1)) <= EXHAUSTIVE

    def best(self, count: int, progress: Callable[[int, int], None] = lambda _done, _total: None) -> list[Plan]:
        """Return the best sets: likeliest to keep a path alive, then hearing most sensors, then cheapest.

        `progress` is told how many sets are judged, or in a beam search how many skips the sets have.
        """
        if not self.exhaustive:
            return sorted(self._beam(progress), key=_rank)[:count]
        plans = []
        sets = list(self._all_sets())
        for done, skips in enumerate(sets, 1):
            plans.append(self.judge(skips))
            progress(done, len(sets))
        return sorted(plans, key=_rank)[:count]

    def judge(self, skips: Sequence[Skip]) -> Plan:
        """Return what a set of skips is worth."""
        spec = self._spec
        inputs = {
            name: node.simple + tuple(source for source, target in skips if target == name)
            for name, node in spec.nodes.items()
        }
        reached = [self._reached(inputs, [sensor]) for sensor in spec.sensors]
        lives = float(self._probability @ np.logical_or.reduce(reached))
        heard = float(np.mean([self._probability @ each for each in reached]))
        return Plan(tuple(skips), lives, heard, sum(self.cost_bytes(skip) for skip in skips))

    def cost_bytes(self, skip: Skip) -> int:
        """Return what a skip adds to each step: one more copy of its source's frame."""
        source = skip[0]
        width = self._spec.sensors.get(source) or self._spec.nodes[source].partition.layers[-1]
        return HEADER_BYTES + 4 * width

    def worth(self, plan: Plan) -> dict[Skip, float]:
        """Return how much likelier each skip makes it that a path lives, given the others."""
        return {
            skip: plan.lives - self.judge([other for other in plan.skips if other != skip]).lives for skip in plan.skips
        }

    def _reached(self, inputs: Mapping[str, Sequence[str]], sensors: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return (combinations,) whether the sink hears any of `sensors`."""
        nothing = np.zeros(len(self._probability), bool)
        speaks: dict[str, npt.NDArray[np.bool_]] = dict.fromkeys(sensors, ~nothing)
        for name, sources in inputs.items():
            heard = np.logical_or.reduce([speaks.get(source, nothing) for source in sources])
            speaks[name] = heard & self._alive[name] if name in self._alive else heard
        return speaks[self._spec.sink]

    def _affordable(self, skips: Sequence[Skip]) -> bool:
        return self._most_bytes is None or sum(map(self.cost_bytes, skips)) <= self._most_bytes

    def _all_sets(self) -> Iterator[tuple[Skip, ...]]:
        for size in range(self._most + 1):
            yield from filter(self._affordable, combinations(self._candidates, size))

    def _beam(self, progress: Callable[[int, int], None]) -> list[Plan]:
        """Grow the best sets by one skip at a time, keeping the best few of each size."""
        best = [self.judge(())]
        found = [*best]
        for size in range(1, self._most + 1):
            grown = {
                frozenset((*plan.skips, skip)): (*plan.skips, skip)
                for plan in best
                for skip in self._candidates
                if skip not in plan.skips and self._affordable((*plan.skips, skip))
            }
            best = sorted(map(self.judge, grown.values()), key=_rank)[:BEAM]
            found += best
            progress(size, self._most)
        return found


def _rank(plan: Plan) -> tuple[float, float, int]:
    return (-round(plan.lives, 12), -round(plan.heard, 12), plan.bytes_per_step)
