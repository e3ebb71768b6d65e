"""How fast training and evaluation are, as ratios of things timed in the same run: absolute times prove little."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from edge_agent.bundle import load
from export.data import load_data
from export.evaluation import Composed, accuracies
from export.failures import combinations_of
from export.heldout import HeldOut, held_out_for_bundle
from export.network import Network
from export.node import Sensor
from export.sharing import share
from export.spec import Spec, load_spec, parse_spec
from export.training import Learner, build, has_bfloat16
from export.variants import VARIANTS, Variant

PLAIN_MASKS = 256
CHAINS = (4, 8, 12, 16, 20)
Progress = Callable[[str], None]
Value = TypeVar("Value")


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Return the median time of a piece of work."""
    return statistics.median(_seconds(work) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_loop(
    inputs: Mapping[str, Sequence[str]],
    order: Sequence[str],
    sensed: Mapping[str, Value],
    run: Callable[[str, list[Value | None]], Value],
    alive: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]",
) -> int:
    """Answer mask after mask, running every living node that hears something; return how often one was run."""
    runs = 0
    for row in alive:
        dead = {node for node, up in zip(order, row, strict=True) if not up}
        values: dict[str, Value | None] = dict(sensed)
        for name, sources in inputs.items():
            xs = [values[source] for source in sources]
            speaks = name not in dead and any(x is not None for x in xs)
            values[name] = run(name, xs) if speaks else None
            runs += speaks
    return runs


def evaluation(bundle_path: Path, rounds: int, progress: Progress) -> dict[str, Any]:
    """Time all masks of a bundle's parts on its test rows, shared and plain, and how the ratio grows with the nodes."""
    bundle = load(bundle_path)
    manifest = bundle.manifest
    held_out = held_out_for_bundle(bundle)
    parts = Composed(bundle)
    alive = combinations_of(len(manifest.order))
    progress(f"{len(alive)} masks of {manifest.name}, {len(held_out.truth)} rows")
    pairs = []
    for _ in range(rounds):
        shared_s = _seconds(lambda: accuracies(parts, held_out, manifest.prior, alive))
        plain_s = _seconds(
            lambda: plain_loop(manifest.inputs, manifest.order, parts.sensed(held_out.raw), parts.run_node, alive)
        )
        pairs.append((shared_s, plain_s))
    grown = []
    for nodes in CHAINS:
        progress(f"a chain of {nodes} nodes")
        grown.append(_chain_growth(nodes))
    return {
        "fog": manifest.name,
        "rows": len(held_out.truth),
        "masks": len(alive),
        "rounds": rounds,
        "shared_s": statistics.median(shared for shared, _ in pairs),
        "plain_s": statistics.median(plain for _, plain in pairs),
        "ratio": statistics.median(plain / shared for shared, plain in pairs),
        "growth": grown,
    }


def chain(nodes: int, width: int = 32) -> Spec:
    """Return a chain of nodes that can fail, each with a skip past the one before it."""
    names = [f"n{number}" for number in range(nodes)] + ["sink"]
    lines = ['name = "chain"', "[data]", 'set = "none"', "[sensors]", f"iot = {width}"]
    before = ["iot"]
    for name in names:
        lines += [f"[nodes.{name}]", f'simple = ["{before[-1]}"]']
        lines += [f'skip = ["{before[-2]}"]'] if len(before) > 1 else []
        lines += [f'partition = {{ kind = "dense", layers = [{width}] }}']
        before.append(name)
    return parse_spec("\n".join(lines))


