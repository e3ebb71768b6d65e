"""What `fogguard provision` does with a fleet: examine it, plan, apply, ask how it is, go back."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from edge_agent.bundle import Bundle
from provisioning import doctor
from provisioning.certificates import now
from provisioning.claim import Claims, require_all
from provisioning.crew import Crew, Report, Say
from provisioning.deployment import deployment_of, target_of
from provisioning.errand import Errand, StepFailed
from provisioning.facts import Facts, Service
from provisioning.inventory import Inventory
from provisioning.plan import Step, is_exchangeable, plan
from provisioning.rollout import Seen, exchange, look, roll_out
from provisioning.room import Room, examine_room, room_of, room_of_any
from provisioning.units import AGENT, BROKER, service_of
from provisioning.validity import examine_certificates

_ABSENT = Service("absent", is_enabled=False, restarts=0)


class Health(NamedTuple):
    """How a device is: what it runs, and in what it differs from what was put there or is wanted."""

    facts: Facts
    agent: Service
    broker: Service | None
    drift: tuple[str, ...]


def examine(
    inventory: Inventory, bundle: Bundle | None, names: Iterable[str], password: str, say: Say
) -> tuple[Report, dict[str, list[doctor.Finding]]]:
    """Return what fits on each device and what does not; a device that is not fit is not ok.

    Without `bundle` there must be room for some bundle.
    """
    reasons: dict[str, str] = {}
    with Crew(inventory, names, password, say) as crew:

        def look_at(errand: Errand) -> list[doctor.Finding]:
            facts = errand.look(needs_root=False)
            device, carries = inventory.devices[errand.name], inventory.broker_on(errand.name) is not None
            found = doctor.examine(facts, device, carries_broker=carries, now_s=time.time())
            if not doctor.unfit(found):
                found += examine_room(facts, _room(inventory, bundle, errand.name, facts))
            return [*found, *examine_certificates(inventory, errand.name, now())]

        def require_fit(errand: Errand) -> None:
            if why := doctor.unfit(findings[errand.name]):
                raise StepFailed(why)

        findings = crew.each(look_at)
        crew.each(require_fit, findings)
        return crew.report(reasons), findings


def _room(inventory: Inventory, bundle: Bundle | None, device: str, facts: Facts) -> Room:
    if bundle is None:
        return room_of_any(target_of(inventory, device, facts)[1], facts)
    deployment = deployment_of(bundle, inventory, device, facts)
    return room_of(plan(facts, deployment.wanted), deployment, facts)


def plan_fleet(
    inventory: Inventory, bundle: Bundle, names: Iterable[str], password: str, say: Say
) -> tuple[Report, dict[str, tuple[Step, ...]]]:
    """Return what apply would do; changes nothing."""
    with Crew(inventory, names, password, say) as crew:
        seen = look(crew, bundle)
        return crew.report(_in_words(seen)), {name: found.steps for name, found in seen.items()}


def apply(inventory: Inventory, bundle: Bundle, names: Iterable[str], password: str, say: Say) -> Report:
    """Make the devices what bundle and inventory say; see rollout.py for what happens if one fails.

    Raises Claimed, and changes nothing then.
    """
    with Crew(inventory, names, password, say) as crew, Claims() as claims:
        seen = look(crew, bundle, claims)
        roll_out(crew, bundle, seen)
        return crew.report(_in_words(seen))


def status(
    inventory: Inventory, bundle: Bundle | None, names: Iterable[str], password: str, say: Say
) -> tuple[Report, dict[str, Health]]:
    """Return how the devices are; one that does not serve, or differs from what it should be, is not ok."""
    with Crew(inventory, names, password, say) as crew:
        wanted = look(crew, bundle) if bundle else {}
        health = {name: _health(inventory, name, seen.facts, seen.steps) for name, seen in wanted.items()}
        if bundle is None:
            facts = crew.each(lambda errand: errand.look())
            health = {name: _health(inventory, name, found, ()) for name, found in facts.items()}
        bundles = {each.facts.current_bundle for each in health.values() if each.facts.current_bundle}
        meetings = _meetings(inventory, health)

        def require_well(errand: Errand) -> None:
            found = health[errand.name]
            if why := _ailment(inventory, errand.name, found, bundles, meetings):
                raise StepFailed(why)

        crew.each(require_well, health)
        return crew.report({name: f"bundle {each.facts.current_bundle}" for name, each in health.items()}), health


def rollback(inventory: Inventory, names: Iterable[str], password: str, say: Say) -> Report:
    """Let every device run what it ran before, unless these are partitions of several bundles.

    Raises StepFailed or Claimed, and changes nothing then.
    """
    chosen = [name for name in names if inventory.members(name)]
    with Crew(inventory, chosen, password, say) as crew, Claims() as claims:
        facts = crew.each(lambda errand: errand.look(claims=claims))
        require_all(crew.failed)
        bundles = {name: found.previous_bundle or "nothing" for name, found in facts.items()}
        if len(facts) < len(chosen) or len(set(bundles.values())) > 1 or "nothing" in bundles.values():
            found = ", ".join(f"{name} {bundle}" for name, bundle in bundles.items())
            raise StepFailed(
                "cannot go back: every device must answer, and have kept the same bundle from before "
                f"({found or 'none answers'}): apply that bundle instead"
            )
        nodes = {name: found for name, found in facts.items() if inventory.devices[name].node}
        sink = sink_to_return_by(nodes.values())
        if not sink:
            crew.each(lambda errand: errand.go_back(facts[errand.name].previous))
        elif exchange(crew, {name: (each.current, each.previous) for name, each in nodes.items()}, sink):
            beside = {name: services for name in nodes if (services := _beside(inventory, name))}
            crew.each(lambda errand: errand.start(beside[errand.name]), beside)
            crew.each(lambda errand: errand.go_back(facts[errand.name].previous), facts.keys() - nodes.keys())
        return crew.report({name: f"back on bundle {bundle}" for name, bundle in bundles.items()})


def sink_to_return_by(nodes: Collection[Facts]) -> str:
    """Return the sink of nodes whose agents can all go on with what they ran before, or nothing if they cannot."""
    sinks = {found.sink for found in nodes}
    return sinks.pop() if len(sinks) == 1 and all(is_exchangeable(each, each.previous_base) for each in nodes) else ""


def _beside(inventory: Inventory, device: str) -> list[str]:
    """Return the services of the sensors beside a device's node."""
    _, *sensors = inventory.members(device)
    return [service_of(sensor, sensors) for sensor in sensors]


