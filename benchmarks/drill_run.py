"""`fogguard drill` put together: what is to happen, and the file that it all goes into."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import asdict

from benchmarks.byhand import ByHand
from benchmarks.culprits import require_none
from benchmarks.drill import Drill
from benchmarks.drill_view import drill_view, print_drill
from benchmarks.drilled import Drilled, require_as_predicted
from benchmarks.environment import head, with_head, write_now
from benchmarks.keeping import require_same
from benchmarks.options import write
from benchmarks.place import Place, able, emulated_at, require_reach, trial_at
from benchmarks.scenario import Plan, Verb, by_chance, harm, load_scenario
from benchmarks.terminal import say
from benchmarks.timeline import topology
from benchmarks.witness import naming
from broker.errors import FogError
from edge_agent.bundle import Manifest, load
from export.failures import average_accuracy

_CHANCE_S = 60.0


class Wish(NamedTuple):
    """What the user wants to happen, as said on the command line."""

    scenario: Path | None
    random: bool
    duration_s: float | None
    seed: int
    setting: str | None
    every_s: float
    by: Verb | None
    percent: float | None
    hold_s: float
    patience_s: float


def plan_of(wish: Wish, place: Place, manifest: Manifest) -> tuple[Plan, float]:
    """Return what is to happen and for how long, 0 if until it is over; raises FogError."""
    by_hand = wish.scenario is None and not wish.random
    if by_hand:
        plan = Plan(mode="by-hand", seed=wish.seed, hold_s=wish.hold_s, patience_s=wish.patience_s)
        return plan, wish.duration_s or 0.0
    if not place.verbs:
        raise FogError("the agents run elsewhere, and nothing can be done to them from here: only --by-hand")
    if wish.scenario is not None:
        plan = load_scenario(wish.scenario, manifest, place.verbs)
        for event in plan.events:
            if event.do != "back":
                require_reach(place, event.do, [event.node], manifest.order, f"leave that out of {wish.scenario}")
        return plan, wish.duration_s or plan.seconds
    by = harm(able(place, wish.by or place.verbs[0]), wish.percent)
    plan = by_chance(manifest, wish.setting, wish.every_s, by, wish.seed)
    mortal = [node for node, r in plan.reliability.items() if r < 1]
    require_reach(
        place, by.verb, mortal, manifest.order, "choose another --by, or a --setting in which none of these fails"
    )
    return plan, wish.duration_s or _CHANCE_S


def begun(file: Path | None, fresh: Drilled, same: Mapping[str, Any]) -> Drilled:
    """Return the drill in `file`, to go on with for as long as the `fresh` one, or that if there is no file.

    Raises FogError if it is another one: its sittings are added up, and besides the plan they have all of `same`.
    """
    if file is None or not file.exists():
        return fresh
    try:
        data = file.read_bytes()
        found, before = msgspec.json.decode(data, type=Drilled), msgspec.json.decode(data, type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FogError(f"--json {file}: is there already, and is no drill to go on with: name another file") from error
    require_same(file, "drill", {**before, "plan": found.plan}, {"plan": fresh.plan, **same})
    if found.finished and found.planned_s >= fresh.planned_s:
        raise FogError(f"--json {file}: that drill is finished: name another file, or let it last longer with --for")
    found.planned_s, found.finished = fresh.planned_s, False
    return found


def perform(path: Path, wish: Wish, place: Place, rate: float, window: int, json: Path | None) -> None:
    """Drill the fleet at `place`; raise CulpritFound, or NotAsPredicted unless it answered as predicted."""
    bundle = load(path)
    manifest = bundle.manifest
    plan, planned_s = plan_of(wish, place, manifest)
    start = head(emulated=emulated_at(place))
    same = {"bundle": bundle.id.hex(), "emulated": start.emulated, "fleet": place.fleet_of(manifest), "rate": rate}
    found = begun(json, Drilled(plan=plan, order=manifest.order, planned_s=planned_s), same)
    about = {**same, "fog": manifest.name}
    shape = {"labels": len(manifest.labels), "topology": topology(manifest), "settings": manifest.settings}

    def keep(drilled: Drilled) -> None:
        if json:
            write_now(json, with_head(start, {**about, **asdict(drilled), **shape}))

    def told() -> None:
        found.blame()
        keep(found)

    if found.elapsed_s:
        say(f"going on after {found.elapsed_s:.0f} s")
    options: dict[str, Any] = {"rate": rate, "window": window, "whole": place.local, "progress": say}
    by_hand = _operator(found) if plan.mode == "by-hand" else None
    with (
        naming(found.evidence, told),
        trial_at(place, path, by_hand=by_hand is not None, **options) as (trial, hands),
        drill_view() as show,
    ):
        Drill(trial, found, hands, by_hand, keep, say, show).run()
    write(json, {**about, **asdict(found), **shape}, start)
    expected = None
    if plan.mode == "random":
        expected = average_accuracy(manifest.accuracy.per_mask, manifest.order, plan.reliability)
    print_drill(found, expected)
    require_none(found.findings)
    require_as_predicted(found)


def _operator(found: Drilled) -> ByHand:
    plan, rounds = found.plan, None if found.planned_s else 1
    return ByHand(found.order, plan.seed, plan.hold_s, plan.patience_s, rounds, found.remarks, found.elapsed_s)