@torch.inference_mode()
def _chain_growth(nodes: int) -> dict[str, Any]:
    """Time all 2^n masks of a chain, shared, against as many of them as is bearable, plain."""
    spec = chain(nodes)
    width = spec.sensors["iot"]
    network = Network(spec, 4, {"iot": Sensor(torch.zeros(width), torch.ones(width))}, Variant(), [0])
    raw = np.random.default_rng(0).normal(size=(128, width)).astype(np.float32)
    held_out = HeldOut({"iot": raw}, np.zeros(128, np.int64))
    alive = combinations_of(nodes)
    some = alive[np.random.default_rng(0).permutation(len(alive))[:PLAIN_MASKS]]
    sensed = {"iot": torch.from_numpy(raw)}
    plain_s = _seconds(lambda: plain_loop(network.inputs, spec.order, sensed, network.run_node, some))
    shared_s = _seconds(lambda: accuracies(network, held_out, (0.25,) * 4, alive))
    whole_plain_s = plain_s * len(alive) / len(some)
    return {
        "nodes": nodes,
        "masks": len(alive),
        "runs": share(network.inputs, spec.order, spec.sink, alive).runs,
        "shared_s": shared_s,
        "plain_s": whole_plain_s,
        "plain_masks_timed": len(some),
        "ratio": whole_plain_s / shared_s,
    }


def training(rounds: int, batches: int, progress: Progress) -> dict[str, Any]:
    """Time ten seeds of Camera against one, and Health's products against the float32 matrix rate."""
    camera, variant = load_spec("camera"), VARIANTS["fogguard"]
    rows = load_data(camera.data.set)
    learners = {count: Learner(*build(camera, rows, variant, range(count)), rows) for count in (1, 10)}
    times: dict[int, list[float]] = {count: [] for count in learners}
    for number in range(1, rounds + 2):
        progress(f"camera, an epoch of one seed and of ten, round {number} of {rounds + 1}")
        for count, learner in learners.items():
            times[count].append(_seconds(partial(list, learner.epoch(number))))
    ratios = [ten / one for one, ten in zip(times[1][1:], times[10][1:], strict=True)]  # the first warms up
    return {
        "camera": {
            "rounds": rounds,
            "epoch_s": {str(count): statistics.median(found[1:]) for count, found in times.items()},
            "ratio": statistics.median(ratios),
        },
        "health": _products(rounds, batches, progress),
    }


def _products(rounds: int, batches: int, progress: Progress) -> dict[str, Any]:
    """Return what share of the float32 matrix rate training reaches, all its other work counted in."""
    health = load_spec("health")
    rows = load_data(health.data.set)
    seeds = 10
    found = {}
    for name in ("failout", "fogguard"):
        learner = Learner(*build(health, rows, VARIANTS[name], range(seeds)), rows)
        with FlopCounterMode(display=False) as counter:
            next(learner.epoch(1))
        operations = counter.get_total_flops()
        shares, rates, matrix_rates = [], [], []
        for number in range(rounds):
            progress(f"health, {name}, {batches} batches of {seeds} seeds, round {number + 1} of {rounds}")
            matrix = matrix_rate(seeds, health.training.batch, 250)
            epoch = learner.epoch(number + 2)
            next(epoch)
            rate = batches * operations / _seconds(partial(list, islice(epoch, batches)))
            shares.append(rate / matrix)
            rates.append(rate)
            matrix_rates.append(matrix)
        found[name] = {
            "operations_per_batch": operations,
            "gflops": statistics.median(rates) / 1e9,
            "matrix_gflops": statistics.median(matrix_rates) / 1e9,
            "share": statistics.median(shares),
            "rounds": rounds,
            "batches": batches,
        }
    return {"threads": torch.get_num_threads(), "bfloat16": has_bfloat16(), **found}


def matrix_rate(seeds: int, rows: int, width: int) -> float:
    """Return the operations a second of this machine's fastest float32 product of (seeds, rows, width) matrices."""
    a, b = torch.randn(seeds, rows, width), torch.randn(seeds, width, width)
    operations = 2 * seeds * rows * width * width
    before = torch.get_float32_matmul_precision()
    best = 0.0
    try:
        for precision in ("highest", "medium"):  # MKL; oneDNN, still in float32 where autocast is off
            torch.set_float32_matmul_precision(precision)
            torch.matmul(a, b)
            best = max(best, operations / median_s(lambda: torch.matmul(a, b), 20))
    finally:
        torch.set_float32_matmul_precision(before)
    return best
