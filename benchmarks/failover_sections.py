"""What a report shows of `bench failover`: how the times of each class are distributed, and what it costs."""

import math
from functools import partial
from typing import Final

import msgspec

from benchmarks.failover import COSTS, Failover, costs, is_costly, layers, quantiles
from benchmarks.figures import draw_shares
from benchmarks.sections import Picture, Report, Result, Section, judged


def of_failover(result: Result) -> Report:
    """Return what to show of `bench failover`."""
    classes = msgspec.convert(result["classes"], dict[str, Failover])
    goals = {name: each.goal_ms for name, each in classes.items() if each.goal_ms is not None}
    sensed = {name: _sensed(each) for name, each in classes.items()}
    back = {name: [episode.back_ms for episode in each.each] for name, each in classes.items()}
    pictures = [
        Section(
            title,
            Picture(name, (10, 3.4), partial(draw_shares, samples=samples, goals=marked, unit=unit)),
            note=note,
        )
        for title, name, samples, marked, unit, note in (
            ("Sensed", "sensed", sensed, goals, "ms from the failure until a node no longer waited", _SENSED_NOTE),
            ("Back to normal", "back", back, {}, "ms from the return until all was as before", _BACK_NOTE),
        )
        if any(math.isfinite(ms) for values in samples.values() for ms in values)
    ]
    times = Section(
        "Times, ms",
        columns=("class", "n", *_TIMES, "goal, p95", "sensed by"),
        rows=[
            [
                *(name, str(each.n)),
                *(" / ".join(quantiles(getattr(each, key), "p50", "p95", "max")) for key in _TIMES.values()),
                "-" if each.goal_ms is None else f"{each.goal_ms:.0f}",
                layers(each),
            ]
            for name, each in classes.items()
        ],
        bad=frozenset(k for k, each in enumerate(classes.values()) if not _keeps_goal(each)),
        note="Each cell: median / 95 of 100 / longest.",
    )
    bad = frozenset(k for k, each in enumerate(classes.values()) if is_costly(each))
    rows = [costs(name, each) for name, each in classes.items()]
    cost = Section("What they cost", columns=COSTS, rows=rows, bad=bad, note=_COST_NOTE)
    verdict = (
        "No step lost but by the broker's death, no label wrong" if not bad else "Steps were lost, or labels wrong"
    )
    verdict += "." if not times.bad else "; not every class was sensed within its goal: see the rows marked below."
    failures = sum(each.n for each in classes.values())
    ok = judged(failures, is_bad=bool(bad or times.bad))
    verdict = verdict if failures else "No failure was measured."
    return Report("Failures as the nodes sense them", ok, verdict, [*pictures, times, cost])


_TIMES: Final = {
    "sensed by the first": "sensed_first_ms",
    "by all": "sensed_all_ms",
    "first answer": "first_answer_ms",
    "without the node": "new_mask_ms",
    "back to normal": "back_ms",
    "answers then": "answer_ms",
}
_SENSED_NOTE: Final = (
    "Which share of those that a node feeds had sensed its failure by then (slow, lossy: no longer waited for it). "
    "Dotted: the goal of the class in the same colour, to be kept by 95 of 100."
)
_BACK_NOTE: Final = (
    "From the moment when the node was brought back, or from the failure where it passes by itself (restart, reboot, "
    "the broker killed), until all nodes saw each other alive and nobody was missing in an answer."
)
_COST_NOTE: Final = (
    "The gap: steps under way at the failure or sent before all had sensed it; with slow and lossy, all steps while it "
    "lasted. As predicted: with the node, or without it. Incomplete: answers after the gap, or meanwhile, in which "
    "somebody was missing. While the broker is away nothing is fed; lost there is what was under way."
)


def _sensed(found: Failover) -> list[float]:
    """Return until when each node that one fed had sensed its failure; infinite for those who never did."""
    never = sum(episode.feeds - len(episode.sensed_ms) for episode in found.each)
    return [ms for episode in found.each for ms in episode.sensed_ms.values()] + never * [math.inf]


def _keeps_goal(each: Failover) -> bool:
    is_soon = each.sensed_ms is not None and each.sensed_ms.p95 <= (each.goal_ms or 0)
    return each.goal_ms is None or (is_soon and not each.unsensed)
