"""A running fleet is fed while things go wrong, by a plan or by hand, and everything is counted as it comes.

Phases follow what the sink sees, not what was done: so it is all the same who pulled the plug. A step is counted once
nothing can come of it any more (`Ledger`), and then forgotten: a drill may take all night.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

from benchmarks.byhand import ByHand
from benchmarks.drilled import Change, Deed, Drilled, Remark, Stretch
from benchmarks.driver import FleetSilent
from benchmarks.fleet import Trial
from benchmarks.hands import Hands
from benchmarks.ledger import Ledger
from benchmarks.scenario import Harm, next_change_s, wanted
from benchmarks.sightings import Sightings
from benchmarks.witness import Witness
from broker.errors import FogError
from broker.presence import State

_EVERLASTING = 1 << 62
_SURE_S = 1.0  # a node under suspicion for longer has been unplugged by somebody
_WRITING_SHARE = 0.02  # of the time, at the most


class Drill:
    """One sitting of a drill.

    Args:
        trial: The fleet.
        found: How the drill stands; goes on from there.
        hands: What does as the plan says.
        by_hand: Tells the operator what to do, if it is by hand.
        keep: Called about once a second with how it stands, to be written.
        say: Takes one line about each thing that happens.
        show: Called about once a second, and with whatever happens.
    """

    def __init__(
        self,
        trial: Trial,
        found: Drilled,
        hands: Hands,
        by_hand: ByHand | None,
        keep: Callable[[Drilled], None],
        say: Callable[[str], None],
        show: Callable[["Drill"], None],
    ) -> None:
        self.trial, self.found, self.by_hand = trial, found, by_hand
        self._driver, self._manifest = trial.driver, trial.bundle.manifest
        self._hands, self._keep, self._say, self._show = hands, keep, say, show
        self._driver.watch = lambda: None  # a node that dies is what we came for
        self._began_ns = time.monotonic_ns() - int(found.elapsed_s * 1e9)
        self._ledger = Ledger(trial, found, self._began_ns)
        self._witness = Witness(trial, found.evidence)
        self._alive = frozenset(self._manifest.order)
        self._wrong: dict[str, Harm] = {}
        self._unseen: dict[str, Deed] = {}
        self._sightings = Sightings(self._manifest.order, found.changes)
        self._since_s = {each.node: each.at_s for each in found.changes if self.states[each.node] != "alive"}
        self._due_s = self._next_tell_s = self._watched_s = found.elapsed_s
        self._is_recovering = False
        found.sittings += 1
        found.stretches.append(Stretch(mask="", from_s=found.elapsed_s, to_s=found.elapsed_s))
        found.deadline_ms = self._driver.deadline_ms

    @property
    def at_s(self) -> float:
        """Seconds of drill, all sittings counted."""
        return (time.monotonic_ns() - self._began_ns) / 1e9

    @property
    def states(self) -> Mapping[str, State]:
        """How the sink sees each node that can fail."""
        return self._sightings.states

    def run(self) -> None:
        """Go on until the plan or its time is over."""
        try:
            with self._witness:
                while not self._is_over():
                    self._go_on()
            self.found.finished = True
        finally:
            with contextlib.suppress(FogError):
                self._driver.drain()
            self._ledger.count(everything=True)
            self._tell()
            for node, harm in self._wrong.items():
                self._hands.undo(harm, node)

    def _go_on(self) -> None:
        try:
            self._stretch()
        except FleetSilent as silence:
            self._wait_for_answers(silence)

    def _is_over(self) -> bool:
        is_late = 0 < self.found.planned_s <= self.at_s
        return is_late or (self.by_hand is not None and self.by_hand.is_over)

    def _seen_alive(self) -> frozenset[str]:
        return self._driver.told.sink_alive() & frozenset(self._manifest.order)

    def _stretch(self) -> None:
        """Feed for as long as the sink sees the same nodes alive."""
        at_s = self.at_s
        if not self.found.stretches[-1].mask:  # what is so by now, nobody has seen happen
            self._watched_s = round(at_s, 4)
            self._see(at_s)
        self._alive = self._seen_alive()
        mask = self._manifest.mask_key(self._alive)
        self._driver.begin(mask, self._alive, noticed=True)
        if self._is_recovering:
            self._ledger.recovering_ns.add(self._driver.phases[-1].began_ns)
        self._open_stretch(mask, at_s)
        if self._driver.settle(until=self._tick):
            self._is_recovering = False
            self._driver.measure(_EVERLASTING, until=self._steady_tick)

    def _steady_tick(self) -> bool:
        self._witness.ask_suspects()
        return self._tick()

    def _tick(self) -> bool:
        """Look, let happen what is due, count and tell; return whether this stretch is over."""
        if not self._driver.is_answerable:
            raise FleetSilent("nothing is heard of the sink, or of its broker")
        self._look()
        if self.at_s >= self._next_tell_s:
            self._ledger.count()
            self._tell()
        return self._is_over() or self._seen_alive() != self._alive

    def _wait_for_answers(self, silence: FleetSilent) -> None:
        """Feed nothing until a sink tells again how it sees the others; what was under way died with it."""
        if self._driver.is_answerable:
            self._say(f"{silence}; going on")
            return
        sink, told = self._manifest.sink, self._driver.told
        since_s = max(self.found.stretches[-1].from_s, (told.told_ns - self._began_ns) / 1e9)  # it saw nothing since
        self._ledger.count(everything=True, in_outage=True)
        self._is_recovering = True
        told.forget_view()
        self._open_stretch("", since_s)
        self._say(f"{silence}; waiting for {sink}")
        while not (self._driver.is_answerable and told.sink_view()) and not self._is_over():
            self._driver.wait(0.1)
            self._do_what_is_due()
            if self.by_hand is not None:
                self._remark(self.by_hand.look(self.at_s, {**self._surely_down(), sink: since_s}))
            if self.at_s >= self._next_tell_s:
                self._tell()

    def _look(self) -> None:
        """See who fell and rose, ask the operator, and do what is due."""
        self._see(self.at_s)
        if self.by_hand is not None:
            self._remark(self.by_hand.look(self.at_s, self._surely_down()))
        self._do_what_is_due()

    def _see(self, at_s: float) -> None:
        for change in self._sightings.look(at_s, self._driver.told.sink_view()):
            self._change(change)

    def _change(self, change: Change) -> None:
        """Take in that the sink sees a node in another state."""
        at_s, node, state = self.at_s, change.node, change.state
        is_news = (state == "alive") == (node in self._since_s)
        self.found.changes.append(change)
        if state == "alive":
            self._since_s.pop(node, None)
        else:
            self._since_s.setdefault(node, at_s)
        text = f"{node} is {state}"
        deed = self._unseen.get(node)
        if is_news and deed and (deed.what == "back") == (state == "alive") and self._is_timed(deed, change):
            del self._unseen[node]
            deed.sensed_ms = round(1e3 * (at_s - deed.at_s), 2)
            text += f", seen {deed.sensed_ms:.1f} ms after: {deed.what}"
        self._say(f"{at_s:.1f} s: {text}")

    def _is_timed(self, deed: Deed, change: Change) -> bool:
        """Whether a change came after the deed, and has been watched all the while."""
        return self._watched_s <= deed.at_s <= change.at_s

    def _surely_down(self) -> dict[str, float]:
        """Return who has been unplugged as far as can be told, and since when."""
        now_s = self.at_s
        sure = ("dead", "hung")
        return {
            node: since_s
            for node, since_s in self._since_s.items()
            if self.states[node] in sure or (self.states[node] == "suspect" and now_s - since_s > _SURE_S)
        }

    def _do_what_is_due(self) -> None:
        self._hands.check()
        self._witness.excuse(self._wrong)
        if self.at_s < self._due_s or self._is_over():
            return
        now_wanted = wanted(self.found.plan, self.at_s)
        self._due_s = next_change_s(self.found.plan, self.at_s)
        for node in self._manifest.order:
            before, after = self._wrong.get(node), now_wanted.get(node)
            if before and before != after:
                self._note(node, "back")
                self._hands.undo(before, node)
            if after and before != after:
                self._note(node, str(after))
                self._hands.do(after, node)
        self._wrong = now_wanted

    def _note(self, node: str, what: str) -> None:
        self._unseen[node] = deed = Deed(at_s=round(self.at_s, 4), node=node, what=what)
        self.found.deeds.append(deed)

    def _remark(self, remarks: Iterable[Remark]) -> None:
        for remark in remarks:
            self.found.remarks.append(remark)
            self._say(f"{remark.at_s:.1f} s: {remark.text}")
            self._show(self)

    def _open_stretch(self, mask: str, at_s: float) -> None:
        at_s = round(at_s, 4)
        self.found.stretches[-1].to_s = at_s
        self.found.stretches.append(Stretch(mask=mask, from_s=at_s, to_s=at_s))
        self._show(self)

    def _tell(self) -> None:
        began_s = self.at_s
        self.found.elapsed_s = self.found.stretches[-1].to_s = round(began_s, 4)
        for news in self.found.blame():
            self._say(f"{began_s:.1f} s: {news}")
        self._keep(self.found)
        self._next_tell_s = began_s + max(1.0, (self.at_s - began_s) / _WRITING_SHARE)
        self._show(self)
