"""Central training of the whole network, with simulated node failures; several seeds in one go.

The seeds share each batch of rows and differ in first weights and failures, so that ten cost a small multiple of one,
and each comes out as if it had been trained alone.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from export.checkpoint import Checkpoint
from export.data.rows import DataError, Rows, Split, split_rows
from export.failures import weighted_combinations
from export.network import Network
from export.node import Sensor
from export.spec import Spec
from export.variants import Variant, VariantError

Progress = Callable[[int, int, float], None]
"""Called after each batch: how many are done, of how many, and the last epoch's validation accuracy, mean of seeds."""


@dataclass(frozen=True)
class Trained:
    """A trained network of several seeds, and what it was trained on; epoch and accuracy are each seed's best."""

    network: Network
    rows: Rows
    split: Split
    prior: tuple[float, ...]
    epochs: tuple[int, ...]
    validation_accuracy: tuple[float, ...]


def train(
    spec: Spec,
    rows: Rows,
    variant: Variant,
    seeds: Sequence[int],
    progress: Progress = lambda *_: None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train one network per seed, and keep the weights of each one's best epoch on the validation rows.

    Args:
        spec: The fog.
        rows: Its data set.
        variant: The options of model and training.
        seeds: Of weights and failures; batches are drawn from the split's seed, in the specification.
        progress: Told about each batch.
        checkpoint: Where an interrupted training is kept, and gone on with; whoever has saved the run removes it.

    Raises:
        DataError: the rows are not what the specification says.
        VariantError: the variant asks for what the specification has not.
        CheckpointError: `checkpoint` holds another training.
    """
    network, split = build(spec, rows, variant, seeds)
    learner = Learner(network, split, rows)
    kept = Checkpoint(checkpoint, learner.state, learner.describe(rows)) if checkpoint else None
    first = kept.load() + 1 if kept else 1
    batches = -(-len(split.train) // spec.training.batch)
    steps = batches * spec.training.epochs
    for epoch in range(first, spec.training.epochs + 1):
        for done in learner.epoch(epoch):
            progress((epoch - 1) * batches + done, steps, float(learner.accuracy.mean()))
        if kept:
            kept.offer(epoch)
    network.load_state_dict(learner.best)
    network.eval()
    epochs = tuple(int(number) for number in learner.best_epoch)
    return Trained(network, rows, split, class_prior(rows, split), epochs, tuple(learner.best_accuracy.tolist()))


class Learner:
    """What changes from epoch to epoch: weights, Adam's moments, and the best weights so far.

    Args:
        network: Of several seeds.
        split: Which rows train and validate.
        rows: The data set.
    """

    def __init__(self, network: Network, split: Split, rows: Rows) -> None:
        spec, variant = network.spec, network.variant
        self.network = network
        self.raw, self.labels = tensors(rows)
        self.split = split
        self.prior = torch.tensor(class_prior(rows, split))
        self.optimiser = torch.optim.Adam(network.parameters(), spec.training.learning_rate, fused=True)
        self.draws = spec.training.draws if variant.draws is None else variant.draws
        self.up = _up_probabilities(spec, variant.failures)
        self.seeds = list(network.seeds or ())
        count = len(self.seeds)
        self.accuracy = torch.zeros(count)
        self.best_accuracy = torch.full((count,), -1.0)
        self.best_epoch = torch.zeros(count, dtype=torch.long)
        self.best = {name: value.clone() for name, value in network.state_dict().items()}
        self.class_weights = None
        if spec.training.class_weights:
            self.class_weights = (self.prior.clamp(min=1e-9) * len(self.prior)) ** -variant.class_power
        alive, weights = weighted_combinations(spec.order, spec.settings if variant.select == "average" else {})
        self.validated = network.shared(alive)
        self.validation_weights = torch.tensor(
            np.bincount(self.validated.sink, weights, minlength=1 + len(self.validated.states[spec.sink]))
        )

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that a later start needs, to be written or overwritten in place."""
        found = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        found |= {f"best.{name}": value for name, value in self.best.items()}
        for number, parameter in enumerate(self.network.parameters()):
            moments = self.optimiser.state[parameter] or self._start_moments(parameter)
            found |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        return {**found, "best_accuracy": self.best_accuracy, "best_epoch": self.best_epoch}

    def _start_moments(self, parameter: Tensor) -> dict[str, Tensor]:
        """Make Adam's moments as its first step would, so that stored ones have a place to go to."""
        moments = {"step": torch.zeros(()), "exp_avg": torch.zeros_like(parameter)}
        moments["exp_avg_sq"] = torch.zeros_like(parameter)
        self.optimiser.state[parameter].update(moments)
        return moments

    def describe(self, rows: Rows) -> dict[str, object]:
        """Return what a stored training must have in common with this one."""
        spec, variant = self.network.spec, self.network.variant
        return {"spec": spec.text, "variant": variant, "seeds": self.seeds, "data": rows.sha256}

    def epoch(self, number: int) -> Iterator[int]:
        """See every training row once, and measure; yield how many batches are done."""
        spec, variant = self.network.spec, self.network.variant
        self.network.train()
        shuffled = torch.from_numpy(np.random.default_rng([spec.data.split_seed, number]).permutation(self.split.train))
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + number) for seed in self.seeds]
        batches = shuffled.split(spec.training.batch)  # type: ignore[no-untyped-call]
        for position, batch in enumerate(batches):
            if variant.decay:
                done = (number - 1 + position / len(batches)) / spec.training.epochs
                self.optimiser.param_groups[0]["lr"] = spec.training.learning_rate * (1 + math.cos(math.pi * done)) / 2
            alive = None
            if self.up is not None:
                alive = torch.stack(
                    [_draw_alive(self.up, self.draws * len(batch), generator) for generator in generators]
                )
            self._step(batch, alive)
            yield position + 1
        self.accuracy = self._validate()
        better = self.accuracy > self.best_accuracy
        self.best_accuracy[better] = self.accuracy[better]
        self.best_epoch[better] = number
        for name, value in self.network.state_dict().items():
            if not name.startswith("sensors."):  # alike for all seeds
                self.best[name][better] = value[better]

    def _step(self, batch: Tensor, alive: Tensor | None) -> None:
        draws = 1 if alive is None else self.draws
        with _fast_products():
            logits, informed = self.network({name: x[batch] for name, x in self.raw.items()}, alive, draws)
        labels = self.labels[batch].repeat(draws)
        losses = functional.cross_entropy(
            logits.float().flatten(0, 1), labels.repeat(len(self.seeds)), weight=self.class_weights, reduction="none"
        ).view(len(self.seeds), -1)
        counted = informed.expand(losses.shape).to(losses.dtype)
        weights = counted if self.class_weights is None else counted * self.class_weights[labels]
        # the mean of each seed, and the sum of the seeds: no seed's gradient depends on another
        loss = ((losses * counted).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)).sum()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    @torch.inference_mode()
    def _validate(self) -> Tensor:
        """Return each seed's accuracy on the validation rows, weighted over the combinations that are validated."""
        self.network.eval()
        numbers = torch.from_numpy(self.split.validation)
        truth = self.labels[numbers]
        right = [self.prior[truth].mean().expand(len(self.seeds))]
        with _fast_products():
            answers = self.network.answers({name: x[numbers] for name, x in self.raw.items()}, self.validated)
        right += [(logits.argmax(-1) == truth).float().mean(dim=-1) for logits in answers]
        return torch.einsum("k,ks->s", self.validation_weights, torch.stack(right).double()).float()


