"""Two results of one command: what is worse beyond noise.

Counts are held against each other by Fisher's exact test, times and other measurements by their ranks (Mann-Whitney,
exact where there are few), averages by their intervals; for measurements the ratio of the medians is told with the
interval that resampling gives it. With many things compared some differ by chance: of the 2 % at which one counts as
worse, what a result was measured for shares four fifths among itself (Bonferroni), and the details the rest.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from benchmarks.kinds import kind_of
from benchmarks.measures import Measure, Result, measures_of, unjudged
from benchmarks.noise import Average, Count, Sample, by_chance, by_interval, by_rank, least_chance, ratio_interval
from benchmarks.terminal import print_table, results
from broker.errors import FailureFound, FogError

CHANCE: Final = 0.02
_OF_DETAILS: Final = 0.2
"""So much of CHANCE: the rest, among the four ratios of `bench latency`, lets five rounds tell (1 / 252 each)."""
Pairs = dict[str, tuple[Measure, Measure]]


class NothingComparable(FogError):
    """Two results have nothing in common that could be compared."""


class Regression(FailureFound):
    """A result is worse than an earlier one beyond noise."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One thing compared.

    Attributes:
        name: What.
        before: The earlier share, median or average.
        after: The later one.
        p: How likely the later one is at least so much worse by chance alone.
        ratio: Where the later median over the earlier one lies with 95 %; of samples only.
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
    kind, other = kind_of(before, first), kind_of(after, second)
    if kind != other:
        raise NothingComparable(f"{first} is of kind {kind}, {second} of kind {other}: nothing to compare")
    nodes, others = (", ".join(each.get("order", ())) for each in (before, after))
    if kind in ("accuracy", "drill") and nodes != others:
        raise NothingComparable(f"{first} has the nodes {nodes}, {second} {others}: their masks are not the same ones")
    try:
        families = list(zip(measures_of(before, kind), measures_of(after, kind), strict=True))
        alone = unjudged(before, after, kind)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise NothingComparable(f"{first}, {second}: not as this fogguard writes them ({error!r})") from error
    left_out: list[str] = []
    is_elsewhere = before.get("host") != after.get("host")
    found = [_pairs(old, new, left_out, is_elsewhere=is_elsewhere) for old, new in families]
    shares = (1 - _OF_DETAILS, _OF_DETAILS) if all(found) else (1, 1)
    compared = [
        each
        for pairs, share in zip(found, shares, strict=True)
        for each in _compare(pairs, share * CHANCE / max(1, len(pairs)), left_out)
    ]
    if not compared:
        reasons = "; ".join(left_out[:3]) or "neither holds anything to compare"
        raise NothingComparable(f"nothing in {first} and {second} can be compared: {reasons}")
    return Comparison(kind=kind, compared=compared, left_out=[*alone, *left_out])


def _pairs(old: Mapping[str, Measure], new: Mapping[str, Measure], left_out: list[str], *, is_elsewhere: bool) -> Pairs:
    """Return what can be held against each other; what cannot goes to `left_out`."""
    left_out += [f"{name}: in one of them only" for name in sorted(old.keys() ^ new.keys())]
    pairs: Pairs = {}
    for name in [name for name in old if name in new]:
        if obstacle := _obstacle(old[name], new[name], is_elsewhere=is_elsewhere):
            left_out.append(f"{name}: {obstacle}")
        else:
            pairs[name] = old[name], new[name]
    return pairs


def _obstacle(old: Measure, new: Measure, *, is_elsewhere: bool) -> str:
    """Return why two cannot be held against each other, or nothing."""
    match old, new:
        case Average(), Average():
            if old.over != new.over:
                return "over other masks"
            return "" if old.ci95 and new.ci95 else "has no interval in one of them"
        case Count(), Count():
            return "" if old.n and new.n else "was not measured in both"
        case Sample(), Sample():
            if not (old.values and new.values):
                return "was not measured in both"
            return "times of different machines" if old.is_time and is_elsewhere else ""
    return "is of another kind in each"


def _compare(pairs: Pairs, chance: float, left_out: list[str]) -> list[Compared]:
    """Return which is worse, each so unlikely as `chance` by chance alone."""
    found = []
    for name, (old, new) in pairs.items():
        ratio = None
        match old, new:
            case Count(), Count():
                figures, p = (old.bad / old.n, new.bad / new.n), by_chance(old, new)
            case Average(), Average():
                figures, p = (old.mean, new.mean), by_interval(old, new)
            case Sample(), Sample():
                if least_chance(old, new) >= chance:
                    left_out.append(f"{name}: measured too few times to tell")
                    continue
                sign = 1 if old.less_is_better else -1
                figures = (float(np.median(old.values)), float(np.median(new.values)))
                p = by_rank([sign * value for value in old.values], [sign * value for value in new.values])
                ratio = ratio_interval(old.values, new.values)
            case _:
                raise AssertionError(f"{name}: two of a kind are paired")
        found.append(Compared(name=name, before=figures[0], after=figures[1], p=p, ratio=ratio, worse=p < chance))
    return found


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
