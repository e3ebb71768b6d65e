"""Failures, one after the other: how soon the others sense each, and what it costs.

normal ──do──► under way ──sensed──► settled on the mask ──undo──► normal again     who is gone until brought back
normal ──do──► under way ─────────── weak for a while ─────undo──► normal again     who is slow or loses packets
normal ──do──► under way ──sensed──► back by itself ─────────────► normal again     who restarts, and the broker
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import numpy as np

from benchmarks.driver import FleetSilent
from benchmarks.failover import Episode, Failover, Way, summary
from benchmarks.fleet import Trial
from benchmarks.hands import BROKER, Hands
from benchmarks.homeward import bring_home
from benchmarks.recording import StepRecord
from benchmarks.scenario import Verb
from benchmarks.told import Noticed
from edge_agent.flow import ancestors
from export.average import DIGITS
from export.failures import accuracy

WEAK: Final[tuple[Verb, ...]] = ("slow", "lossy")
_PASSING: Final[tuple[Verb, ...]] = ("restart", "reboot")
_NO_LABEL: Final = -2
_BEFORE: Final = 20
_EVERLASTING: Final = 1 << 62


class _Moments(NamedTuple):
    """When a failure began, when it was to end, and when all was well again."""

    began_ns: int
    healed_ns: int
    normal_ns: int


class Series:
    """Failures of one class, one after the other.

    Args:
        trial: A running fleet, all alive.
        hands: What lets nodes fail, and brings them back.
        way: How they fail.
        nodes: Whose turn it is, one after the other.
        steps: How many to measure while a node is gone.
        hold_s: How long a node stays weak, or the broker's device unplugged.
        one_clock: Whether the agents' clock is ours; if not, the moment counts when we hear what they sensed.
        patience_s: How long a fleet may take to see what was done.
    """

    def __init__(
        self,
        trial: Trial,
        hands: Hands,
        way: Way,
        nodes: Sequence[str],
        *,
        steps: int,
        hold_s: float,
        one_clock: bool = True,
        patience_s: float = 120.0,
    ) -> None:
        self._trial, self._driver, self._hands, self._way = trial, trial.driver, hands, way
        self._steps, self._hold_s, self._one_clock, self._patience_s = steps, hold_s, one_clock, patience_s
        self._nodes = [BROKER] if way.at_broker else list(nodes)
        self._everyone = frozenset(trial.bundle.manifest.order)
        self._episodes: list[Episode] = []
        self._answers_ms: list[float] = []
        self._driver.watch = hands.check

    def run(self, times: int, told: Callable[[Failover], None], progress: Callable[[str], None]) -> Failover:
        """Let nodes fail `times` times in turn; `told` is called with all so far after each, `progress` with a line."""
        for turn in range(times):
            self._go_home()
            node = self._nodes[turn % len(self._nodes)]
            episode = self._fail(node)
            self._episodes.append(episode)
            told(self.found())
            sensed = ", ".join(f"{each:.1f}" for each in episode.sensed_ms.values())
            progress(
                f"{self._way.name} {turn + 1}: {node} "
                f"{f'sensed after {sensed} ms, ' if sensed else ''}all well again after {episode.back_ms:.0f} ms"
            )
        self._go_home()
        return self.found()

    def _go_home(self) -> None:
        """Let a fleet that has gone to its next broker come back, for it is the first that fails."""
        if self._way.at_broker and bring_home(self._driver, self._patience_s):
            self._driver.begin("at the first broker", self._everyone)
            self._normal()

    def found(self) -> Failover:
        """Return what is known so far."""
        return summary(self._way.name, self._episodes, self._answers_ms)

    def _fail(self, node: str) -> Episode:
        driver, harm = self._driver, self._way.harm
        del driver.phases[:-1]
        driver.measure(len(driver.phases[-1].steady) + _BEFORE)  # so that some are under way
        driver.told.noticed.clear()
        if node == BROKER:
            moments = self._without_broker()
        elif harm.verb in WEAK:
            moments = self._weaken(node)
        elif harm.verb in _PASSING:
            moments = self._pass(node)
        else:
            moments = self._hold(node)
        driver.drain()
        return self._episode(node, moments)

    def _hold(self, node: str) -> _Moments:
        """Let a node be gone, measure without it, and bring it back."""
        driver, harm = self._driver, self._way.harm
        driver.begin(f"{node} {harm}", self._everyone - {node})
        self._hands.do(harm, node)
        driver.settle(timeout_s=self._patience_s)
        driver.measure(self._steps)
        driver.finish()
        began_ns = self._when() or min(
            _at_ns(each, self._one_clock) for each in driver.told.noticed if each.node == node
        )
        return _Moments(began_ns, *self._bring_back(node))

    def _weaken(self, node: str) -> _Moments:
        """Let a node be weak for a while."""
        driver, harm = self._driver, self._way.harm
        driver.begin(f"{node} {harm}", self._everyone)
        self._hands.do(harm, node)
        began_ns = self._when()
        ends_s = time.monotonic() + self._hold_s
        driver.measure(_EVERLASTING, until=lambda: time.monotonic() > ends_s)
        return _Moments(began_ns, *self._bring_back(node))

    def _bring_back(self, node: str) -> tuple[int, int]:
        """Undo what was done; return when that began, and when all was well."""
        self._driver.begin(f"{node} back", self._everyone)
        self._hands.undo(self._way.harm, node)
        normal_ns = self._normal()
        return self._when() or self._driver.phases[-1].began_ns, normal_ns

    def _pass(self, node: str) -> _Moments:
        """Let a node go and come back by itself."""
        driver, harm = self._driver, self._way.harm
        heirs = self._heirs(node)

        def is_sensed() -> bool:
            return heirs <= {each.observer for each in driver.told.noticed if each.node == node}

        driver.begin(f"{node} {harm}", self._everyone - {node})
        self._hands.do(harm, node)
        driver.settle(timeout_s=self._patience_s, until=is_sensed)
        driver.begin(f"{node} back", self._everyone)
        normal_ns = self._normal()
        began_ns = self._when()
        self._hands.undo(harm, node)
        return _Moments(began_ns, began_ns, normal_ns)

    def _without_broker(self) -> _Moments:
        """Let the broker die, or its device; nothing is fed until all nodes have begun another life."""
        driver, harm = self._driver, self._way.harm
        times: list[int] = []

        def restart() -> None:
            self._hands.do(harm, BROKER)
            times.append(self._when())
            if harm.verb != "kill":
                driver.wait(self._hold_s)
            self._hands.undo(harm, BROKER)

        driver.begin(f"{BROKER} {harm}", self._everyone)
        driver.outlive(restart, self._patience_s)
        driver.begin(f"{BROKER} back", self._everyone)
        normal_ns = self._normal()
        healed_ns = self._when()
        return _Moments(times[0], times[0] if harm.verb == "kill" else healed_ns, normal_ns)

    def _normal(self) -> int:
        """Feed until all nodes see all others alive and a step was answered by all; return when that was."""
        self._driver.settle(timeout_s=self._patience_s, by_all=True)
        return time.monotonic_ns()

    def _when(self) -> int:
        """Wait until what was asked for has been done, and return when that began; 0 if nobody here can tell."""
        ends_s = time.monotonic() + self._patience_s
        while (began_ns := self._hands.began_ns()) is None:
            self._hands.check()
            if time.monotonic() > ends_s:
                raise FleetSilent(f"{self._way.name}: not done within {self._patience_s:.0f} s")
            self._driver.wait(0.01)
        return began_ns

    def _heirs(self, node: str) -> frozenset[str]:
        """Return the nodes that a node feeds, directly or through others."""
        inputs = self._trial.bundle.manifest.inputs
        return frozenset(each for each in inputs if node in ancestors(inputs, each))

    def _episode(self, node: str, moments: _Moments) -> Episode:
        """Work out what became of one failure."""
        driver, began_ns = self._driver, moments.began_ns
        down, is_weak = driver.phases[1], self._way.harm.verb in WEAK
        heirs = self._heirs(node)
        sensed = sensed_by(heirs, node, driver.told.noticed, began_ns, one_clock=self._one_clock)
        settled = [] if is_weak else down.steady
        unsettled = [*down.transition, *(down.steady if is_weak else ())]
        unsettled += [record for phase in driver.phases[2:] for record in (*phase.transition, *phase.steady)]
        records = settled + unsettled
        last_ns = moments.healed_ns if is_weak else max((at_ns for at_ns, _ in sensed.values()), default=began_ns)
        gap = [each for each in records if each.sent_ns <= last_ns and not 0 < each.answered_ns <= began_ns]
        measured = [each for each in (gap if is_weak else settled) if each.is_answered]
        self._answers_ms += [each.latency_ms for each in measured]
        after = [each for each in records if each.sent_ns > began_ns and each.is_answered]
        whole = driver.expected_contributors(self._everyone)
        left = driver.expected_contributors(self._everyone - {node})
        without = [each for each in after if each.complete and each.contributors == left != whole]
        judged = [(each, down.alive) for each in settled]
        judged += [(each, self._everyone) for each in unsettled if each.complete and each.contributors == whole]
        return Episode(
            node=node,
            feeds=len(heirs),
            sensed_ms={heir: _ms(at_ns - began_ns) for heir, (at_ns, _) in sensed.items()},
            layers={heir: layer for heir, (_, layer) in sensed.items()},
            first_answer_ms=_first_ms(after, began_ns),
            new_mask_ms=_first_ms(without, began_ns),
            back_ms=_ms(moments.normal_ns - moments.healed_ns),
            gap_steps=len(gap),
            gap_right=self._right(gap),
            gap_as_predicted=sum(self._is_predicted(each, self._everyone, self._everyone - {node}) for each in gap),
            incomplete=sum(not each.complete or (is_weak and each.contributors != whole) for each in measured),
            lost=sum(not each.is_answered for each in records),
            late=sum(each.is_answered and each.latency_ms > driver.deadline_ms for each in records),
            wrong=sum(each.is_answered and not self._is_predicted(each, alive) for each, alive in judged),
            false_suspicions=0 if node == BROKER else _false(node, driver.told.noticed),
        )

    def _is_predicted(self, record: StepRecord, *sets: frozenset[str]) -> bool:
        """Whether a label is the predicted one with one of these sets of nodes alive."""
        predicted, mask_key = self._trial.predicted, self._trial.bundle.manifest.mask_key
        return any(record.label == predicted[mask_key(alive)][record.row] for alive in sets)

    def _right(self, records: Sequence[StepRecord]) -> float:
        """Return how many labels are right; a guess counts with its expectation."""
        if not records:
            return 0.0
        found = np.array([_NO_LABEL if record.label is None else record.label for record in records])
        truth = self._trial.held_out.truth[[record.row for record in records]]
        return round(len(records) * accuracy(found, truth, self._trial.bundle.manifest.prior), DIGITS)


def sensed_by(
    heirs: Collection[str], node: str, noticed: Collection[Noticed], began_ns: int, *, one_clock: bool
) -> dict[str, tuple[int, str]]:
    """Return for each of `heirs` that sensed that `node` failed when it did first, and by which layer."""
    found: dict[str, tuple[int, str]] = {}
    for each in noticed:
        at_ns = _at_ns(each, one_clock)
        if each.observer in heirs and each.node == node and each.state != "alive" and at_ns >= began_ns:
            found.setdefault(each.observer, (at_ns, each.layer))
    return found


def _at_ns(noticed: Noticed, one_clock: bool) -> int:
    return noticed.since_ns if one_clock else noticed.heard_ns


def _false(node: str, noticed: Collection[Noticed]) -> int:
    """Return how often somebody else than `node` was no longer waited for, by others than itself."""
    alarms = [each for each in noticed if each.was == "alive" != each.state]
    return sum(node not in (each.node, each.observer) for each in alarms)


def _first_ms(records: Sequence[StepRecord], began_ns: int) -> float | None:
    return _ms(min(each.answered_ns for each in records) - began_ns) if records else None


def _ms(ns: int) -> float:
    return round(ns / 1e6, 2)
