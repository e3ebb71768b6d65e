"""Watches a fleet while it is fed: what its nodes tell, and what some of its steps were. It costs next to nothing.

Each node tells its metrics once a second anyhow. Every few seconds some steps are overheard, in a thread of its own and
by a client that stays for these only, and computed again here: at any load that is as few. Whoever seems slow is
asked while nothing is fed.
"""

import contextlib
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from types import TracebackType
from typing import Final, NamedTuple

from benchmarks.culprits import Judged, links_between
from benchmarks.driver import AnotherBundle
from benchmarks.evidence import SPELL, Evidence
from benchmarks.fleet import Trial
from benchmarks.overhearing import listening
from benchmarks.reached import Reached
from benchmarks.recomputed import Overheard, judge, sessions_of
from benchmarks.rest import ask_speeds
from broker.errors import FogError
from edge_agent.metrics import Metrics

_log = logging.getLogger("fogguard.witness")
_EVERY_S: Final = 5.0
_ANSWERS: Final = 12
_LISTEN_S: Final = 1.0
_TOLD_S: Final = 1.5  # a node tells once a second
_EXCUSED_S: Final = 2.0
_BACK_S: Final = 5.0
_PATIENCE_S: Final = 5.0
_LOOKED_AGAIN_S: Final = 1.0
_ASKED_AGAIN_S: Final = 60.0  # and twice that, and so on


@contextlib.contextmanager
def naming(evidence: Evidence, keep: Callable[[], None]) -> Iterator[None]:
    """Take in who runs another bundle, if that ends the block, and keep it."""
    try:
        yield
    except AnotherBundle as other:
        if not other.is_move:
            evidence.bundle, evidence.others[other.node] = other.bundle, other.running
            keep()
        raise


class _Inferred(NamedTuple):
    """How many inferences a node had made in an epoch, and how long all of them took."""

    epoch: int
    n: int
    us: int