def build(spec: Spec, rows: Rows, variant: Variant, seeds: Sequence[int]) -> tuple[Network, Split]:
    """Return an untrained network for these rows, and their split; raises DataError, VariantError."""
    for sensor, width in spec.sensors.items():
        if sensor not in rows.sensors:
            raise DataError(f"sensor {sensor}: data set {rows.name} has {', '.join(rows.sensors)}")
        if rows.sensors[sensor].shape[1] != width:
            raise DataError(
                f"sensor {sensor}: {rows.sensors[sensor].shape[1]} values per row in data set {rows.name}, "
                f"the specification says {width}"
            )
    if variant.weights in ("reliability", "normalised") and variant.reliability not in spec.settings:
        raise VariantError(
            f"weights {variant.weights}: {spec.name} has no setting {variant.reliability} to take them from"
        )
    split = split_rows(rows, spec.data.split, spec.data.split_seed)
    sensors = {name: _sensor(rows.sensors[name][split.train]) for name in spec.sensors}
    return Network(spec, len(rows.class_names), sensors, variant, seeds), split


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


def _up_probabilities(spec: Spec, failures: float | str) -> Tensor | None:
    """Return (kinds of day, nodes that can fail): how likely each node is up, every kind as frequent as another."""
    if failures == 0:
        return None
    if isinstance(failures, float):
        return torch.full((1, len(spec.order)), 1 - failures)
    names = list(spec.settings) if failures == "settings" else [failures]
    if not names or any(name not in spec.settings for name in names):
        there = f"the settings {', '.join(spec.settings)}" if spec.settings else "no settings"
        raise VariantError(f"failures {failures!r}: {spec.name} has {there}; a rate such as 0.1 does too")
    return torch.tensor([[spec.settings[name][node] for node in spec.order] for name in names])


def _draw_alive(up: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Return (rows, nodes that can fail) bool."""
    kinds = torch.randint(len(up), (rows,), generator=generator)
    return torch.rand(rows, up.shape[1], generator=generator) < up[kinds]


@contextlib.contextmanager
def _fast_products() -> Iterator[None]:
    """Let oneDNN do the matrix products, in bfloat16 where the processor has units for it; weights stay float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        # weights change between two calls: a cache of rounded ones would be stale
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(), cache_enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    found = torch.cpu.get_capabilities()
    return any(found.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))
