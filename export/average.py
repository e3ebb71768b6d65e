"""The average accuracy of Eq. (3) for a run or a bundle: every mask, every reliability setting."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from broker.errors import FogError
from edge_agent.bundle import MANIFEST, load
from export.evaluation import Composed, labels
from export.failures import accuracy, average_accuracy, masks
from export.heldout import HeldOut, held_out_for_bundle, held_out_for_run

EXACT_NODES = 20


class SeedAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """One trained network: its accuracy under each mask."""

    seed: int
    per_mask: dict[str, float]


class Average(msgspec.Struct, frozen=True, kw_only=True):
    """Over the seeds."""

    mean: float
    std: float
    n: int


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


def evaluate(path: Path) -> Evaluation:
    """Measure the run (with torch) or the bundle (with onnxruntime) in the folder `path` on its test rows.

    Raises RunError, BundleError, BundleDamaged or DataError.
    """
    if (path / MANIFEST).exists():
        return _evaluate_bundle(path)
    return _evaluate_run(path)


def _evaluate_bundle(path: Path) -> Evaluation:
    bundle = load(path)
    bundle.verify()
    manifest = bundle.manifest
    held_out = held_out_for_bundle(bundle)
    _require_enumerable(manifest.order)
    answers = Composed(bundle).logits(held_out.raw, masks(len(manifest.order)))
    per_mask = {
        mask: accuracy(labels(logits, len(held_out.truth)), held_out.truth, manifest.prior)
        for mask, logits in answers.items()
    }
    return _evaluation(
        manifest.order, manifest.settings, manifest.variant, manifest.seed, per_mask, held_out, manifest.prior
    )


def _evaluate_run(path: Path) -> Evaluation:
    from export.network import network_logits  # torch takes seconds to import, and a bundle does not need it
    from export.runs import RUN, WEIGHTS, load_network, load_run

    if not (path / RUN).exists():
        raise FogError(f"{path}: neither a run ({RUN}) nor a bundle ({MANIFEST})")
    run = load_run(path)
    spec = run.parsed_spec()
    held_out = held_out_for_run(spec.data, run.data_sha256, str(path))
    _require_enumerable(spec.order)
    network = load_network(path / WEIGHTS, spec, run.variant, len(run.labels))
    per_mask = {
        mask: accuracy(
            labels(network_logits(network, held_out.raw, mask), len(held_out.truth)), held_out.truth, run.prior
        )
        for mask in masks(len(spec.order))
    }
    return _evaluation(spec.order, spec.settings, run.variant, run.seed, per_mask, held_out, run.prior)


def _evaluation(
    order: tuple[str, ...],
    settings: Mapping[str, Mapping[str, float]],
    variant: str,
    seed: int,
    per_mask: dict[str, float],
    held_out: HeldOut,
    prior: Sequence[float],
) -> Evaluation:
    seeds = [SeedAccuracy(seed=seed, per_mask=per_mask)]
    averages = {
        name: over_seeds([average_accuracy(each.per_mask, [reliability[node] for node in order]) for each in seeds])
        for name, reliability in settings.items()
    }
    return Evaluation(
        order=order,
        settings={name: dict(reliability) for name, reliability in settings.items()},
        variants={variant: VariantAccuracy(seeds=seeds, average=averages)},
        chance=accuracy(labels(None, len(held_out.truth)), held_out.truth, prior),
    )


def over_seeds(values: Sequence[float]) -> Average:
    """Return mean and standard deviation (0 for a single seed)."""
    return Average(
        mean=statistics.fmean(values), std=statistics.stdev(values) if len(values) > 1 else 0.0, n=len(values)
    )


def _require_enumerable(order: Sequence[str]) -> None:
    if len(order) > EXACT_NODES:
        raise FogError(f"{len(order)} nodes can fail: all 2^n combinations are enumerated up to {EXACT_NODES} only")
