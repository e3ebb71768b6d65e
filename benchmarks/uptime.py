"""Reliability from the field: from when each node was up and down to an estimate of r_i, with what is left uncertain.

Up and down times alternate and are taken for exponential, with unknown rates of failing and of being repaired. With
Jeffreys' priors these rates are gamma distributed: shape n + 1/2 after n failures, rate the time spent up; likewise for
repairs and the time spent down. The share of time up is r = repair / (repair + fail), and so has the distribution that
Brender derived ("The Prediction and Measurement of System Availability: A Bayesian Treatment", IEEE Transactions on
Reliability, 1968); its odds are an F distribution's, as in the classical interval (Trivedi, "Probability and Statistics
with Reliability, Queuing, and Computer Science Applications", chapter 10). What the end of the recording cuts off
counts for as long as it was seen, without an end.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from benchmarks.drilled import Change, Stretch
from broker.errors import FogError

DRAWS: Final = 20_000
ASSUMED_REPAIR_S: Final = 3600.0
T = TypeVar("T")
Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Draws = npt.NDArray[np.float64]


class UptimeError(FogError):
    """Nothing can be learnt from a recording."""


class Uptime(msgspec.Struct, frozen=True, kw_only=True):
    """How long a node was seen up and down, and how often that changed while it was seen."""

    up_s: NotNegative = 0.0
    down_s: NotNegative = 0.0
    failures: Annotated[int, Meta(ge=0)] = 0
    repairs: Annotated[int, Meta(ge=0)] = 0

    def __add__(self, other: "Uptime") -> "Uptime":
        return Uptime(
            up_s=self.up_s + other.up_s,
            down_s=self.down_s + other.down_s,
            failures=self.failures + other.failures,
            repairs=self.repairs + other.repairs,
        )


class Reliability(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate of one r_i.

    Attributes:
        r: The mean of what it may be.
        low: With 2.5 % it is lower.
        high: With 2.5 % it is higher.
        share_up: The plain share of the time in which it was seen up.
        repairs_from: Whose repair times were counted: those of the node; of all nodes, as it was never seen repaired;
            or an assumed one, as none was.
        seen: What was seen.
    """

    r: Share
    low: Share
    high: Share
    share_up: Share
    repairs_from: Literal["own", "all", "assumed"]
    seen: Uptime


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The estimates for all nodes that can fail, in the specification's order."""

    order: tuple[str, ...]
    method: str
    assumed_repair_s: NotNegative
    nodes: dict[str, Reliability]


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill or `fogguard observe` recorded, as far as it counts here."""

    order: tuple[str, ...]
    elapsed_s: float
    changes: list[Change]
    stretches: list[Stretch] = []


def uptimes(recording: Recording) -> dict[str, Uptime]:
    """Return for each node how long it was up and down, but for the stretches in which nobody could tell."""
    blind = [(each.from_s, each.to_s) for each in recording.stretches if each.mask == ""]
    found = {}
    for node in recording.order:
        changes = [(each.at_s, each.state == "alive") for each in recording.changes if each.node == node]
        found[node] = _uptime(changes, recording.elapsed_s, blind)
    return found


def _uptime(changes: Sequence[tuple[float, bool]], elapsed_s: float, blind: Sequence[tuple[float, float]]) -> Uptime:
    up_s = down_s = 0.0
    failures = repairs = 0
    since_s, is_up = 0.0, True
    for at_s, comes_up in (*changes, (elapsed_s, True)):
        seen_s = at_s - since_s - sum(max(0.0, min(at_s, end) - max(since_s, begin)) for begin, end in blind)
        up_s, down_s = (up_s + seen_s, down_s) if is_up else (up_s, down_s + seen_s)
        is_seen = at_s < elapsed_s and not any(begin <= at_s <= end for begin, end in blind)
        failures += is_seen and is_up and not comes_up
        repairs += is_seen and not is_up and comes_up
        since_s, is_up = at_s, comes_up
    return Uptime(up_s=round(up_s, 4), down_s=round(down_s, 4), failures=failures, repairs=repairs)


def draws(order: Sequence[str], seen: Mapping[str, Uptime], assumed_repair_s: float, count: int = DRAWS) -> Draws:
    """Return (count, nodes) reliabilities drawn from what they may be; always the same ones."""
    chance = np.random.default_rng(0)
    everybody = sum((seen[node] for node in order), Uptime())
    found = np.empty((count, len(order)))
    for column, node in enumerate(order):
        each = seen[node]
        if each.up_s + each.down_s <= 0:
            raise UptimeError(f"{node} was never seen, neither up nor down")
        repairs, down_s = _repairs(each, everybody, assumed_repair_s)
        failing = chance.gamma(each.failures + 0.5, 1 / max(each.up_s, 1e-9), count)
        repairing = chance.gamma(repairs + 0.5, 1 / down_s, count)
        found[:, column] = repairing / (repairing + failing)
    return found


def _repairs(each: Uptime, everybody: Uptime, assumed_s: float) -> tuple[int, float]:
    """Return how many repairs took how long: the node's own, else those of all, else an assumed one."""
    return {
        "own": (each.repairs, each.down_s),
        "all": (everybody.repairs, max(everybody.down_s, 1e-9)),
        "assumed": (1, max(assumed_s, each.down_s)),
    }[_source(each, everybody)]


