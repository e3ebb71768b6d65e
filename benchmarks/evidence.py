"""What is seen beside the feeding, for and against nodes and links; it grows with time, not with steps.

    metrics of all nodes, once a second ──► what came over each link, how long each node infers
    some steps now and then, overheard ───► how each node's vectors compare with what its graph makes of what it got

What of it speaks against whom, `culprits` tells.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from benchmarks.culprits import Arrived, Finding, Judged, corrupt_links, other_bundles, slow_nodes, wrong_nodes
from benchmarks.times import count, quantile_ms

SPELL: Final = 200
"""So many inferences are timed together: a processor that is held back now and then shows in their mean."""
_SPELLS: Final = 3
_CALL_MS: Final = 0.05
"""What a call costs beside the graph where a node does something else in between; here the calls follow each other."""
_INFER_TIMES, _INFER_MS = 4.0, 0.1
"""How many times slower than the others, and by how much, one must be while it is fed, to be suspected."""
_REST_TIMES: Final = 3.0
"""And how many times at rest, to be so: ten processes on two busy cores seem up to 2.5 times."""


class Evidence(msgspec.Struct, kw_only=True):
    """What was seen so far.

    Attributes:
        bundle: What all should run.
        others: The nodes that were seen to run another bundle, and which.
        links: What came over each, by `source>node`.
        judged: How what each node put out compares with what its graph makes of what it got.
        infer_times: Of each node, how often 200 inferences took so long in the mean: `benchmarks.times`.
        rest_ms: How long one took on each node that was asked at rest, when somebody seemed slow in this sitting.
        slow_at_rest: The nodes that were slow when they were asked so.
        here_ms: How long one takes on the measuring machine.
    """

    bundle: str = ""
    others: dict[str, str] = {}
    links: dict[str, Arrived] = {}
    judged: dict[str, Judged] = {}
    infer_times: dict[str, dict[int, int]] = {}
    rest_ms: dict[str, float] = {}
    slow_at_rest: list[str] = []
    here_ms: dict[str, float] = {}

    def add_links(self, came: Mapping[str, Arrived]) -> None:
        """Take in what came over links."""
        for link, each in came.items():
            self.links[link] = self.links.get(link, Arrived()).plus(each)

    def add_judged(self, judged: Mapping[str, Judged]) -> None:
        """Take in what was computed again."""
        for node, each in judged.items():
            self.judged[node] = self.judged.get(node, Judged()).plus(each)

    def add_spell(self, node: str, mean_ms: float) -> None:
        """Take in how long some inferences of a node took in the mean."""
        count(self.infer_times.setdefault(node, {}), mean_ms)

    def add_rest(self, rest_ms: dict[str, float]) -> None:
        """Take in how long inferences took at rest."""
        self.rest_ms = rest_ms
        slow = {each.culprit for each in slow_nodes(rest_ms, self.here_ms, _REST_TIMES, 0.0)}
        self.slow_at_rest += sorted(slow - {*self.slow_at_rest})

    def suspects(self) -> list[Finding]:
        """Return who seems to infer slowly, by what they told while they were fed.

        Caches are cold where steps come seldom and warm where many come at once, so that one of two that are alike
        may seem five times slower.
        """
        there_ms = {
            node: quantile_ms(times, 0.5) for node, times in self.infer_times.items() if sum(times.values()) >= _SPELLS
        }
        here_ms = {node: ms + _CALL_MS for node, ms in self.here_ms.items()}
        return slow_nodes(there_ms, here_ms, _INFER_TIMES, _INFER_MS)

    def findings(self) -> list[Finding]:
        """Return who is to blame; who seems slow is, unless it was asked at rest, beside others, and never was."""
        cleared = self.rest_ms.keys() - {*self.slow_at_rest} if len(self.rest_ms) > 1 else set()
        return [
            *other_bundles(self.bundle, self.others),
            *corrupt_links(self.links),
            *wrong_nodes(self.judged),
            *(each for each in self.suspects() if each.culprit not in cleared),
        ]
