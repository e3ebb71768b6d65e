"""A fleet at full load for hours, while one thing after the other goes wrong, and everything is counted.

    calm ─► something goes wrong ─► the fleet settles ─► it is over ─► the fleet settles ─► calm ─► …

Calm stretches begin and end without a step under way, so that the counters of all nodes must add up (`books`).
"""

import contextlib
import random
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

from benchmarks.books import faults, faults_between
from benchmarks.fleet import Trial
from benchmarks.malformed import burst
from benchmarks.memory import Life, growth, rss_mb
from benchmarks.recording import Phase, StepRecord
from benchmarks.soaked import Event, Soaked
from broker.embedded import LocalBroker
from broker.errors import FogError
from broker.topics import Topics
from edge_agent.metrics import Metrics
from provisioning.asking import ask

_DECK: Final[tuple[Event, ...]] = ("kill", "kill", "freeze", "freeze", "malformed", "broker")
_BURST: Final = 300
_BOOKS_S: Final = 3.0
_QUIET_S: Final = 0.1
_WARM_UP_S: Final = 10.0
_EVERLASTING: Final = 1 << 62


class Soak:
    """One soak of a running fleet, all alive, on a broker that is ours.

    Args:
        trial: The fleet.
        broker: Restarted now and then.
        planned_s: How long it is to take.
        seed: Of the choice of what goes wrong, and when.
        report: Called with how it stands, every few seconds.
        calm: Let nothing go wrong at all: then nobody may suspect anybody.
    """

    def __init__(
        self,
        trial: Trial,
        broker: LocalBroker,
        planned_s: float,
        seed: int,
        report: Callable[[Soaked], None],
        *,
        calm: bool = False,
    ) -> None:
        if trial.agents is None:
            raise FogError("only the agents of this machine can be killed and frozen from here")
        self._agents = trial.agents
        self.found = Soaked(planned_s=planned_s, seed=seed, suspicions=0 if calm else None)
        manifest = trial.bundle.manifest
        self._trial, self._broker, self._report = trial, broker, report
        self._manifest, self._driver = manifest, trial.driver
        self._topics = Topics(manifest.name)
        self._everyone = frozenset(manifest.order)
        self._mortal = manifest.order[1:] or manifest.order
        self._chance = random.Random(seed)
        self._began_s = time.monotonic()
        self._born_s: dict[int, float] = {}

    def run(self) -> Soaked:
        """Go on until the time is over or the fleet cannot; return what was found."""
        deck: list[Event] = []
        try:
            self._settle("all alive", self._everyone)
            while self._left_s() > 0:
                if self.found.suspicions is not None:
                    self._calm()
                    continue
                deck = deck or self._chance.sample(_DECK, len(_DECK))
                self._happen(deck.pop())
            self._calm()
            if self.found.steps.sent != self._driver.fed:
                self.found.violate(f"{self._driver.fed} steps were fed, {self.found.steps.sent} are accounted for")
        except FogError as failure:  # the fleet, the broker or a node cannot go on
            self.found.violate(str(failure))
        for node, lives in self.found.memory.items():
            for text in growth(node, lives):
                self.found.violate(text)
        self.found.finish()
        self._tell()
        return self.found

    def _left_s(self) -> float:
        return self._began_s + self.found.planned_s - time.monotonic()

    def _happen(self, event: Event) -> None:
        """Let a calm stretch pass, then let something go wrong and be over."""
        self._calm(with_burst=event == "malformed")
        if event == "broker":
            self._restart_broker()
        elif event != "malformed":
            self._fail(event)
        self.found.events[event] = self.found.events.get(event, 0) + 1

    def _restart_broker(self) -> None:
        """Take the broker away from a fleet at full load."""
        self._driver.begin("broker restarts", self._everyone)
        self._measure(0.2)
        began_s = time.monotonic()
        self._driver.outlive(self._broker.restart)
        outage_ms = round(1e3 * (time.monotonic() - began_s), 1)
        self.found.longest_outage_ms = max(self.found.longest_outage_ms, outage_ms)
        self._take(in_outage=True)
        self._settle("broker is back", self._everyone)
        self._take(in_outage=True)

    def _fail(self, event: Literal["kill", "freeze"]) -> None:
        """Kill or freeze a node, measure without it, and bring it back."""
        agents = self._agents
        victim = self._chance.choice(self._mortal if event == "kill" else self._manifest.order)
        off, on = (agents.kill, agents.start) if event == "kill" else (agents.freeze, agents.thaw)
        self._settle(f"{victim} {event}", self._everyone - {victim}, lambda: off([victim]))
        # Longer than the broker takes to give up a frozen node, now and then: then it comes back in another life.
        self._measure(self._chance.choice((0.5, 1.0, 2.0, 4.0)))
        self._take()
        self._settle(f"{victim} back", self._everyone, lambda: on([victim]))

    def _settle(self, name: str, alive: frozenset[str], change: Callable[[], None] = lambda: None) -> None:
        """Begin a phase with a change, and feed until every living node has sensed it."""
        self._driver.begin(name, alive)
        change()
        self._driver.settle(by_all=True)
        self._watch_memory()

    def _calm(self, *, with_burst: bool = False) -> None:
        """Measure a few seconds in which nothing fails; the counters must add up over them."""
        self._take()
        before = self._quiet()
        self._driver.begin("calm", self._everyone)
        self._measure(self._chance.uniform(0.5, 2.0))
        refused: Mapping[str, int] = {}
        if with_burst:
            messages, refused = burst(self._trial.bundle, self._topics, _BURST, self._chance)
            for topic, payload in messages:
                self._driver.publish(topic, payload)
            self.found.malformed += len(messages)
        self._measure(self._chance.uniform(0.5, 2.0))
        sent = len(self._driver.phases[-1].steady)
        self._take()
        told = self._keep_books(lambda after: faults_between(self._manifest, before, after, sent, refused))
        if self.found.suspicions is not None:
            known, self.found.suspicions = (
                self.found.suspicions,
                sum(each.counters.suspicions for each in told.values()),
            )
            if self.found.suspicions > known:
                self.found.violate(f"{self.found.suspicions - known} suspicions though nothing went wrong")

    def _measure(self, seconds: float) -> None:
        ends_s = time.monotonic() + min(seconds, max(0.2, self._left_s()))
        self._driver.measure(_EVERLASTING, until=lambda: time.monotonic() >= ends_s)
        self._watch_memory()

    def _take(self, *, in_outage: bool = False) -> None:
        """Wait until no step is under way, and count those of the phase; then they are forgotten."""
        self._driver.drain()
        phase = self._driver.phases[-1]
        steps = self.found.steps
        for records, is_steady in ((phase.transition, False), (phase.steady, True)):
            steps.sent += len(records)
            answered = [record for record in records if record.is_answered]
            steps.answered += len(answered)
            lost = len(records) - len(answered)
            if in_outage:
                steps.lost_in_outages += lost
            elif lost:
                steps.lost += lost
                self.found.violate(f"{phase.name}: {lost} of {len(records)} steps have no answer")
            if is_steady and not in_outage:
                self._compare(phase, answered)
        phase.transition, phase.steady = [], []
        del self._driver.phases[:-1]
        self._tell()

    def _compare(self, phase: Phase, answered: list[StepRecord]) -> None:
        """Hold the labels against the predicted ones."""
        mask = self._manifest.mask_key(phase.alive)
        expected, by = self._trial.predicted[mask], self._driver.expected_contributors(phase.alive)
        steps = self.found.steps
        for record in answered:
            if not record.complete or record.contributors != by:
                steps.held_up += 1
                continue
            steps.compared += 1
            if record.label != expected[record.row]:
                steps.wrong += 1
                self.found.violate(f"{phase.name}: row {record.row} is {record.label}, not {expected[record.row]}")

    def _ask_all(self) -> dict[str, Metrics]:
        replies = ask(self._broker.url, self._manifest.name, self._manifest.nodes, "metrics", None)
        return {node: reply.metrics for node, reply in replies.items() if reply.metrics is not None}

    def _quiet(self) -> Mapping[str, Metrics]:
        """Return what every node tells once nothing moves: one that was held up may still work off what had come."""
        told, ends_s = self._ask_all(), time.monotonic() + _BOOKS_S
        while time.monotonic() < ends_s:
            self._driver.wait(_QUIET_S)
            before, told = told, self._ask_all()
            is_still = all(before[node].sources == each.sources for node, each in told.items())
            if is_still and not any(map(faults, told.values())):
                break
        return told

    def _keep_books(self, and_faults: Callable[[Mapping[str, Metrics]], list[str]]) -> Mapping[str, Metrics]:
        """Ask every node until the sums come out, or for a while, and return what they told last.

        A node may still wait, until its deadline, for a source that was not there yet when a step that others have
        answered was sent; and a broker may keep no order between what we sent and our question.
        """
        ends_s = time.monotonic() + _BOOKS_S
        while True:
            told = self._ask_all()
            found = [fault for each in told.values() for fault in faults(each)] + and_faults(told)
            if not found or time.monotonic() > ends_s:
                break
        self.found.books += 1
        for fault in found:
            self.found.violate(fault)
        return told

    def _watch_memory(self) -> None:
        now_s = time.monotonic()
        for node, pid in self._agents.pids.items():
            lives = self.found.memory.setdefault(node, [])
            if not lives or lives[-1].pid != pid:
                self._born_s[pid] = now_s if lives else self._began_s
                lives.append(Life(pid=pid))
            with contextlib.suppress(OSError):  # it died this moment, which others will tell
                lives[-1].take(round(now_s - self._born_s[pid], 1), round(rss_mb(pid), 1), _WARM_UP_S)

    def _tell(self) -> None:
        self.found.elapsed_s = round(time.monotonic() - self._began_s, 1)
        self._report(self.found)
