"""Tells an operator what to unplug and when, and makes out what was done. A state machine without clock or terminal.

calm ──► ask: unplug f1 ──it goes down──► hold ──► return: plug it back ──all are back──► calm ──► the next one
          │  another one goes down: said              │
          └──patience is over: said──► calm           └──patience is over: said, and on without it──► calm
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from benchmarks.drilled import Remark

_State = Literal["calm", "ask", "hold", "return"]
_FALLS: Final = ("unplugged", "also", "wrong", "late", "unasked")
_RISES: Final = ("returned", "early", "back")


class ByHand:
    """One drill by hand.

    Args:
        nodes: Who is asked for, each once a round, in an order that `seed` shuffles.
        seed: Of that order.
        hold_s: How long a node stays unplugged, and how long all are left alone between two.
        patience_s: How long the operator is waited for.
        rounds: How many; None: for ever.
        said: What passed in earlier sittings: it is gone on from there.
        at_s: When this one begins.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        seed: int,
        hold_s: float,
        patience_s: float,
        rounds: int | None,
        said: Iterable[Remark] = (),
        at_s: float = 0.0,
    ) -> None:
        self._nodes = frozenset(nodes)
        self._turns = _turns(nodes, seed, rounds)
        self._hold_s, self._patience_s = hold_s, patience_s
        self._state: _State = "calm"
        self._until_s = at_s + hold_s
        self._asked_s = 0.0
        self._node = ""
        self._down: frozenset[str] = frozenset()
        self._given_up: set[str] = set()
        self._late: dict[str, float] = {}
        self.is_over = False
        for remark in said:
            self._remember(remark.kind, remark.node)

    @property
    def headline(self) -> str:
        """What to do now, in a few words; nothing while there is nothing to do."""
        if self._state == "ask":
            return f"unplug {self._node}"
        if self._state == "return":
            return f"plug in {' '.join(sorted(self._owed()))}"
        return ""

    def seconds_left(self, at_s: float) -> float:
        """Return how long this state lasts at the most."""
        return max(0.0, self._until_s - at_s)

    def look(self, at_s: float, since_s: Mapping[str, float]) -> list[Remark]:
        """Take in who is down, and since when; return what there is to say."""
        down = frozenset(since_s)
        fell, rose = down - self._down, self._down - down
        self._down = down
        remarks = [self._on_fall(node, at_s, since_s[node], fell) for node in sorted(fell)]
        remarks += [self._on_rise(node, at_s) for node in sorted(rose)]
        self._given_up -= rose
        if self._state == "return" and not self._owed():
            self._rest(at_s)
        elif at_s >= self._until_s:
            remarks += self._on_time(at_s)
        return remarks

    def _remember(self, kind: str, node: str) -> None:
        if kind in ("unplugged", "never"):
            next((each for each in self._turns if each == node), None)  # that was its turn
        if kind in _FALLS:
            self._down |= {node}
        elif kind in _RISES:
            self._down -= {node}
            self._given_up.discard(node)
        elif kind == "missing":
            self._given_up.add(node)

    def _owed(self) -> frozenset[str]:
        return self._down - self._given_up

    def _on_fall(self, node: str, at_s: float, since_s: float, fell: frozenset[str]) -> Remark:
        took_s = round(since_s - self._asked_s, 3)
        if self._state == "ask" and node == self._node:
            self._state, self._until_s = "hold", at_s + self._hold_s
            self._late.pop(node, None)
            return _remark(at_s, "unplugged", node, f"{node} is gone, {took_s:.1f} s after you were asked", took_s)
        if node in self._late:
            took_s = round(since_s - self._late.pop(node), 3)
            return _remark(at_s, "late", node, f"{node} is gone now: late, you were asked {took_s:.0f} s ago", took_s)
        if self._state == "hold" or (self._state == "ask" and self._node in fell):
            return _remark(at_s, "also", node, f"{node} is gone too: you were asked for {self._node} only")
        if self._state == "ask":
            text = f"that was {node}, not {self._node}: {self._node} is the one to unplug"
            return _remark(at_s, "wrong", node, text)
        return _remark(at_s, "unasked", node, f"{node} is gone, though nobody was asked to unplug it")

    def _on_rise(self, node: str, at_s: float) -> Remark:
        if self._state == "return" and node not in self._given_up:
            took_s = round(at_s - self._asked_s, 3)
            return _remark(at_s, "returned", node, f"{node} is back, {took_s:.1f} s after you were asked", took_s)
        if self._state == "hold" and node == self._node:
            self._rest(at_s)
            return _remark(at_s, "early", node, f"{node} is back already: nobody asked for it yet")
        return _remark(at_s, "back", node, f"{node} is back")

    def _on_time(self, at_s: float) -> list[Remark]:
        if self._state == "ask":
            self._late[self._node] = self._asked_s
            self._rest(at_s)
            text = f"{self._node} is still there after {self._patience_s:.0f} s: going on without"
            return [_remark(at_s, "never", self._node, text)]
        if self._state == "return":
            missing = sorted(self._owed())
            self._given_up |= set(missing)
            self._rest(at_s)
            text = "not back after {:.0f} s: going on without it"
            return [_remark(at_s, "missing", node, f"{node} is {text.format(self._patience_s)}") for node in missing]
        if self._owed():
            return [self._ask(at_s, "return", "", f"plug {' and '.join(sorted(self._owed()))} back in now")]
        if self._down >= self._nodes:  # all were given up: something must come back first
            self._rest(at_s)
            return []
        node = next((each for each in self._turns if each not in self._down), None)
        if node is None:
            self.is_over = True
            return []
        return [self._ask(at_s, "ask", node, f"unplug {node} now")]

    def _ask(self, at_s: float, state: _State, node: str, text: str) -> Remark:
        self._state, self._node = state, node or self._node
        self._asked_s, self._until_s = at_s, at_s + self._patience_s
        return _remark(at_s, "asked", node or " ".join(sorted(self._owed())), text)

    def _rest(self, at_s: float) -> None:
        self._state, self._until_s = "calm", at_s + self._hold_s


def _turns(nodes: Sequence[str], seed: int, rounds: int | None) -> Iterator[str]:
    chance = random.Random(seed)
    left = rounds
    while left is None or left > 0:
        yield from chance.sample(list(nodes), len(nodes))
        left = None if left is None else left - 1


def _remark(at_s: float, kind: str, node: str, text: str, seconds: float | None = None) -> Remark:
    return Remark(at_s=round(at_s, 3), kind=kind, node=node, text=text, seconds=seconds)
