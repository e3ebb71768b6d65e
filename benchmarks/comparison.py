"""Two results of one command: what is worse beyond noise.

Counts are held against each other by Fisher's exact test, times and other measurements by their ranks (Mann-Whitney,
exact where there are few); for these the ratio of the medians is told with the interval that resampling gives it. With
many things compared some differ by chance: the 2 % at which one counts as worse are shared out among all (Bonferroni).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks.kinds import kind_of
from benchmarks.noise import Count, Sample, by_chance, by_rank, least_chance, ratio_interval
from benchmarks.terminal import print_table, results
from broker.errors import FailureFound, FogError

CHANCE: Final = 0.02
Result = Mapping[str, Any]


class NothingComparable(FogError):
    """Two results have nothing in common that could be compared."""


class Regression(FailureFound):
    """A result is worse than an earlier one beyond noise."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One thing compared.

    Attributes:
        name: What.
        before: The earlier share or median.
        after: The later one.
        p: How likely the later one is at least so much worse by chance alone.
        ratio: Where the later median over the earlier one lies with 95 %; of counts there is none.
        worse: Whether it is worse beyond noise.
    """

    name: str
    before: float
    after: float
    p: float
    ratio: tuple[float, float] | None
    worse: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared, and what could not be, with the reason."""

    kind: str
    compared: list[Compared]
    left_out: list[str]


def compare(before: Result, after: Result, first: str, second: str) -> Comparison:
    """Compare two results that were read from the files `first` and `second`; raises NothingComparable."""
    kinds = kind_of(before, first), kind_of(after, second)
    if kinds[0] != kinds[1]:
        raise NothingComparable(f"{first} is of kind {kinds[0]}, {second} of kind {kinds[1]}: nothing to compare")
    try:
        old, new = measures_of(before, kinds[0]), measures_of(after, kinds[0])
    except (KeyError, TypeError, AttributeError) as error:
        raise NothingComparable(f"{first}, {second}: not as this fogguard writes them ({error!r})") from error
    left_out = [f"{name}: in one of them only" for name in sorted(old.keys() ^ new.keys())]
    is_elsewhere = before.get("host") != after.get("host") and kinds[0] not in ("latency", "evaluation")
    pairs: dict[str, tuple[Count, Count] | tuple[Sample, Sample]] = {}
    for name in [name for name in old if name in new]:
        a, b = old[name], new[name]
        if isinstance(a, Count) and isinstance(b, Count) and a.n and b.n:
            pairs[name] = a, b
        elif not (isinstance(a, Sample) and isinstance(b, Sample) and a.values and b.values):
            left_out.append(f"{name}: was not measured in both")
        elif is_elsewhere:
            left_out.append(f"{name}: times of different machines")
        else:
            pairs[name] = a, b
    chance = CHANCE / max(1, len(pairs))
    for name, (a, b) in list(pairs.items()):
        if isinstance(a, Sample) and isinstance(b, Sample) and least_chance(a, b) >= chance:
            del pairs[name]
            left_out.append(f"{name}: measured too few times to tell")
    if not pairs:
        reasons = "; ".join(left_out[:3]) or "neither holds anything to compare"
        raise NothingComparable(f"nothing in {first} and {second} can be compared: {reasons}")
    compared = [_compare(name, a, b, chance) for name, (a, b) in pairs.items()]
    return Comparison(kind=kinds[0], compared=compared, left_out=left_out)


def _compare(name: str, old: Count | Sample, new: Count | Sample, chance: float) -> Compared:
    if isinstance(old, Count) and isinstance(new, Count):
        p = by_chance(old, new)
        return Compared(name=name, before=old.bad / old.n, after=new.bad / new.n, p=p, ratio=None, worse=p < chance)
    if isinstance(old, Count) or isinstance(new, Count):
        raise NothingComparable(f"{name}: a count in one of them, and none in the other")
    sign = 1 if old.less_is_better else -1
    p = by_rank([sign * value for value in old.values], [sign * value for value in new.values])
    medians = (float(np.median(old.values)), float(np.median(new.values)))
    ratio = ratio_interval(old.values, new.values)
    return Compared(name=name, before=medians[0], after=medians[1], p=p, ratio=ratio, worse=p < chance)