class Witness:
    """Collects evidence from when its block is entered until it is left.

    Args:
        trial: The fleet.
        evidence: Grows.
    """

    def __init__(self, trial: Trial, evidence: Evidence) -> None:
        driver = trial.driver
        self._bundle, self._driver, self._evidence = trial.bundle, driver, evidence
        self._reached = Reached(trial.bundle, driver.url, driver.fleet, {}, driver.tls)
        self._known: dict[str, Metrics] = {}
        self._told: set[str] = set()
        self._spells: dict[str, _Inferred] = {}
        self._excused_until_s: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="witness")
        self._sample: Future[dict[str, Judged]] | None = None
        self._next_sample_s = 0.0
        self._asked_again_s = _ASKED_AGAIN_S
        self._next_asking_s = 0.0
        self._is_over = False
        self._is_deaf = False

    def __enter__(self) -> "Witness":
        self._sessions = sessions_of(self._bundle)
        self._evidence.others.clear()  # this fleet would not have come so far
        self._evidence.rest_ms.clear()
        self._evidence.here_ms = {node: session.mean_ms(time.thread_time) for node, session in self._sessions.items()}
        self._known = dict(self._driver.told.metrics)
        self._driver.told.listener = self._take
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:  # if it was over too soon for that, let everybody tell once
            expected = self._alive()
            self._wait_until(lambda: self._told >= expected, _TOLD_S)
        self._driver.told.listener = lambda _metrics: None
        self._is_over = True
        self._take_sample()
        if kind in (None, KeyboardInterrupt):
            suspects = self._suspects()
            self._wait_until(lambda: suspects <= self._alive(), _BACK_S)
            self._next_asking_s = 0.0
            self.ask_suspects()
        self._pool.shutdown()

    def excuse(self, nodes: Iterable[str]) -> None:
        """Leave out how long these take to infer: they are slow, or stood still, by order."""
        until_s = time.monotonic() + _EXCUSED_S
        self._excused_until_s.update(dict.fromkeys(nodes, until_s))

    def ask_suspects(self) -> None:
        """If somebody seems slow, stop feeding for some seconds and ask who is; seldom and ever less often.

        Not while a suspect is dead, or slow by order; who else is so is not asked.
        """
        now_s, driver = time.monotonic(), self._driver
        if now_s < self._next_asking_s:
            return
        self._next_asking_s = now_s + _LOOKED_AGAIN_S
        suspects = self._suspects()
        askable = self._alive() - {node for node, until_s in self._excused_until_s.items() if now_s < until_s}
        if not (suspects and suspects <= askable and driver.is_answerable):
            return
        driver.drain()
        asking = self._pool.submit(self._speeds, sorted(askable))
        self._wait_until(asking.done)
        try:
            self._evidence.add_rest(asking.result())
        except FogError as error:
            _log.warning("%s seems slow, and cannot be asked at rest: %s", ", ".join(sorted(suspects)), error)
        self._next_asking_s = time.monotonic() + self._asked_again_s
        self._asked_again_s *= 2

    def _suspects(self) -> frozenset[str]:
        return frozenset(each.culprit for each in self._evidence.suspects())

    def _wait_until(self, condition: Callable[[], bool], seconds: float = inf) -> None:
        ends_s = time.monotonic() + seconds
        while not condition() and time.monotonic() < ends_s:
            self._driver.wait(0.02)

    def _speeds(self, nodes: list[str]) -> dict[str, float]:
        """Return how long an inference takes each at rest; another thread's."""
        with self._reached._replace(url=self._driver.url).operator(_PATIENCE_S) as operator:
            return {node: statistics.median(told) for node, told in ask_speeds(operator, nodes).items() if told}

    def _alive(self) -> frozenset[str]:
        return self._driver.told.sink_alive() | {self._bundle.manifest.sink}

    def _take(self, metrics: Metrics) -> None:
        self._told.add(metrics.node)
        now_s, before = time.monotonic(), self._known.get(metrics.node)
        if before is not None:
            self._evidence.add_links(links_between({metrics.node: before}, {metrics.node: metrics}))
        self._known[metrics.node] = metrics
        self._time(metrics, now_s)
        if self._sample is not None and self._sample.done():
            self._take_sample()
        if self._sample is None and now_s >= self._next_sample_s and self._driver.is_answerable:
            self._next_sample_s = now_s + _EVERY_S
            self._sample = self._pool.submit(self._judge_some, self._reached._replace(url=self._driver.url))

    def _time(self, metrics: Metrics, now_s: float) -> None:
        """Take in how long a node infers, once it has told of enough inferences."""
        node = metrics.node
        now = _Inferred(metrics.epoch, sum(metrics.stages.infer.counts), metrics.counters.infer_us)
        was = self._spells.setdefault(node, now)
        n = now.n - was.n
        if now.epoch != was.epoch or now_s < self._excused_until_s.get(node, 0.0):  # started anew, or slow by order
            self._spells[node] = now
        elif n >= SPELL:
            self._evidence.add_spell(node, (now.us - was.us) / n / 1e3)
            self._spells[node] = now

    def _take_sample(self) -> None:
        if self._sample is not None:
            self._evidence.add_judged(self._sample.result())
            self._sample = None

    def _judge_some(self, reached: Reached) -> dict[str, Judged]:
        """Overhear some steps, and compute them again; another thread's."""
        overheard, sensors, dead = Overheard(), self._bundle.manifest.sensors, self._dead()
        try:
            with listening(reached, overheard) as link:
                link.connect()
                link.poll_until(lambda: self._is_over or overheard.answered(sensors) >= _ANSWERS, _LISTEN_S)
        except FogError as error:
            if not self._is_deaf:
                _log.warning("nothing is computed again while nothing is overheard: %s", error)
            self._is_deaf = True
        return judge(self._bundle.manifest, self._sessions, overheard, dead & self._dead())

    def _dead(self) -> frozenset[str]:
        return frozenset(self._bundle.manifest.order) - self._driver.told.sink_alive()
