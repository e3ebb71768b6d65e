"""The network in torch: one module per physical node, joined by hyperconnections.

A vector that is absent stays out of the Add of Eq. (1); it is never a vector of zeros that went through a bias.
Each row of a batch may have its own node failure combination.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_agent.session import Floats
from export.spec import Dense, Partition, Spec


@dataclass(frozen=True)
class Variant:
    """How the network is joined and trained; the names are those of the paper and of ResiliNet."""

    skips: bool
    failout: float


VARIANTS: dict[str, Variant] = {
    "vanilla": Variant(skips=False, failout=0.0),
    "deepfogguard": Variant(skips=True, failout=0.0),
    "failout": Variant(skips=True, failout=0.1),
}


class Node(nn.Module):
    """One physical node: the Add of Eq. (1), its expansion layer, and its units.

    Args:
        widths: The width of each source, in the order of the inputs.
        partition: The units.
        classes: At the sink, how many classes to answer with; else 0.
    """

    def __init__(self, widths: Sequence[int], partition: Partition, classes: int = 0) -> None:
        super().__init__()
        self.expanded = max(widths)
        self.units, width = build_units(partition, self.expanded)
        if classes:
            self.units.append(nn.Linear(width, classes))
        self.width = classes or width

    def forward(self, *xs: Tensor) -> Tensor:
        """Return (batch, width) for one (batch, width_i) tensor per source, zeros where absent."""
        total = functional.pad(xs[0], (0, self.expanded - xs[0].shape[1]))
        for x in xs[1:]:
            total = total + functional.pad(x, (0, self.expanded - x.shape[1]))
        y: Tensor = self.units(total)
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
        skips: Whether skip hyperconnections are there.
    """

    def __init__(self, spec: Spec, classes: int, sensors: Mapping[str, Sensor], *, skips: bool) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = spec.inputs(skips=skips)
        self.sensors = nn.ModuleDict(dict(sensors))
        self.nodes = nn.ModuleDict()
        self.widths = dict(spec.sensors)
        for name, sources in self.inputs.items():
            widths = [self.widths[source] for source in sources]
            node = Node(widths, spec.nodes[name].partition, classes if name == spec.sink else 0)
            self.nodes[name] = node
            self.widths[name] = node.width

    def forward(self, raw: Mapping[str, Tensor], alive: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sink's logits and whether any information reached it.

        Args:
            raw: Per sensor, (batch, width) raw values.
            alive: (batch or 1, nodes that can fail) bool, in the order of the specification.

        Returns:
            (batch, classes) logits, meaningless where the second, (batch or 1,) bool, is false.
        """
        values: dict[str, Tensor] = {name: self.sensors[name](x) for name, x in raw.items()}
        present = dict.fromkeys(values, torch.ones_like(alive[:, 0]))
        for name, sources in self.inputs.items():
            xs = [torch.where(present[source][:, None], values[source], 0.0) for source in sources]
            values[name] = self.nodes[name](*xs)
            present[name] = torch.stack([present[source] for source in sources]).any(dim=0)
            if name in self.spec.order:
                present[name] = present[name] & alive[:, self.spec.order.index(name)]
        return values[self.spec.sink], present[self.spec.sink]


def build_units(partition: Partition, width: int) -> tuple[nn.Sequential, int]:
    """Return the layers of a partition that takes `width` values, and how many it puts out."""
    match partition:
        case Dense(layers=layers):
            units = nn.Sequential()
            for wider in layers:
                units.append(nn.Linear(width, wider))
                units.append(nn.ReLU())
                width = wider
            return units, width


@torch.inference_mode()
def network_logits(network: Network, raw: Mapping[str, Floats], mask: str) -> Floats | None:
    """Return the sink's (rows, classes) logits under `mask`, None where no information reaches it."""
    alive = torch.tensor([[bit == "1" for bit in mask]])
    logits, informed = network({name: torch.from_numpy(x) for name, x in raw.items()}, alive)
    return logits.numpy() if informed.any() else None