def measures_of(result: Result, kind: str) -> dict[str, Count | Sample]:
    """Return what a result of that kind holds to be compared; what it left out is not there."""
    match kind:
        case "phases":
            return _of_masks(result["phases"], "name", "labels_compared")
        case "drill":
            return {**_of_masks(result["masks"], "mask", "n"), **_of_deeds(result["deeds"])}
        case "accuracy":
            return _of_masks(result["masks"], "mask", "n")
        case "failover":
            return _of_classes(result["classes"])
        case "latency":
            rounds: list[dict[str, float]] = result.get("each_round", [])
            return {
                f"{name}, times the bare relay's": Sample([each[name] for each in rounds], name != "steps_per_s")
                for name in (rounds[0] if rounds else ())
            }
        case "stages":
            judged = result["judged"].values()
            return {
                "steps not answered": Count(result["unanswered"], result["n"] + result["unanswered"]),
                "vectors computed wrong": Count(sum(e["wrong"] for e in judged), sum(e["n"] for e in judged)),
            }
        case "soak":
            steps = result["steps"]
            return {
                "steps lost": Count(steps["lost"], steps["sent"]),
                "labels wrong": Count(steps["wrong"], steps["compared"]),
            }
        case "switch":
            stretches = [each for switch in result["switches"] for each in switch["stretches"]]
            sent, lost, mixed, compared, equal = (
                sum(each[key] for each in stretches)
                for key in ("sent", "lost", "mixed", "labels_compared", "labels_equal")
            )
            return {
                "steps lost": Count(lost, sent),
                "answered by another bundle": Count(mixed, sent),
                "labels wrong": Count(compared - equal, compared),
            }
        case _:
            return _of_variants(result["variants"])


def _of_masks(entries: Sequence[Mapping[str, Any]], key: str, n: str) -> dict[str, Count | Sample]:
    """Return what was lost and what differs over all, and for each mask how many labels are wrong."""
    compared, equal = sum(each[n] for each in entries), sum(each["labels_equal"] for each in entries)
    lost = sum(each["lost"] + each.get("transition", {"lost": 0})["lost"] for each in entries)
    found: dict[str, Count | Sample] = {
        "labels not as predicted": Count(compared - equal, compared),
        "steps lost": Count(lost, compared + lost),
    }
    wrong: dict[str, Count] = {}
    for each in entries:  # a run comes back to the same phase as often as a node does
        so_far = wrong.get(each[key], Count(0, 0))
        fresh = round(each[n] * (1 - each["accuracy_measured"]))
        wrong[each[key]] = Count(so_far.bad + fresh, so_far.n + each[n])
    return {**found, **{f"{name}: labels wrong": count for name, count in wrong.items()}}


def _of_deeds(deeds: Sequence[Mapping[str, Any]]) -> dict[str, Count | Sample]:
    """Return how soon the sink saw each kind of thing done."""
    times: dict[str, list[float]] = {}
    for deed in deeds:
        if deed["sensed_ms"] is not None:
            times.setdefault(f"{deed['what']}: seen after, ms", []).append(deed["sensed_ms"])
    return {name: Sample(values) for name, values in times.items()}


def _of_classes(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Count | Sample]:
    found: dict[str, Count | Sample] = {}
    for name, each in classes.items():
        answers = each["answer_ms"]["n"] if each["answer_ms"] else 0
        found[f"{name}: sensed, ms"] = Sample(each.get("each_sensed_ms", []))
        found[f"{name}: first answer, ms"] = Sample(each.get("each_first_answer_ms", []))
        found[f"{name}: back to normal, ms"] = Sample([failure["back_ms"] for failure in each.get("each", [])])
        found[f"{name}: steps lost"] = Count(each["lost"], answers + each["lost"])
        found[f"{name}: labels wrong"] = Count(each["wrong"], answers)
    return found


def _of_variants(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, Count | Sample]:
    """Return the average accuracies of each variant's seeds under each setting."""
    return {
        f"{name}, {setting}: average accuracy": Sample([seed["average"][setting] for seed in each["seeds"]], False)
        for name, each in variants.items()
        for setting in each["average"]
    }


def require_no_worse(found: Comparison) -> None:
    """Raise Regression if anything is worse beyond noise."""
    worse = [each for each in found.compared if each.worse]
    if worse:
        named = "; ".join(f"{each.name}: {each.before:.4g}, now {each.after:.4g}" for each in worse[:5])
        raise Regression(f"{len(worse)} of {len(found.compared)} are worse beyond noise: {named}")


def print_comparison(found: Comparison, most: int = 40) -> None:
    """Print what was compared, what is worse first."""
    ordered = sorted(found.compared, key=lambda each: not each.worse)
    rows = [
        (
            *(each.name, f"{each.before:.4g}", f"{each.after:.4g}"),
            f"{each.ratio[0]:.3f} to {each.ratio[1]:.3f}" if each.ratio else "-",
            f"{each.p:.2g}",
            "WORSE" if each.worse else "no worse",
        )
        for each in ordered[:most]
    ]
    more = f": {most} of {len(ordered)}" if len(ordered) > most else ""
    print_table(f"Compared{more}", ("", "before", "after", "ratio of medians, 95 %", "by chance", ""), rows)
    for text in found.left_out[:most]:
        results.print(f"left out: {text}", soft_wrap=True)
