"""What failures do, class by class: every one by itself, and how they are spread. Plain data."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from benchmarks.scenario import Harm, Percent, Verb, harm
from broker.errors import FailureFound, FogError
from export.average import DIGITS

GOAL_MS: Final[dict[str, float]] = {"kill": 30.0, "freeze": 300.0, "cut": 300.0}
"""Within how many ms 95 of 100 failures of a class are to be sensed, with a beat every 50 ms."""
_USUAL: Final[tuple[Verb, ...]] = ("kill", "freeze", "cut", "unplug", "slow", "lossy", "restart", "reboot")
_BROKER: Final = "broker-"


class Way(NamedTuple):
    """A class of failure: what is done, to the nodes in turn or to the broker."""

    harm: Harm
    at_broker: bool = False

    @property
    def name(self) -> str:
        """What it is called in results: `broker-kill`, `slow=5`."""
        amount = "" if self.harm.percent is None else f"={self.harm.percent:g}"
        return f"{'broker-' if self.at_broker else ''}{self.harm.verb}{amount}"


def ways(texts: Sequence[str], verbs: Collection[Verb], broker_verbs: Collection[Verb]) -> list[Way]:
    """Return the classes that `HOW`, `HOW=PERCENT` and `broker-HOW` name, with commas between them, or `all`.

    Raises FogError if this fleet's nodes and broker cannot be done that to.
    """
    usual = [*(verb for verb in _USUAL if verb in verbs), *(f"{_BROKER}{verb}" for verb in broker_verbs)]
    known = [*verbs, *(f"{_BROKER}{verb}" for verb in broker_verbs)]
    names = [name for text in texts for name in (usual if text == "all" else text.split(","))]
    if not names:
        raise FogError(f"--by {' '.join(texts)}: none of these can be done to this fleet; {', '.join(known)} can")
    return [_way(name, known) for name in dict.fromkeys(names)]


def _way(name: str, known: Sequence[str]) -> Way:
    how, equals, amount = name.partition("=")
    if how not in known:
        raise FogError(f"--by {how} cannot be done to this fleet: {', '.join(known) or 'nothing'} can")
    try:
        percent = msgspec.convert(float(amount), Percent) if equals else None
    except (ValueError, msgspec.ValidationError) as error:
        raise FogError(f"--by {name}: write a percentage, such as slow=5") from error
    verb = msgspec.convert(how.removeprefix(_BROKER), Verb)
    return Way(harm(verb, percent), at_broker=how.startswith(_BROKER))


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles of times in ms."""

    n: int
    p50: float
    p95: float
    max: float


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One failure.

    Attributes:
        node: Whose.
        feeds: How many nodes it feeds, directly or through others.
        sensed_ms: For each node that it feeds, until that one no longer waited for it.
        layers: How each of them sensed it.
        first_answer_ms: From the failure until the first answer to a step sent after it.
        new_mask_ms: Until the first answer from exactly those who are left.
        back_ms: From the return, or from the failure where it passes by itself, until all saw all others alive and a
            step was answered by all.
        gap_steps: Steps under way at the failure, or sent before all had sensed it; all while a node was weak.
        gap_right: How many of their labels were right, a guess counting with its expectation; no answer is wrong.
        gap_as_predicted: How many labels are what the bundle predicts with the node, or without it.
        incomplete: Answers, of those counted in `answer_ms`, in which somebody was missing.
        lost: Steps that were never answered.
        late: Steps that were answered after the deadline.
        wrong: Labels that are not the predicted ones, once all had settled or of answers in which nobody is missing.
        false_suspicions: How often somebody else was no longer waited for.
    """

    node: str
    feeds: int
    sensed_ms: dict[str, float]
    layers: dict[str, str]
    first_answer_ms: float | None
    new_mask_ms: float | None
    back_ms: float
    gap_steps: int
    gap_right: float
    gap_as_predicted: int
    incomplete: int
    lost: int
    late: int
    wrong: int
    false_suspicions: int


class Failover(msgspec.Struct, frozen=True, kw_only=True):
    """What one class of failure does; of times there is no spread where nothing was sensed or answered.

    Attributes:
        n: How many failures there were.
        goal_ms: What `sensed_ms` is to keep at p95, if there is a goal.
        sensed_ms: One time for each failure and each node that the one that failed feeds.
        sensed_first_ms: One for each failure: the first of them.
        sensed_all_ms: The last of them.
        unsensed: Failures that not all of them sensed: a short or mild one passes unnoticed.
        layers: How often each layer was the one that sensed it.
        first_answer_ms: As in Episode, and so are the following.
        new_mask_ms: From the failure.
        back_ms: From the return.
        gap_steps: Of all failures together.
        gap_accuracy: Share of these that were right.
        gap_as_predicted: Share of these that were as predicted.
        answer_ms: The answers to all steps sent once the sink had settled on who is left, or while the node was weak.
        cut: How many of these somebody was missing in.
        lost: Steps never answered.
        late: Steps answered after the deadline.
        wrong: Labels that were not the predicted ones.
        false_suspicions: Of others.
        each: Every failure by itself.
        each_sensed_ms: `sensed_all_ms`, one by one.
        each_first_answer_ms: `first_answer_ms`, one by one.
    """

    n: int
    sensed_ms: Spread | None
    first_answer_ms: Spread | None
    back_ms: Spread | None
    answer_ms: Spread | None
    gap_accuracy: float
    cut: int
    lost: int
    late: int
    wrong: int
    false_suspicions: int
    goal_ms: float | None = None
    sensed_first_ms: Spread | None = None
    sensed_all_ms: Spread | None = None
    new_mask_ms: Spread | None = None
    unsensed: int = 0
    layers: dict[str, int] = {}
    gap_steps: int = 0
    gap_as_predicted: float = 0.0
    each: list[Episode] = []
    each_sensed_ms: list[float] = []
    each_first_answer_ms: list[float] = []


def summary(name: str, episodes: Sequence[Episode], answers_ms: Sequence[float]) -> Failover:
    """Return what all failures of a class come to."""
    gap_steps = sum(each.gap_steps for each in episodes)
    all_ms = [max(each.sensed_ms.values()) for each in episodes if each.sensed_ms]
    first_answers = [each.first_answer_ms for each in episodes if each.first_answer_ms is not None]
    return Failover(
        n=len(episodes),
        goal_ms=GOAL_MS.get(name),
        sensed_ms=spread([ms for each in episodes for ms in each.sensed_ms.values()]),
        sensed_first_ms=spread([min(each.sensed_ms.values()) for each in episodes if each.sensed_ms]),
        sensed_all_ms=spread(all_ms),
        unsensed=sum(len(each.sensed_ms) < each.feeds for each in episodes),
        layers=dict(Counter(layer for each in episodes for layer in each.layers.values())),
        first_answer_ms=spread(first_answers),
        new_mask_ms=spread([each.new_mask_ms for each in episodes if each.new_mask_ms is not None]),
        back_ms=spread([each.back_ms for each in episodes]),
        gap_steps=gap_steps,
        gap_accuracy=round(sum(each.gap_right for each in episodes) / max(1, gap_steps), DIGITS),
        gap_as_predicted=round(sum(each.gap_as_predicted for each in episodes) / max(1, gap_steps), DIGITS),
        answer_ms=spread(answers_ms),
        cut=sum(each.incomplete for each in episodes),
        lost=sum(each.lost for each in episodes),
        late=sum(each.late for each in episodes),
        wrong=sum(each.wrong for each in episodes),
        false_suspicions=sum(each.false_suspicions for each in episodes),
        each=list(episodes),
        each_sensed_ms=all_ms,
        each_first_answer_ms=first_answers,
    )


def is_costly(each: Failover) -> bool:
    """Whether a label was wrong, or a step lost otherwise than by the broker's death."""
    is_of_broker = any(episode.feeds == 0 for episode in each.each)
    return each.wrong > 0 or (each.lost > 0 and not is_of_broker)


