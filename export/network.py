"""The network in torch: one module per physical node, joined by hyperconnections.

A vector that is absent stays out of the Add of Eq. (1); it is never a vector of zeros that went through a bias.
Each row of a batch may have its own node failure combination.

Several seeds train as one network: then every weight has a leading dimension of seeds, and so have the vectors that
depend on weights. What a sensor puts out is the same for all. Shapes below leave that dimension out.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from edge_agent.session import Floats
from export.sharing import Shared, compute, share
from export.spec import Partition, Spec
from export.variants import Variant

Draw = Callable[[int, int], Tensor]
"""Draws first weights: (in, out) uniform values within 1/√in, for every seed."""


class Source(NamedTuple):
    """One input of a node: its width, whether it is a sensor, its weight, and the inputs it goes past if a skip."""

    width: int
    sensor: bool = False
    weight: float = 1.0
    past: tuple[int, ...] = ()


class Linear(nn.Module):
    """A fully connected layer; weights are (seeds, in, out), or (in, out) for a single network."""

    def __init__(self, width: int, wider: int, draw: Draw) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(width, wider))
        self.bias = nn.Parameter(draw(width, wider)[..., :1, :].clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, out) for (batch, in)."""
        return _product(x, self.weight).add_(self.bias)


class Map(nn.Module):
    """A linear map on arrival, at first the zero padding that it stands for; without a bias: from Φ comes Φ."""

    def __init__(self, width: int, wider: int, draw: Draw) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(width, wider).expand(*draw(1, 1).shape[:-2], width, wider).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, wider) for (batch, width)."""
        return _product(x, self.weight)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Return (batch, out) for (batch, in) and (in, out); vectors that all seeds share take one wide product."""
    if weight.ndim == 3 and x.ndim == 2:
        seeds, width, wider = weight.shape
        wide = torch.matmul(x, weight.transpose(0, 1).reshape(width, seeds * wider))
        return wide.view(len(x), seeds, wider).transpose(0, 1).contiguous()
    return torch.matmul(x, weight)


class Join(nn.Module):
    """The Add of Eq. (1), with its weights, and the expansion layer.

    Args:
        sources: What comes in.
        variant: Its options.
        draw: Draws first weights.
    """

    fixed: Tensor

    def __init__(self, sources: Sequence[Source], variant: Variant, draw: Draw) -> None:
        super().__init__()
        self.width = max(source.width for source in sources)
        self.past = [list(source.past) if variant.mux else [] for source in sources]
        self.normalise = variant.normalise
        self.maps = nn.ModuleDict()
        for position, source in enumerate(sources):
            other_width = source.width != self.width
            if (other_width and variant.maps != "none") or (
                variant.maps == "all" and len(sources) > 1 and not source.sensor
            ):
                self.maps[str(position)] = Map(source.width, self.width, draw)
        self.register_buffer("fixed", torch.tensor([source.weight for source in sources]), persistent=False)
        like = draw(1, 1)
        self.weights = (
            nn.ParameterList([torch.ones_like(like) for _ in sources]) if variant.weights == "learned" else None
        )
        self.plain = all(source.weight == 1 for source in sources)

    def forward(self, xs: Sequence[Tensor], present: Tensor | None) -> Tensor:
        """Return the (batch, width) Add of one (batch, width_i) tensor per source, zeros where absent.

        `present` is (batch, sources), 1 where a vector is there; only mux and normalise look at it.
        """
        weighted = []
        for position, x in enumerate(xs):
            if str(position) in self.maps:
                x = self.maps[str(position)](x)
            elif x.shape[-1] < self.width:
                x = pad(x, (0, self.width - x.shape[-1]))
            if self.weights is not None:
                x = x * self.weights[position]
            elif not self.plain:
                x = x * self.fixed[position]
            if self.past[position] and present is not None:
                x = x * (1 - present[..., self.past[position]].amax(dim=-1, keepdim=True))
            weighted.append(x)
        total = functools.reduce(torch.add, weighted)
        if self.normalise and present is not None:
            total = total / present.mean(dim=-1, keepdim=True).clamp(min=1 / len(xs))
        return total


