"""The modules of one physical node in torch: the Add of its inputs, and its units; and what stands at a sensor.

With several seeds every weight has a leading dimension of seeds, and so have the vectors that depend on weights. What a
sensor puts out is the same for all. Shapes below leave that dimension out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from export.spec import Partition
from export.variants import Variant

Draw = Callable[[int, int], Tensor]
"""Draws first weights: (in, out) uniform values, for every seed."""


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
    """A linear map on arrival, at first drawn, or the zero padding that it stands for.

    It has no bias: from Φ comes Φ.
    """

    def __init__(self, width: int, wider: int, draw: Draw, *, drawn: bool = False) -> None:
        super().__init__()
        padding = torch.eye(width, wider).expand(*draw(1, 1).shape[:-2], width, wider).clone()
        self.weight = nn.Parameter(draw(width, wider) if drawn else padding)

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
                self.maps[str(position)] = Map(source.width, self.width, draw, drawn=variant.initial == "glorot")
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

    def clear_biases(self) -> None:
        """Begin with biases of 0."""
        for layer in self.units:
            if isinstance(layer, Linear):
                nn.init.zeros_(layer.bias)

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


def build_units(partition: Partition, width: int, draw: Draw) -> nn.Sequential:
    """Return the layers of a partition that takes `width` values."""
    units = nn.Sequential()
    for wider in partition.layers:
        units.append(Linear(width, wider, draw))
        units.append(nn.ReLU(inplace=True))
        width = wider
    return units