def _source(each: Uptime, everybody: Uptime) -> Literal["own", "all", "assumed"]:
    if each.repairs and each.down_s > 0:
        return "own"
    return "all" if everybody.repairs and everybody.down_s > 0 else "assumed"


def estimate(recordings: Iterable[Recording], assumed_repair_s: float = ASSUMED_REPAIR_S) -> Observed:
    """Return what recordings of one fleet together tell about each node; raises UptimeError."""
    order: tuple[str, ...] = ()
    seen: dict[str, Uptime] = {}
    for recording in recordings:
        if order and recording.order != order:
            raise UptimeError(
                f"the recordings are of different fleets: one has {', '.join(order)}, "
                f"another {', '.join(recording.order)}"
            )
        order = recording.order
        for node, each in uptimes(recording).items():
            seen[node] = seen.get(node, Uptime()) + each
    return of_uptimes(order, seen, assumed_repair_s)


def of_uptimes(order: Sequence[str], seen: Mapping[str, Uptime], assumed_repair_s: float) -> Observed:
    """Return the estimates for nodes that were seen up and down so long and so often; raises UptimeError."""
    found = draws(order, seen, assumed_repair_s)
    everybody = sum((seen[node] for node in order), Uptime())
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    nodes = {
        node: Reliability(
            r=round(float(found[:, column].mean()), 6),
            low=round(float(low[column]), 6),
            high=round(float(high[column]), 6),
            share_up=round(seen[node].up_s / (seen[node].up_s + seen[node].down_s), 6),
            repairs_from=_source(seen[node], everybody),
            seen=seen[node],
        )
        for column, node in enumerate(order)
    }
    return Observed(order=tuple(order), method=METHOD, assumed_repair_s=assumed_repair_s, nodes=nodes)


METHOD: Final = "exponential up and down times, Jeffreys' priors on both rates (Brender 1968); 95 % interval"


def read_recording(file: Path) -> Recording:
    """Read the recording in a JSON file; raises UptimeError."""
    what = "no recording of ups and downs: `fogguard drill` and `fogguard observe` write them"
    return _read(msgspec.json.Decoder(Recording), file, what)


def read_observed(file: Path) -> Observed:
    """Read the estimates in a JSON file; raises UptimeError."""
    return _read(msgspec.json.Decoder(Observed), file, "no observed reliability: `fogguard reliability` writes it")


def _read(decoder: "msgspec.json.Decoder[T]", file: Path, complaint: str) -> T:
    try:
        return decoder.decode(file.read_bytes())
    except OSError as error:
        raise UptimeError(f"{file}: cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UptimeError(f"{file}: {complaint} ({error})") from error