def _in_words(seen: Mapping[str, Seen]) -> dict[str, str]:
    return {
        name: f"{len(found.steps)} steps"
        if found.steps
        else f"nothing to change, bundle {found.facts.current_bundle or '-'}"
        for name, found in seen.items()
    }


def _health(inventory: Inventory, name: str, facts: Facts, steps: tuple[Step, ...]) -> Health:
    drift = tuple(f"{step.name}: {step.why}" for step in steps)
    changed = tuple(f"{file} was changed there" for file in facts.changed)
    broker = facts.services.get(BROKER, _ABSENT) if inventory.broker_on(name) else None
    return Health(facts, facts.services.get(AGENT, _ABSENT), broker, drift or changed)


def _meetings(inventory: Inventory, health: Mapping[str, Health]) -> dict[str, list[str]]:
    """Return the nodes and sensors that are at each broker."""
    found: dict[str, list[str]] = {}
    for name, each in health.items():
        members = inventory.members(name)
        for member in members:
            service = each.facts.services.get(service_of(member, members[1:]), _ABSENT)
            if service.at and service.state == "active":
                found.setdefault(service.at, []).append(member)
    return found


def _ailment(
    inventory: Inventory, name: str, found: Health, bundles: set[str], meetings: Mapping[str, Sequence[str]]
) -> str:
    """Return in one sentence what is wrong with a device, or nothing."""
    if members := inventory.members(name):
        if not found.facts.current:
            return "nothing was put there yet: `fogguard provision apply`"
        for member in members:
            service = service_of(member, members[1:])
            state = found.facts.services.get(service, _ABSENT).state
            if state != "active":
                what = "agent" if service == AGENT else f"sensor {member}"
                return f"its {what} is {state}: journalctl -u {service} tells why"
    if found.broker and found.broker.state != "active":
        return f"its broker is {found.broker.state}: journalctl -u {BROKER} tells why"
    if found.drift:
        return f"differs: {'; '.join(found.drift)}: `fogguard provision apply` makes it right"
    if len(bundles) > 1:
        return f"runs bundle {found.facts.current_bundle}, and not all do: `fogguard provision apply` makes them one"
    if members and found.facts.unreachable:
        return f"no broker answers it at {', '.join(found.facts.unreachable)}: is the device on that carries it?"
    if members and any(url in meetings for url in inventory.broker_urls[1:]):
        where = "; ".join(f"{', '.join(there)} at {url}" for url, there in meetings.items())
        return f"its first broker answers, and not all are there ({where}): `fogguard ask all return` brings them"
    return ""
