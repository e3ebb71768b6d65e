"""The average accuracy of Eq. (3) for a run or a bundle: every mask, every seed, every reliability setting."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.errors import FogError
from edge_agent.bundle import MANIFEST, load
from export.evaluation import Composed, Model, Progress, accuracies, chance
from export.failures import EXACT_NODES, combinations_of, combinations_of_masks, mask_of, probabilities, sampled_masks
from export.heldout import HeldOut, Part, held_out_for_bundle, held_out_for_run
from export.strata import stratified

SAMPLED: Final = 4096
LISTED: Final = 1024
"""How many masks a result lists."""
DIGITS: Final = 6
"""How many digits of an accuracy a result lists."""
Settings = Mapping[str, Mapping[str, float]]
_NO_MORE: Final[Settings] = {}


class SeedAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """One trained network: its accuracy under each mask (if there are many, under some), and Eq. (3) per setting."""

    seed: int
    per_mask: dict[str, float]
    average: dict[str, float]


class Average(msgspec.Struct, frozen=True, kw_only=True):
    """Over the seeds.

    `ci95` is half the width of the interval that comes from measuring a sample of the combinations; 0: all are.
    """

    mean: float
    std: float
    n: int
    ci95: float = 0.0


class VariantAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """One variant: its seeds, and the average accuracy under each setting."""

    seeds: list[SeedAccuracy]
    average: dict[str, Average]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Masks have their bits in `order`, 1 = alive; `chance` is the expected accuracy of the random guess."""

    order: tuple[str, ...]
    settings: dict[str, dict[str, float]]
    variants: dict[str, VariantAccuracy]
    chance: float
    part: Part
    n: int


def evaluate(
    path: Path, part: Part = "test", progress: Progress = lambda _done, _rows: None, more: Settings = _NO_MORE
) -> Evaluation:
    """Measure the run (with torch) or the bundle (with onnxruntime) in the folder `path`, `more` settings with its own.

    Raises RunError, BundleError, BundleDamaged or DataError.
    """
    if (path / MANIFEST).exists():
        bundle = load(path)
        bundle.verify()
        manifest = bundle.manifest
        held_out = held_out_for_bundle(bundle, part)
        settings = {**manifest.settings, **_require_all(more, manifest.order)}
        found = measure(Composed(bundle), held_out, manifest.prior, manifest.order, settings, [manifest.seed], progress)
        return _evaluation(manifest.order, settings, {manifest.variant: found}, held_out, manifest.prior, part)
    return evaluate_runs([path], part, progress, more)


def _require_all(settings: Settings, order: Sequence[str]) -> Settings:
    for name, setting in settings.items():
        if setting.keys() != set(order):
            raise FogError(f"{name}: is about {', '.join(setting)}, but the nodes that can fail are {', '.join(order)}")
    return settings


def evaluate_runs(
    paths: Sequence[Path],
    part: Part = "test",
    progress: Progress = lambda _done, _rows: None,
    more: Settings = _NO_MORE,
) -> Evaluation:
    """Measure runs of one experiment, each a variant; raises RunError or DataError."""
    from export.runs import RUN, WEIGHTS, load_network, load_run  # torch takes seconds to import: a bundle needs none

    variants: dict[str, VariantAccuracy] = {}
    for path in paths:
        if not (path / RUN).exists():
            raise FogError(f"{path}: neither a run ({RUN}) nor a bundle ({MANIFEST})")
        run = load_run(path)
        spec = run.parsed_spec()
        held_out = held_out_for_run(spec.data, run.data_sha256, str(path), part)
        network = load_network(path / WEIGHTS, spec, run.variant, len(run.labels), run.seeds)
        settings = {**spec.settings, **_require_all(more, spec.order)}
        variants[run.name] = measure(network, held_out, run.prior, spec.order, settings, run.seeds, progress)
    return _evaluation(spec.order, settings, variants, held_out, run.prior, part)


def measure(
    model: Model,
    held_out: HeldOut,
    prior: Sequence[float],
    order: Sequence[str],
    settings: Settings,
    seeds: Sequence[int],
    progress: Progress = lambda _done, _rows: None,
) -> VariantAccuracy:
    """Return Eq. (3) for each setting: exact up to 20 nodes that can fail, beyond from a stratified sample."""
    reliabilities = {name: [setting[node] for node in order] for name, setting in settings.items()}
    ci95 = dict.fromkeys(settings, 0.0)
    averages: dict[str, npt.NDArray[np.float64]] = {}
    if len(order) <= EXACT_NODES:
        alive = combinations_of(len(order))
        found = accuracies(model, held_out, prior, alive, len(seeds), progress)
        for name, reliability in reliabilities.items():
            averages[name] = probabilities(alive, reliability) @ found
    else:
        samples = {name: stratified(reliability, SAMPLED) for name, reliability in reliabilities.items()}
        listed = combinations_of_masks(sampled_masks(len(order), LISTED))
        alive = np.concatenate([listed, *(sample.alive for sample in samples.values())])
        found = accuracies(model, held_out, prior, alive, len(seeds), progress)
        start = len(listed)
        for name, sample in samples.items():
            averages[name], ci95[name] = sample.estimate(found[start : start + len(sample.alive)])
            start += len(sample.alive)
    listed_masks = [mask_of(row) for row in alive[:LISTED]]
    return VariantAccuracy(
        seeds=[
            SeedAccuracy(
                seed=seed,
                per_mask={mask: round(float(found[row, k]), DIGITS) for row, mask in enumerate(listed_masks)},
                average={name: round(float(each[k]), DIGITS) for name, each in averages.items()},
            )
            for k, seed in enumerate(seeds)
        ],
        average={name: over_seeds(each.tolist(), ci95[name]) for name, each in averages.items()},
    )


def over_seeds(values: Sequence[float], ci95: float = 0.0) -> Average:
    """Return mean and standard deviation (0 for a single seed)."""
    return Average(
        mean=round(statistics.fmean(values), DIGITS),
        std=round(statistics.stdev(values), DIGITS) if len(values) > 1 else 0.0,
        n=len(values),
        ci95=round(ci95, DIGITS),
    )


def _evaluation(
    order: tuple[str, ...],
    settings: Settings,
    variants: dict[str, VariantAccuracy],
    held_out: HeldOut,
    prior: Sequence[float],
    part: Part,
) -> Evaluation:
    return Evaluation(
        order=order,
        settings={name: dict(reliability) for name, reliability in settings.items()},
        variants=variants,
        chance=chance(held_out, prior),
        part=part,
        n=len(held_out.truth),
    )