class Node(nn.Module):
    """One physical node: the Add of its inputs, then its units.

    Args:
        sources: What comes in.
        partition: The units.
        variant: The options of the Add.
        draw: Draws first weights.
        classes: At the sink, how many classes to answer with; else 0.
    """

    def __init__(
        self, sources: Sequence[Source], partition: Partition, variant: Variant, draw: Draw, classes: int = 0
    ) -> None:
        super().__init__()
        self.told = variant.told
        self.join = Join(sources, variant, draw)
        self.units = build_units(partition, self.join.width, draw)
        self.width = partition.layers[-1]
        if classes:
            self.units.append(Linear(self.width, classes, draw))
            self.width = classes

    def forward(self, *xs: Tensor) -> Tensor:
        """Return (batch, width) for one (batch, width_i) tensor per source, zeros where absent.

        If `told`, one more: (batch, sources), 1 where a vector is present.
        """
        present = xs[-1] if self.told else None
        y: Tensor = self.units(self.join(xs[:-1] if self.told else xs, present))
        return y


class Sensor(nn.Module):
    """What stands at a sensor: raw values, standardised as in training."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.width = len(mean)

    def forward(self, *xs: Tensor) -> Tensor:
        """Return (batch, width) for one (batch, width) tensor of raw values."""
        (raw,) = xs
        return (raw - self.mean) / self.scale


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
        self.inputs = spec.inputs(skips=variant.skips)
        self.sensors = nn.ModuleDict(dict(sensors))
        self.nodes = nn.ModuleDict()
        self.widths = dict(spec.sensors)
        draw = _drawer(seeds)
        for name in self.inputs:
            classes_here = classes if name == spec.sink else 0
            node = Node(self._sources(name), spec.nodes[name].partition, variant, draw, classes_here)
            self.nodes[name] = node
            self.widths[name] = node.width

    def _sources(self, name: str) -> list[Source]:
        names = self.inputs[name]
        reliability = self.spec.settings.get(self.variant.reliability, {})
        r = [reliability.get(source, 1.0) for source in names]
        match self.variant.weights:
            case "reliability":
                weights = r
            case "normalised":
                weights = [each / sum(r) for each in r]
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
        values = {name: self.sensors[name](x) for name, x in raw.items()}
        present: dict[str, Tensor | None] = dict.fromkeys(values)  # None: always there
        for name, sources in self.inputs.items():
            there = [present[source] for source in sources]
            xs = [values[source] for source in sources]
            if draws > 1 and any(here is not None for here in there):
                xs = [
                    x.repeat(*(1 for _ in x.shape[:-2]), draws, 1) if here is None else x
                    for x, here in zip(xs, there, strict=True)
                ]
            y = self.nodes[name](*xs, *self._told(xs, there))
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
        sensed = {name: self.sensors[name](x) for name, x in raw.items()}
        return compute(shared, self.inputs, sensed, self.run_node, self.spec.sink)

    def run_node(self, name: str, xs: list[Tensor | None]) -> Tensor:
        """Return what a node puts out for one (batch, width_i) tensor or None (absent) per source."""
        here = next(x for x in xs if x is not None)
        rows, seeds = here.shape[-2], () if self.seeds is None else (len(self.seeds),)
        widths = [self.widths[source] for source in self.inputs[name]]
        full = [here.new_zeros(1, width).expand(rows, width) if x is None else x for x, width in zip(xs, widths)]  # noqa: B905
        told = here.new_tensor([[float(x is not None) for x in xs]]).expand(*seeds, rows, len(xs))
        y: Tensor = self.nodes[name](*full, *([told] if self.variant.told else []))
        return y


def build_units(partition: Partition, width: int, draw: Draw) -> nn.Sequential:
    """Return the layers of a partition that takes `width` values."""
    units = nn.Sequential()
    for wider in partition.layers:
        units.append(Linear(width, wider, draw))
        units.append(nn.ReLU(inplace=True))
        width = wider
    return units


def _drawer(seeds: Sequence[int] | None) -> Draw:
    """Return what draws first weights, each seed from its own stream."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds or ()]

    def draw(width: int, wider: int) -> Tensor:
        if seeds is None:
            return torch.zeros(width, wider)
        limit = 1 / math.sqrt(width)
        drawn = [torch.empty(width, wider).uniform_(-limit, limit, generator=generator) for generator in generators]
        return torch.stack(drawn)

    return draw
