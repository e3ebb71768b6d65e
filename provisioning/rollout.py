"""A bundle comes to the whole fleet: look, stage everywhere, and only then switch.

    look ─► stage on each device ─┬─ all are ready ──────────────────► switch on each ─┬─ all serve ─► tidy
            (old bundle runs on)  └─ one is not, and an old bundle     (one rename)    └─ one does not:
                                     runs: it stays everywhere                            all go back

So the partitions of two bundles never answer together (a frame carries its bundle's id besides), and what was staged
is there for the next run. A device that is lost while the others switch is one of those that the fog does without.

If nothing but the bundle differs, no agent is started anew, and no step is lost:

    prepare: each agent holds the new bundle beside the old one ─┬─ all do ─► commit: the sink runs it, then the others
                                                                 └─ one does not: all abandon it

Whoever feeds the fleet goes over when the sink says that it runs the new one. By then all hold it, and an agent drops
the old one only when nothing has come for it for a while. If one of them refuses at the last moment, the others come
back to the old one by the same two moves.
"""

import time
from collections.abc import Collection, Container, Mapping, Sequence
from typing import Final, NamedTuple

from edge_agent.bundle import Bundle
from provisioning.claim import Claims, require_all
from provisioning.crew import Crew
from provisioning.deployment import Deployment, deployment_of
from provisioning.errand import Errand, StepFailed
from provisioning.facts import Facts
from provisioning.plan import STAGED, Step, alike, plan
from provisioning.room import room_of

_SWITCHED: Final = frozenset({"switch", "abandon", "follow", "sensors", "retire"})


class Seen(NamedTuple):
    """What a device is, what it is to get, and how it gets there."""

    facts: Facts
    deployment: Deployment
    steps: tuple[Step, ...]

    @property
    def switches(self) -> bool:
        """Whether its agent will run another bundle, or be started anew."""
        return self.goes_on or any(step.name in ("switch", "follow") for step in self.steps)

    @property
    def goes_on(self) -> bool:
        """Whether its agent will run another bundle without being started anew."""
        return any(step.name == "commit" for step in self.steps)


def look(crew: Crew, bundle: Bundle, claims: Claims | None = None) -> dict[str, Seen]:
    """Return what each device that answers and is fit is to get; raises Claimed if one cannot join `claims`."""

    def look_at(errand: Errand) -> Seen:
        facts = errand.look(claims=claims)
        errand.require_fit(facts, time.time())
        deployment = deployment_of(bundle, crew.inventory, errand.name, facts)
        steps = plan(facts, deployment.wanted)
        errand.require_room(facts, room_of(steps, deployment, facts))
        return Seen(facts, deployment, steps)

    found = crew.each(look_at)
    require_all(crew.failed)
    plans = alike({name: each.steps for name, each in found.items()})
    return {name: each._replace(steps=plans[name]) for name, each in found.items()}


def roll_out(crew: Crew, bundle: Bundle, seen: Mapping[str, Seen]) -> None:
    """Bring the bundle to the devices, and let it run if all of them are ready; else what runs goes on."""
    _take(crew, seen, STAGED)
    old = {name: found for name, found in seen.items() if found.facts.current_bundle not in ("", bundle.id.hex())}
    ready = {name: found for name, found in seen.items() if name not in crew.failed}
    if crew.failed and any(name in old for name in ready):
        culprits = ", ".join(sorted(crew.failed))
        for name in [name for name, found in ready.items() if found.switches]:
            crew.fail(name, StepFailed(f"staged, and kept on its old bundle: {culprits} failed"))
        return
    moves = {name: (each.facts.current, each.deployment.wanted.release) for name, each in ready.items() if each.goes_on}
    if moves and not exchange(crew, moves, bundle.manifest.sink):
        return
    _take(crew, ready, {"broker"})  # all of them: an agent that is started anew goes to the first that answers
    _take(crew, ready, _SWITCHED)
    if culprits := ", ".join(sorted(name for name, error in crew.failed.items() if isinstance(error, StepFailed))):
        _go_back(crew, {name: found for name, found in ready.items() if name in old and found.switches}, culprits)
        return
    _take(crew, ready, {"tidy"})


def exchange(crew: Crew, moves: Mapping[str, tuple[str, str]], sink: str) -> bool:
    """Let agents go on with the bundles of other releases: all of them or none; return whether they all do.

    Args:
        crew: Whoever is not as wanted in the end is out of it.
        moves: What each device runs, and is to run; both are there, and differ in the bundle alone.
        sink: The node that tells those who feed the fleet which bundle it runs.
    """
    before = set(crew.failed)
    releases = {name: new for name, (_, new) in moves.items()}
    crew.each(lambda errand: errand.prepare(releases[errand.name]), releases)
    if culprits := crew.failed.keys() - before:
        _abandon(crew, releases, culprits)
        return False
    first = [name for name in releases if crew.inventory.devices[name].node == sink]
    others = [name for name in releases if name not in first]
    crew.each(lambda errand: errand.commit(releases[errand.name]), first)
    if culprits := crew.failed.keys() & set(first):
        # Whether the word reached a device that is lost now, nobody knows: the others hold both bundles, and wait.
        if all(isinstance(crew.failed[name], StepFailed) for name in first):
            _abandon(crew, releases, culprits)
        for name in [name for name in releases if name not in crew.failed]:
            crew.fail(name, StepFailed(f"holds both bundles, because {sink} was lost: apply again when it answers"))
        return False
    crew.each(lambda errand: errand.commit(releases[errand.name]), others)
    # A device that is lost is one that the fog does without; one that refused has gone back by itself.
    culprits = {name for name in others if isinstance(crew.failed.get(name), StepFailed)}
    if culprits:
        _return(crew, {name: old for name, (old, _) in moves.items()}, [first, others], culprits)
    return not culprits


def _return(
    crew: Crew, releases: Mapping[str, str], turns: Sequence[Collection[str]], culprits: Collection[str]
) -> None:
    """Let all that have come to another bundle go on with the one before, those of the first turn first."""
    names = ", ".join(sorted(culprits))
    crew.each(lambda errand: errand.prepare(releases[errand.name]), releases)
    for turn in turns:
        for name in crew.each(lambda errand: errand.commit(releases[errand.name]), turn):
            crew.fail(name, StepFailed(f"{names} failed: it is back on its old bundle"))


def _abandon(crew: Crew, releases: Mapping[str, str], culprits: Collection[str]) -> None:
    """Let agents forget the bundle that they hold beside the one they run."""
    names = ", ".join(sorted(culprits))
    for name in crew.each(lambda errand: errand.abandon(), releases):
        crew.fail(name, StepFailed(f"kept on its old bundle: {names} failed"))


def _take(crew: Crew, seen: Mapping[str, Seen], names: Container[str]) -> None:
    """Take those steps of every device's plan that have one of `names`."""

    def take(errand: Errand) -> None:
        found = seen[errand.name]
        for step in found.steps:
            if step.name in names:
                errand.take(step, found.deployment)

    crew.each(take, seen)


def _go_back(crew: Crew, switched: Mapping[str, Seen], culprits: str) -> None:
    """Let those that were switched, and can still be reached, run what they ran before."""
    why = {name: crew.failed.pop(name) for name in switched if isinstance(crew.failed.get(name), StepFailed)}
    crew.each(lambda errand: errand.go_back(switched[errand.name].facts.current), switched)
    for name in switched:
        if name not in crew.failed:
            crew.fail(name, StepFailed(f"{why.get(name, culprits + ' failed')}: it is back on its old bundle"))
