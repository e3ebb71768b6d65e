"""A bundle comes to the whole fleet: look, stage everywhere, and only then switch.

    look ─► stage on each device ─┬─ all are ready ──────────────────► switch on each ─┬─ all serve ─► tidy
            (old bundle runs on)  └─ one is not, and an old bundle     (one rename)    └─ one does not:
                                     runs: it stays everywhere                            all go back

So the partitions of two bundles never answer together (a frame carries its bundle's id besides), and what was staged
is there for the next run. A device that is lost while the others switch is one of those that the fog does without.
"""

import time
from collections.abc import Container, Mapping
from typing import Final, NamedTuple

from edge_agent.bundle import Bundle
from provisioning.claim import Claims, require_all
from provisioning.crew import Crew
from provisioning.deployment import Deployment, deployment_of
from provisioning.errand import Errand, StepFailed
from provisioning.facts import Facts
from provisioning.plan import STAGED, Step, plan

_SWITCHED: Final = frozenset({"broker", "switch", "retire"})


class Seen(NamedTuple):
    """What a device is, what it is to get, and how it gets there."""

    facts: Facts
    deployment: Deployment
    steps: tuple[Step, ...]

    @property
    def switches(self) -> bool:
        """Whether its agent will be started anew."""
        return any(step.name == "switch" for step in self.steps)


def look(crew: Crew, bundle: Bundle, claims: Claims | None = None) -> dict[str, Seen]:
    """Return what each device that answers and is fit is to get; raises Claimed if one cannot join `claims`."""

    def look_at(errand: Errand) -> Seen:
        facts = errand.look(claims=claims)
        errand.require_fit(facts, time.time())
        deployment = deployment_of(bundle, crew.inventory, errand.name, facts)
        return Seen(facts, deployment, plan(facts, deployment.wanted))

    seen = crew.each(look_at)
    require_all(crew.failed)
    return seen


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
    _take(crew, ready, _SWITCHED)
    if culprits := ", ".join(sorted(name for name, error in crew.failed.items() if isinstance(error, StepFailed))):
        _go_back(crew, {name: found for name, found in ready.items() if name in old and found.switches}, culprits)
        return
    _take(crew, ready, {"tidy"})


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