class NotAsPredicted(FailureFound):
    """While nodes failed a step was lost, or answered otherwise than the bundle predicts."""


def require_as_predicted(classes: Mapping[str, Failover]) -> None:
    """Raise NotAsPredicted if a class cost more than it may."""
    bad = [(name, each) for name, each in classes.items() if is_costly(each)]
    if bad:
        details = "; ".join(f"{name}: {each.lost} steps lost, {each.wrong} labels wrong" for name, each in bad)
        raise NotAsPredicted(f"{len(bad)} of {len(classes)} classes of failure are not as predicted: {details}")


def spread(values: Sequence[float]) -> Spread | None:
    """Return how times are spread, if there are any."""
    if not values:
        return None
    p50, p95, most = np.percentile(values, [50, 95, 100]).round(3).tolist()
    return Spread(n=len(values), p50=p50, p95=p95, max=most)


COSTS: Final = (
    *("class", "unsensed", "steps in the gap", "right %", "as predicted %"),
    *("incomplete", "lost", "late", "wrong", "false alarms"),
)


def costs(name: str, each: Failover) -> list[str]:
    """Return what a class of failure cost, to be shown."""
    shares = (each.gap_accuracy, each.gap_as_predicted)
    counts = (each.cut, each.lost, each.late, each.wrong, each.false_suspicions)
    gap = [f"{100 * share:.1f}" if each.gap_steps else "-" for share in shares]
    return [name, str(each.unsensed), str(each.gap_steps), *gap, *map(str, counts)]


def quantiles(spread: Spread | None, *names: str) -> list[str]:
    """Return quantiles of times in ms, to be shown."""
    return ["-" if spread is None else f"{getattr(spread, name):.1f}" for name in names]


def layers(each: Failover) -> str:
    """Return by which layers a class was sensed, and how often, to be shown."""
    return ", ".join(f"{layer} {count}" for layer, count in each.layers.items()) or "-"
