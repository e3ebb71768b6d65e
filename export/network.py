"""The network in torch: one module per physical node, joined by hyperconnections.

A vector that is absent stays out of the Add of Eq. (1); it is never a vector of zeros that went through a bias.
Each row of a batch may have its own node failure combination.

Several seeds train as one network: then every weight has a leading dimension of seeds, and so have the vectors that
depend on weights. What a sensor puts out is the same for all. Shapes below leave that dimension out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge_agent.session import Floats
from export.node import Draw, Node, Sensor, Source
from export.sharing import Shared, compute, share
from export.spec import Spec
from export.variants import Variant, VariantError
from export.wire import FLOAT32, Wire


class Network(nn.Module):
    """All nodes of a fog, and which of them a row's failure combination leaves alive.

    Args:
        spec: The fog.
        classes: How many classes the sink answers with.
        sensors: One per sensor of `spec`.
        variant: The options of the model.
        seeds: Of the first weights; None for a single network whose weights will be loaded.
    """

    def __init__(
        self,
        spec: Spec,
        classes: int,
        sensors: Mapping[str, Sensor],
        variant: Variant,
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.variant = variant
        self.seeds = seeds
        self.wires: Mapping[str, Wire] = {}
        """How outputs travel, if not as float32."""
        self.inputs = spec.inputs(skips=variant.skips)
        self.nodes = nn.ModuleDict()
        if taken := [name for name in (*spec.sensors, *spec.nodes) if hasattr(self.nodes, name)]:
            raise VariantError(f"{spec.name}: torch calls something of its own {taken[0]!r}: choose another name")
        self.sensors = nn.ModuleDict(dict(sensors))
        self.widths = dict(spec.sensors)
        draw = _drawer(seeds, variant.initial)
        for name in self.inputs:
            classes_here = classes if name == spec.sink else 0
            node = Node(self._sources(name), spec.nodes[name].partition, variant, draw, classes_here)
            self.nodes[name] = node
            if variant.initial == "glorot":
                node.clear_biases()
            self.widths[name] = node.width

    def _sources(self, name: str) -> list[Source]:
        names = self.inputs[name]
        reliability = self.spec.settings.get(self.variant.reliability, {})
        r = [reliability.get(source, 1.0) for source in names]
        match self.variant.weights:
            case "reliability":
                weights = r
            case "normalised" if sum(r) > 0:
                weights = [each / sum(r) for each in r]
            case "normalised":  # none of them is ever alive in this setting, which prefers none
                weights = [1 / len(r)] * len(r)
            case _:
                weights = [1.0] * len(names)
        past = self.spec.skips_past(name)
        return [
            Source(
                self.widths[source], source in self.spec.sensors, weight, tuple(map(names.index, past.get(source, ())))
            )
            for source, weight in zip(names, weights, strict=True)
        ]

    def forward(self, raw: Mapping[str, Tensor], alive: Tensor | None, draws: int = 1) -> tuple[Tensor, Tensor]:
        """Return the sink's logits and whether any information reached it.

        Args:
            raw: Per sensor, (batch, width) raw values.
            alive: (batch or 1, nodes that can fail) bool, in the order of the specification; None if all are.
            draws: How many combinations there are for each row: then `alive` and what is returned have
                draws x batch rows, and what no failure can change is computed once.

        Returns:
            (batch, classes) logits, meaningless where the second, (batch or 1,) bool, is false.
        """
        values = self._sensed(raw)
        present: dict[str, Tensor | None] = dict.fromkeys(values)  # None: always there
        for name, sources in self.inputs.items():
            there = [present[source] for source in sources]
            xs = [values[source] for source in sources]
            if draws > 1 and any(here is not None for here in there):
                xs = [
                    x.repeat(*(1 for _ in x.shape[:-2]), draws, 1) if here is None else x
                    for x, here in zip(xs, there, strict=True)
                ]
            y = self._sent(name, self.nodes[name](*xs, *self._told(xs, there)))
            known = [here for here in there if here is not None]
            speaks = torch.stack(known).any(dim=0) if len(known) == len(there) else None
            if name in self.spec.order and alive is not None:
                up = alive[..., self.spec.order.index(name)]
                speaks = up if speaks is None else speaks & up
            present[name] = speaks
            if draws > 1 and speaks is not None and all(here is None for here in there):
                y = y.repeat(*(1 for _ in y.shape[:-2]), draws, 1)
            values[name] = y if speaks is None or name == self.spec.sink else torch.where(speaks[..., None], y, 0.0)
        informed = present[self.spec.sink]
        everybody = torch.ones(1, dtype=torch.bool)
        return values[self.spec.sink], everybody if informed is None else informed

    def _sensed(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the sensors put out; a data set may have more than the specification takes."""
        return {name: self._sent(name, sensor(raw[name])) for name, sensor in self.sensors.items()}

    def _sent(self, name: str, y: Tensor) -> Tensor:
        """Return what is left of an output on arrival."""
        return self.wires.get(name, FLOAT32).rounded(y)

    def _told(self, xs: Sequence[Tensor], there: Sequence[Tensor | None]) -> list[Tensor]:
        """Return the (batch, sources) presence that the variant's nodes are told, or nothing."""
        if not self.variant.told:
            return []
        shape = max((x.shape[:-1] for x in xs), key=len)
        return [
            torch.stack(
                [xs[0].new_ones(shape) if here is None else here.to(xs[0].dtype).expand(shape) for here in there], -1
            )
        ]

    def shared(self, alive: npt.NDArray[np.bool_]) -> Shared:
        """Return the distinct states of the nodes under (combinations, nodes that can fail) `alive`."""
        return share(self.inputs, self.spec.order, self.spec.sink, alive)

    @torch.inference_mode()
    def logits(self, raw: Mapping[str, Floats], shared: Shared) -> list[Floats]:
        """Return the sink's (rows, classes), of all seeds (seeds, rows, classes), logits in each of its states."""
        return [found.numpy() for found in self.answers({name: torch.from_numpy(x) for name, x in raw.items()}, shared)]

    def answers(self, raw: Mapping[str, Tensor], shared: Shared) -> list[Tensor]:
        """Return the sink's logits in each of its states, every node run once in each of its own."""
        return compute(shared, self.inputs, self._sensed(raw), self.run_node, self.spec.sink)

    @torch.inference_mode()
    def greatest(self, raw: Mapping[str, Tensor], shared: Shared) -> dict[str, float]:
        """Return the largest magnitude that each sensor and node puts out in any of its states."""
        sensed = self._sensed(raw)
        found = {name: float(x.abs().max()) for name, x in sensed.items()}

        def run(name: str, xs: list[Tensor | None]) -> Tensor:
            y = self.run_node(name, xs)
            found[name] = max(found.get(name, 0.0), float(y.abs().max()))
            return y

        compute(shared, self.inputs, sensed, run, self.spec.sink)
        return found

    def run_node(self, name: str, xs: list[Tensor | None]) -> Tensor:
        """Return what a node puts out for one (batch, width_i) tensor or None (absent) per source."""
        here = next(x for x in xs if x is not None)
        rows, seeds = here.shape[-2], () if self.seeds is None else (len(self.seeds),)
        widths = [self.widths[source] for source in self.inputs[name]]
        full = [here.new_zeros(1, width).expand(rows, width) if x is None else x for x, width in zip(xs, widths)]  # noqa: B905
        told = here.new_tensor([[float(x is not None) for x in xs]]).expand(*seeds, rows, len(xs))
        return self._sent(name, self.nodes[name](*full, *([told] if self.variant.told else [])))


def _drawer(seeds: Sequence[int] | None, initial: Literal["uniform", "glorot"]) -> Draw:
    """Return what draws first weights, each seed from its own stream."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds or ()]

    def draw(width: int, wider: int) -> Tensor:
        if seeds is None:
            return torch.zeros(width, wider)
        limit = math.sqrt(6 / (width + wider)) if initial == "glorot" else 1 / math.sqrt(width)
        drawn = [torch.empty(width, wider).uniform_(-limit, limit, generator=generator) for generator in generators]
        return torch.stack(drawn)

    return draw
