"""What must change on a device, in order, and nothing else. Pure: facts and what is wanted in, steps out.

stage    packages ─► environment ─► release ─► files ─► self-test     on every device, while the old release runs
switch   broker ─► switch ─► sensors ─► tidy                          on every device, once all have been staged,
         prepare ─► commit ─► sensors ─► tidy                         or, if only bundles differ, while agents run
                                follow ─► tidy                        on a device that carries sensors alone

The agent that is started anew by `switch` is away for a second. With `prepare` it holds the next bundle beside the one
that it runs, and when all do, `commit` lets them run it: no step is lost. Either all nodes take that way or none.
Sensors follow them: what they say for the bundle before is answered by nodes that still hold it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from provisioning.facts import Facts, Service
from provisioning.units import AGENT, BROKER, ETC, SENSOR, unit_file

Name = Literal[
    "packages",
    "environment",
    "release",
    "files",
    "self-test",
    "broker",
    "switch",
    "abandon",
    "prepare",
    "commit",
    "follow",
    "sensors",
    "retire",
    "tidy",
]
STAGED: Final = frozenset({"packages", "environment", "release", "files", "self-test"})
_GOES_ON, _ANEW = "goes on", "is started anew"
_LIVE: Final[tuple[Name, Name]] = ("prepare", "commit")
_ABSENT: Final = Service("inactive", is_enabled=False, restarts=0)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is to have; without a node or sensor there is no release. `files` lie in /etc, by their hashes.

    `base` names all of the release but its bundle; `sensors` are the services beside the agent's, which serves a sensor
    too if `is_leaf`.
    """

    release: str = ""
    environment: str = ""
    base: str = ""
    files: dict[str, str] = {}
    has_broker: bool = False
    sensors: tuple[str, ...] = ()
    is_leaf: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One change, and why; `names` are what it is about: files, folders."""

    name: Name
    why: str
    names: tuple[str, ...] = ()


def plan(facts: Facts, wanted: Wanted) -> tuple[Step, ...]:
    """Return the steps that make a device what is wanted, none if it is that already."""
    changed = tuple(path for path, sha256 in wanted.files.items() if facts.files.get(path) != sha256)
    ours = (f"{ETC}/", unit_file(SENSOR).removesuffix(".service"))
    stale = tuple(path for path in facts.files if path.startswith(ours) and path not in wanted.files)
    steps: list[Step] = []
    if wanted.has_broker and not facts.mosquitto:
        steps.append(Step(name="packages", why="mosquitto is not there"))
    if wanted.release:
        steps += _release_steps(facts, wanted)
    if changed:
        steps.append(Step(name="files", why=_why_files(changed, facts.files), names=changed))
    if wanted.release and (steps or wanted.release != facts.current):
        steps += _self_test(facts, wanted)
    if wanted.has_broker and (why := _why_start(BROKER, facts, changed)):
        steps.append(Step(name="broker", why=why))
    steps += _turn(facts, wanted, changed)
    if started := tuple(name for name in wanted.sensors if _why_sensor(name, facts, steps, changed)):
        steps.append(Step(name="sensors", why=_why_sensor(started[0], facts, steps, changed), names=started))
    if retired := _retired(facts, wanted):
        steps.append(Step(name="retire", why="the inventory has it here no longer", names=retired))
    if rest := (*_left_over(facts, wanted), *stale):
        steps.append(Step(name="tidy", why="no longer needed", names=tuple(sorted(rest))))
    return tuple(steps)


def _turn(facts: Facts, wanted: Wanted, changed: tuple[str, ...]) -> list[Step]:
    """Return how the device comes to run what it is to run."""
    if _is_exchangeable(facts, wanted, changed):
        why = f"from {facts.current}, the agent {_GOES_ON}"
        return [Step(name=name, why=why, names=(wanted.release,)) for name in _LIVE]
    if wanted.release and (why := _why_switch(facts, wanted, changed)):
        return [Step(name="follow" if wanted.is_leaf else "switch", why=why, names=(wanted.release,))]
    return [Step(name="abandon", why="a switch was broken off", names=(facts.next,))] if facts.next else []


def alike(plans: Mapping[str, tuple[Step, ...]]) -> dict[str, tuple[Step, ...]]:
    """Return the plans of a fleet so that either all agents go on, or all are started anew, because one must be."""
    broken = [name for name, steps in plans.items() if any(step.name in ("switch", "broker") for step in steps)]
    if not broken:
        return dict(plans)
    return {name: tuple(_restarting(steps, broken[0])) for name, steps in plans.items()}


def _restarting(steps: tuple[Step, ...], culprit: str) -> Iterator[Step]:
    for step in steps:
        if step.name == "commit":
            why = step.why.replace(_GOES_ON, f"{_ANEW}: so it is on {culprit}")
            yield Step(name="switch", why=why, names=step.names)
        elif step.name != "prepare":
            yield step


def is_exchangeable(facts: Facts, base: str) -> bool:
    """Whether the agent can go on while it comes to a release that, but for the bundle, is `base`."""
    agent = facts.services.get(AGENT, _ABSENT)
    return (
        bool(base) and facts.current_base == base and not facts.changed and agent.is_enabled and agent.state == "active"
    )


def _is_exchangeable(facts: Facts, wanted: Wanted, changed: tuple[str, ...]) -> bool:
    is_there = facts.current != wanted.release and wanted.environment in facts.venvs
    return is_there and not changed and is_exchangeable(facts, wanted.base)


def _release_steps(facts: Facts, wanted: Wanted) -> list[Step]:
    found = []
    if wanted.environment not in facts.venvs:
        found.append(Step(name="environment", why="not there", names=(wanted.environment,)))
    if wanted.release not in facts.releases:
        found.append(Step(name="release", why="not there", names=(wanted.release,)))
    elif wanted.release == facts.current and facts.changed:
        found.append(Step(name="release", why=f"changed on the device: {', '.join(facts.changed)}"))
    return found


def _self_test(facts: Facts, wanted: Wanted) -> list[Step]:
    is_same = wanted.release == facts.current and wanted.environment in facts.venvs and not facts.changed
    return [] if is_same else [Step(name="self-test", why="before it serves", names=(wanted.release,))]


def _why_files(changed: tuple[str, ...], there: Mapping[str, str]) -> str:
    return "changed" if any(path in there for path in changed) else "not there"


def _why_start(service: str, facts: Facts, changed: tuple[str, ...]) -> str:
    """Return why a service must be started again, or nothing."""
    found = facts.services.get(service, _ABSENT)
    if unit_file(service) in changed:
        return "its configuration changes" if unit_file(service) in facts.files else "not there"
    if not found.is_enabled:
        return "not enabled"
    return "" if found.state == "active" else f"it is {found.state}"


def _why_sensor(service: str, facts: Facts, steps: Sequence[Step], changed: tuple[str, ...]) -> str:
    """Return why a sensor beside a node must be started again, or nothing; `switch` does that with its node."""
    goes_over = "its node goes over to another bundle" if any(step.name == "commit" for step in steps) else ""
    return _why_start(service, facts, changed) or goes_over


def _why_switch(facts: Facts, wanted: Wanted, changed: tuple[str, ...]) -> str:
    if facts.current != wanted.release:
        if not facts.current:
            return "the first"
        is_running = facts.services.get(AGENT, _ABSENT).state == "active"
        if wanted.is_leaf:
            return f"from {facts.current}, its sensors are started anew"
        reason = "more than the bundle differs" if is_running else "it does not run"
        return f"from {facts.current}, the agent {_ANEW}: {reason}"
    return "was changed on the device" if facts.changed else _why_start(AGENT, facts, changed)


def _retired(facts: Facts, wanted: Wanted) -> tuple[str, ...]:
    """Return the services that this device no longer carries: two agents of one node would throw each other out."""
    carried = {AGENT: bool(wanted.release), BROKER: wanted.has_broker, **dict.fromkeys(wanted.sensors, True)}
    return tuple(
        name
        for name, service in facts.services.items()
        if not carried.get(name) and (service.is_enabled or service.state != "inactive")
    )


def _left_over(facts: Facts, wanted: Wanted) -> list[str]:
    """Return releases that neither run nor can be gone back to; their environments go when nothing links to them."""
    kept = {wanted.release, facts.current if wanted.release != facts.current else facts.previous}
    return [f"/opt/fogguard/releases/{name}" for name in facts.releases - kept]
