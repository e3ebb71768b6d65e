"""`fogguard plan-skips`: sets of skips ranked by the probability that information gets through, then by accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.terminal import print_table, progress_bar, say
from broker.errors import FogError
from export.average import measure
from export.data import load_data
from export.heldout import held_out
from export.skips import Plan, Planner, Skip, with_skips
from export.spec import Spec, changed, load_spec
from export.variants import Variant, VariantError


@dataclass
class Ranking:
    """Sets of skips, the best first; `accuracy` holds those that were trained, on the validation rows."""

    spec: Spec
    setting: str
    planner: Planner
    plans: list[Plan]
    accuracy: dict[frozenset[Skip], float] = field(default_factory=dict)

    def accuracy_of(self, skips: Sequence[Skip]) -> float | None:
        """Return the trained average accuracy of a set of skips, if it was trained."""
        return self.accuracy.get(frozenset(skips))

    def gains(self, plan: Plan) -> list[dict[str, Any]]:
        """Return what each skip of a plan costs and buys, given the others; points are percentage points."""
        here = self.accuracy_of(plan.skips)
        found: list[dict[str, Any]] = []
        for skip, lives in self.planner.worth(plan).items():
            without = self.accuracy_of([other for other in plan.skips if other != skip])
            points = None if here is None or without is None else 100 * (here - without)
            cost = self.planner.cost_bytes(skip)
            found.append(
                {"skip": ">".join(skip), "bytes": cost, "lives_points": 100 * lives, "accuracy_points": points}
            )
        return found

    def best_spec(self) -> Spec:
        """Return the specification with the best set."""
        return with_skips(self.spec, self.plans[0].skips)

    def as_result(self) -> dict[str, Any]:
        """Return the ranking as JSON."""
        plans = [
            {
                "skips": [">".join(skip) for skip in plan.skips],
                "path_lives": plan.lives,
                "sensors_heard": plan.heard,
                "bytes_per_step": plan.bytes_per_step,
                "accuracy": self.accuracy_of(plan.skips),
            }
            for plan in self.plans
        ]
        gains = self.gains(self.plans[0])
        return {"setting": self.setting, "exhaustive": self.planner.exhaustive, "plans": plans, "best": gains}


def plan(name: str, setting: str | None, most: int | None, most_bytes: int | None, top: int) -> Ranking:
    """Rank sets of skips for a specification, by probability alone; raises SpecError."""
    spec = load_spec(name)
    if not spec.settings:
        raise FogError(f"{name}: has no reliability settings: add one under [settings]")
    setting = setting or list(spec.settings)[-1]
    planner = Planner(spec, setting, most, most_bytes)
    with progress_bar(f"ranking skips of {spec.name}") as update:
        plans = planner.best(top, lambda done, total: update(done, total, "sets"))
    return Ranking(spec, setting, planner, plans)


def train_best(ranking: Ranking, count: int, variant: Variant, seeds: Sequence[int], epochs: int | None) -> None:
    """Train with the best `count` sets and rank them by validation accuracy; then learn what each skip buys.

    The winner is trained once more without each of its skips. Raises VariantError for a variant that has none.
    """
    if not variant.skips:
        raise VariantError("a variant without skips is the same with all sets of them: --train another variant")
    from export.training import train

    base = ranking.spec if epochs is None else changed(ranking.spec, epochs=epochs)
    rows = load_data(base.data.set)
    measured = held_out(rows, base.data.split, base.data.split_seed, "validation")

    def learn(skips: Sequence[Skip]) -> None:
        if ranking.accuracy_of(skips) is not None:
            return
        spec = with_skips(base, skips)
        with progress_bar(f"training with {describe(skips)}") as update:
            trained = train(spec, rows, variant, seeds, lambda done, total, _found: update(done, total, ""))
        found = measure(trained.network, measured, trained.prior, spec.order, spec.settings, seeds)
        ranking.accuracy[frozenset(skips)] = found.average[ranking.setting].mean
        say(f"{describe(skips)}: {100 * found.average[ranking.setting].mean:.2f} % in {ranking.setting}")

    for each in ranking.plans[:count]:
        learn(each.skips)
    ranking.plans[:count] = sorted(ranking.plans[:count], key=lambda each: -(ranking.accuracy_of(each.skips) or 0))
    best = ranking.plans[0]
    for skip in best.skips:
        learn([other for other in best.skips if other != skip])


def describe(skips: Sequence[Skip]) -> str:
    """Return a set of skips as `fogguard train --skips` takes it."""
    return ",".join(">".join(skip) for skip in skips) or "none"


def print_ranking(ranking: Ranking) -> None:
    """Print the sets, and what each skip of the best one costs and buys."""
    rows = []
    for each in ranking.plans:
        accuracy = ranking.accuracy_of(each.skips)
        told = "-" if accuracy is None else f"{100 * accuracy:.2f}"
        rows.append(
            (describe(each.skips), f"{100 * each.lives:.3f}", f"{100 * each.heard:.2f}", str(each.bytes_per_step), told)
        )
    kind = "every set" if ranking.planner.exhaustive else "a beam search"
    columns = ("skips", "a path lives %", "sensors heard %", "bytes a step", "validation accuracy %")
    print_table(f"{ranking.spec.name}, {ranking.setting}: the best of {kind}", columns, rows)
    best = [
        (
            gain["skip"],
            str(gain["bytes"]),
            f"{gain['lives_points']:+.3f}",
            "-" if gain["accuracy_points"] is None else f"{gain['accuracy_points']:+.2f}",
        )
        for gain in ranking.gains(ranking.plans[0])
    ]
    if best:
        heads = ("skip", "costs bytes a step", "buys points, a path lives", "buys points, accuracy")
        print_table("the best set, skip by skip, given the others", heads, best)
