"""What to expect of a fleet as reliable as it was observed: Eq. (3), with what the r_i leave open carried through."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.terminal import print_table, results
from benchmarks.uptime import Observed, draws
from edge_agent.bundle import MANIFEST, load
from export.average import Evaluation
from export.failures import EXACT_NODES, combinations_of_masks
from export.skips import Planner, choose_skips, legal_skips, with_skips
from export.spec import Spec, parse_spec

OBSERVED: Final = "observed"
"""The name of the reliability setting that was observed."""
_DRAWS: Final = 4000
_AT_ONCE: Final = 200


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """The average accuracy to expect.

    `low` and `high` bound what the r_i leave open with 95 %; None where not every mask was measured. The rows measured
    are taken for all there are.
    """

    mean: float
    low: float | None
    high: float | None


class NextSkip(msgspec.Struct, frozen=True, kw_only=True):
    """A skip that the fog does not have yet, and what it would add, in percentage points and bytes a step.

    `lives_points` is about the probability that a living path leads from a sensor to the sink, `heard_points` about the
    expected share of the sensors heard.
    """

    skip: str
    lives_points: float
    heard_points: float
    bytes: int


def expected(found: Evaluation, observed: Observed) -> dict[str, Expected]:
    """Return for each variant the average accuracy under the observed reliability, with its interval."""
    seen = {node: each.seen for node, each in observed.nodes.items()}
    drawn = draws(found.order, seen, observed.assumed_repair_s, _DRAWS)
    expectations = {}
    for name, variant in found.variants.items():
        per_mask = variant.seeds[0].per_mask
        low = high = None
        if len(per_mask) == 1 << len(found.order):
            accuracy = np.mean([list(seed.per_mask.values()) for seed in variant.seeds], axis=0)
            low, high = _interval(list(per_mask), accuracy.tolist(), drawn)
        expectations[name] = Expected(mean=variant.average[OBSERVED].mean, low=low, high=high)
    return expectations


def _interval(masks: Sequence[str], accuracy: Sequence[float], drawn: np.ndarray) -> tuple[float, float]:
    """Return where 95 % of Eq. (3) lie for (draws, nodes) reliabilities."""
    alive = combinations_of_masks(masks)
    averages = []
    for start in range(0, len(drawn), _AT_ONCE):
        r = drawn[start : start + _AT_ONCE, None, :]
        averages.append(np.where(alive, r, 1 - r).prod(axis=2) @ np.asarray(accuracy))  # (draws,)
    low, high = np.quantile(np.concatenate(averages), [0.025, 0.975]).tolist()
    return round(low, 6), round(high, 6)


def spec_of(path: Path) -> Spec:
    """Return the specification of a run or a bundle, with the skips that its network has."""
    if (path / MANIFEST).exists():
        manifest = load(path).manifest
        there = [(each.source, each.target) for each in manifest.hyperconnections if each.kind == "skip"]
        return with_skips(parse_spec(manifest.spec), there)
    from export.runs import load_run  # brings torch

    run = load_run(path)
    spec = run.parsed_spec()
    return spec if run.variant.skips else with_skips(spec, ())


def next_skips(spec: Spec, reliability: Mapping[str, float], top: int = 5) -> list[NextSkip]:
    """Return the skips that would help most, each by itself; none where too many nodes can fail to tell exactly."""
    if len(spec.order) > EXACT_NODES:
        return []
    planner = Planner(replace(spec, settings={OBSERVED: dict(reliability)}), OBSERVED)
    there = choose_skips(spec, "specified")
    now = planner.judge(there)
    found = []
    for skip in legal_skips(spec):
        if skip not in there:
            then = planner.judge([*there, skip])
            points = (100 * (then.lives - now.lives), 100 * (then.heard - now.heard))
            found.append((*points, planner.cost_bytes(skip), ">".join(skip)))
    found.sort(key=lambda each: (-round(each[0], 9), -round(each[1], 9), each[2]))
    return [
        NextSkip(skip=name, lives_points=round(lives, 6), heard_points=round(heard, 6), bytes=cost)
        for lives, heard, cost, name in found[:top]
    ]


def print_observed(observed: Observed) -> None:
    """Print how reliable each node is."""
    rows = [
        (
            *(node, f"{100 * each.r:.3f}", f"{100 * each.low:.3f} to {100 * each.high:.3f}"),
            *(f"{100 * each.share_up:.3f}", f"{each.seen.up_s:.0f}", f"{each.seen.down_s:.0f}"),
            *(str(each.seen.failures), each.repairs_from),
        )
        for node, each in observed.nodes.items()
    ]
    columns = ("node", "r %", "95 %", "seen up %", "up s", "down s", "failures", "repair times")
    print_table("Reliability as observed", columns, rows)
    results.print(observed.method, soft_wrap=True)


def print_expected(expectations: Mapping[str, Expected], skips: Sequence[NextSkip]) -> None:
    """Print the accuracy to expect, and what would help."""
    rows = [
        (
            *(name, f"{100 * each.mean:.2f}"),
            "-" if each.low is None or each.high is None else f"{100 * each.low:.2f} to {100 * each.high:.2f}",
        )
        for name, each in expectations.items()
    ]
    print_table("Average accuracy to expect, Eq. (3)", ("variant", "%", "95 %, by what the r_i leave open"), rows)
    if skips:
        print_table(
            "Skips that the fog does not have, each by itself: train with one to learn what it buys in accuracy",
            ("skip", "a path lives, points", "sensors heard, points", "bytes a step"),
            [(s.skip, f"{s.lives_points:+.4f}", f"{s.heard_points:+.4f}", str(s.bytes)) for s in skips],
        )
