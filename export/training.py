"""Central training of the whole network, with simulated node failures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from export.data.rows import DataError, Rows, Split, split_rows
from export.network import VARIANTS, Network, Sensor
from export.spec import Spec

Progress = Callable[[int, int, float], None]
"""Called after each epoch with its number, how many there are, and the validation accuracy."""


@dataclass(frozen=True)
class Trained:
    """A trained network and what it was trained on."""

    network: Network
    rows: Rows
    split: Split
    prior: tuple[float, ...]
    epoch: int
    validation_accuracy: float


def train(spec: Spec, rows: Rows, variant: str, seed: int, progress: Progress = lambda *_: None) -> Trained:
    """Train one network, and keep the weights of the epoch that validates best while all nodes are alive.

    Args:
        spec: The fog.
        rows: Its data set.
        variant: One of VARIANTS.
        seed: Of weights, batches and failures; the split has its own, in the specification.
        progress: Told about each epoch.

    Raises:
        DataError: the rows are not what the specification says.
    """
    chosen = VARIANTS[variant]
    network, split = build(spec, rows, variant, seed)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), spec.training.learning_rate)
    raw, labels = tensors(rows)
    numbers = torch.from_numpy(split.train)
    best, best_epoch, best_state = -1.0, 0, network.state_dict()
    for epoch in range(1, spec.training.epochs + 1):
        network.train()
        for batch in numbers[torch.randperm(len(numbers), generator=generator)].split(spec.training.batch):  # type: ignore[no-untyped-call]
            alive = torch.rand(len(batch), len(spec.order), generator=generator) >= chosen.failout
            logits, informed = network({name: x[batch] for name, x in raw.items()}, alive)
            losses = functional.cross_entropy(logits, labels[batch], reduction="none")
            loss = torch.where(informed, losses, 0.0).sum() / informed.sum().clamp(min=1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        accuracy = _accuracy(network, raw, labels, torch.from_numpy(split.validation))
        if accuracy > best:
            best, best_epoch = accuracy, epoch
            best_state = {name: value.clone() for name, value in network.state_dict().items()}
        progress(epoch, spec.training.epochs, accuracy)
    network.load_state_dict(best_state)
    network.eval()
    return Trained(network, rows, split, class_prior(rows, split), best_epoch, best)


def build(spec: Spec, rows: Rows, variant: str, seed: int) -> tuple[Network, Split]:
    """Return an untrained network for these rows, and their split; raises DataError if the two do not fit."""
    for sensor, width in spec.sensors.items():
        if sensor not in rows.sensors:
            raise DataError(f"sensor {sensor}: data set {rows.name} has {', '.join(rows.sensors)}")
        if rows.sensors[sensor].shape[1] != width:
            raise DataError(
                f"sensor {sensor}: {rows.sensors[sensor].shape[1]} values per row in data set {rows.name}, "
                f"the specification says {width}"
            )
    split = split_rows(rows, spec.data.split, spec.data.split_seed)
    torch.manual_seed(seed)
    sensors = {name: _sensor(rows.sensors[name][split.train]) for name in spec.sensors}
    return Network(spec, len(rows.class_names), sensors, skips=VARIANTS[variant].skips), split


def tensors(rows: Rows) -> tuple[dict[str, Tensor], Tensor]:
    """Return the rows as tensors that share their memory."""
    return {name: torch.from_numpy(x) for name, x in rows.sensors.items()}, torch.from_numpy(rows.labels)


def class_prior(rows: Rows, split: Split) -> tuple[float, ...]:
    """Return the class frequencies in training, which a random guess is drawn from."""
    counts = np.bincount(rows.labels[split.train], minlength=len(rows.class_names))
    return tuple((counts / counts.sum()).tolist())


def _sensor(raw: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> Sensor:
    mean, scale = raw.mean(axis=0, dtype=np.float64), raw.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0
    return Sensor(torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(scale.astype(np.float32)))


@torch.inference_mode()
def _accuracy(network: Network, raw: dict[str, Tensor], labels: Tensor, numbers: Tensor) -> float:
    network.eval()
    everyone = torch.ones(1, len(network.spec.order), dtype=torch.bool)
    logits, _ = network({name: x[numbers] for name, x in raw.items()}, everyone)
    return float((logits.argmax(1) == labels[numbers]).float().mean())
