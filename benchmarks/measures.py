"""What of each kind of result can be held against an earlier one, and what cannot be, with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from benchmarks.drilled import Deed, Stretch
from benchmarks.failover import Failover
from benchmarks.kinds import Kind
from benchmarks.noise import Average, Count, Sample
from benchmarks.scenario import USUAL

Result = Mapping[str, Any]
Measure: TypeAlias = Count | Sample | Average


class Measures(NamedTuple):
    """What a result holds to be compared; what it left out is not there.

    Attributes:
        first: What it was measured for.
        details: What that consists of, or what was looked at besides.
    """

    first: dict[str, Measure]
    details: dict[str, Measure]


def measures_of(result: Result, kind: Kind) -> Measures:
    """Return what a result of that kind holds to be compared."""
    match kind:
        case "phases":
            return _of_masks(result["phases"], "name", "labels_compared")
        case "drill":
            found = _of_masks(result["masks"], "mask", "n")
            deeds = _of_deeds(
                msgspec.convert(result["deeds"], list[Deed]), msgspec.convert(result["stretches"], list[Stretch])
            )
            return Measures({**found.first, **deeds}, found.details)
        case "accuracy":
            found = _of_masks(result["masks"], "mask", "n")
            over = frozenset(each["mask"] for each in result["masks"])
            averages = {
                f"{setting}: Eq. (3)": Average(each["measured"], each["ci95"], over)
                for setting, each in result["average"].items()
            }
            return Measures({**averages, **found.first}, found.details)
        case "failover":
            return Measures(_of_classes(msgspec.convert(result["classes"], dict[str, Failover])), {})
        case "latency":
            return Measures(_of_rounds(result), _of_stages(result) if "judged" in result else {})
        case "stages":
            return Measures(_of_stages(result), {})
        case "soak":
            steps = result["steps"]
            return Measures(
                {
                    "steps lost": Count(steps["lost"], steps["sent"]),
                    "labels wrong": Count(steps["wrong"], steps["compared"]),
                },
                {},
            )
        case "switch":
            return Measures(_of_switches(result["switches"]), {})
        case "evaluation":
            return Measures(_of_variants(result["variants"]), {})


def unjudged(before: Result, after: Result, kind: Kind) -> list[str]:
    """Return what both hold and chance cannot be told of, for one run has it once, or its steps hang together."""
    if kind in ("phases", "drill", "accuracy"):
        return ["answer times: the steps of one run are not independent of each other"]
    if kind not in ("stages", "latency"):
        return []
    old, new = _once(before), _once(after)
    return [
        f"{name}: {old.get(name, 'none')}, now {new.get(name, 'none')}: of one run each, and runs differ"
        for name in ({**old, **new} if old and new else ())
    ]


def _once(result: Result) -> dict[str, str]:
    """Return what `bench latency` tells of a fleet once in a run."""
    if "loads" not in result:  # measured before agents could tell
        return {}
    borne = [load["offered_per_s"] for load in result["loads"] if load["borne"]]
    answers = {f"answers one by one, {name} ms": f"{ms:.4g}" for name, ms in result["answers_ms"].items()}
    return {**answers, "load borne, steps a second": f"{max(borne):g}" if borne else "none"}


def _of_masks(entries: Sequence[Mapping[str, Any]], key: str, n: str) -> Measures:
    """Return what was lost and what differs over all, and for each mask how many labels are wrong."""
    compared, equal = sum(each[n] for each in entries), sum(each["labels_equal"] for each in entries)
    lost = sum(each["lost"] + each.get("transition", {"lost": 0})["lost"] for each in entries)
    found: dict[str, Measure] = {
        "labels not as predicted": Count(compared - equal, compared),
        "steps lost": Count(lost, compared + lost),
    }
    wrong: dict[str, Count] = {}
    for each in entries:  # a run comes back to the same phase as often as a node does
        so_far = wrong.get(each[key], Count(0, 0))
        fresh = round(each[n] * (1 - (each["accuracy_measured"] or 0.0)))
        wrong[each[key]] = Count(so_far.bad + fresh, so_far.n + each[n])
    return Measures(found, {f"{name}: labels wrong": count for name, count in wrong.items()})


def _of_deeds(deeds: Sequence[Deed], stretches: Sequence[Stretch]) -> dict[str, Measure]:
    """Return how soon the sink saw each kind of thing done, and how much of it never though somebody was watching."""
    times: dict[str, list[float]] = {}
    unseen: dict[str, Count] = {}
    latest: dict[str, str] = {}
    for deed in deeds:
        done = latest.get(deed.node, "") if deed.what == "back" else deed.what
        latest[deed.node] = deed.what
        if deed.sensed_ms is not None:
            times.setdefault(deed.what, []).append(deed.sensed_ms)
        is_watched = not any(each.from_s <= deed.at_s <= each.to_s for each in stretches if not each.mask)
        if is_watched and not _may_pass_unseen(done):
            so_far = unseen.get(deed.what, Count(0, 0))
            unseen[deed.what] = Count(so_far.bad + (deed.sensed_ms is None), so_far.n + 1)
    return {
        **{f"{what}: seen after, ms": Sample(values, is_time=True) for what, values in times.items()},
        **{f"{what}: never seen": count for what, count in unseen.items()},
    }


def _may_pass_unseen(what: str) -> bool:
    """Whether nobody need notice it: who is slow or lossy may keep up all the same (`slow=5`, `lossy 10 %`)."""
    return what.startswith(tuple(USUAL))


def _of_classes(classes: Mapping[str, Failover]) -> dict[str, Measure]:
    """Return each class's times and counts.

    What comes in bursts counts once for each failure, however many steps it cost: these are not independent.
    """
    found: dict[str, Measure] = {}
    for name, each in classes.items():
        answers, failures = each.answer_ms.n if each.answer_ms else 0, each.each
        right = [failure.gap_right / failure.gap_steps for failure in failures if failure.gap_steps]
        found |= {
            f"{name}: sensed, ms": Sample(each.each_sensed_ms, is_time=True),
            f"{name}: first answer, ms": Sample(each.each_first_answer_ms, is_time=True),
            f"{name}: back to normal, ms": Sample([failure.back_ms for failure in failures], is_time=True),
            f"{name}: steps lost": Count(each.lost, answers + each.lost),
            f"{name}: labels wrong": Count(each.wrong, answers),
            f"{name}: right in the gap": Sample(right, less_is_better=False),
        }
        bad = {
            "failures with false alarms": [failure.false_suspicions for failure in failures],
            "failures with late answers": [failure.late for failure in failures],
            "failures with incomplete answers": [failure.incomplete for failure in failures],
        }
        if not _may_pass_unseen(name):
            bad["failures not sensed by all"] = [failure.feeds - len(failure.sensed_ms) for failure in failures]
        found |= {f"{name}: {what}": Count(sum(n > 0 for n in some), len(some)) for what, some in bad.items()}
    return found


def _of_rounds(result: Result) -> dict[str, Measure]:
    rounds: Sequence[Mapping[str, float]] = result.get("each_round", [])
    return {
        f"{name}, times the bare relay's": Sample([each[name] for each in rounds], less_is_better=name != "steps_per_s")
        for name in (rounds[0] if rounds else ())
    }


def _of_stages(result: Result) -> dict[str, Measure]:
    judged = result["judged"].values()
    return {
        "steps not answered": Count(result["unanswered"], result["n"] + result["unanswered"]),
        "vectors computed wrong": Count(sum(each["wrong"] for each in judged), sum(each["n"] for each in judged)),
    }


def _of_switches(switches: Sequence[Mapping[str, Any]]) -> dict[str, Measure]:
    stretches = [each for switch in switches for each in switch["stretches"]]
    sent, lost, mixed, compared, equal = (
        sum(each[key] for each in stretches) for key in ("sent", "lost", "mixed", "labels_compared", "labels_equal")
    )
    return {
        "steps lost": Count(lost, sent),
        "answered by another bundle": Count(mixed, sent),
        "labels wrong": Count(compared - equal, compared),
    }


def _of_variants(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Measure]:
    """Return the average accuracies of each variant's seeds under each setting."""
    return {
        f"{name}, {setting}: average accuracy": Sample(
            [seed["average"][setting] for seed in each["seeds"]], less_is_better=False
        )
        for name, each in variants.items()
        for setting in each["average"]
    }
