"""Plans: facts and what is wanted in, steps out; only what differs, in the order in which it must be done."""

import json
from pathlib import Path

import msgspec
import pytest

from provisioning.facts import Facts, Service, parse_facts
from provisioning.plan import STAGED, Step, Wanted, alike, plan

FOLDER = Path(__file__).with_name("plans")
BARE = parse_facts((FOLDER.with_name("facts") / "composed-pi4-bookworm.txt").read_text())


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """A golden case: what differs from a bare Raspberry Pi 4, what is wanted, and the plan."""

    about: str
    facts: dict[str, object]
    wanted: Wanted
    steps: tuple[Step, ...]


def cases():
    return [(file.stem, msgspec.json.decode(file.read_bytes(), type=Case)) for file in sorted(FOLDER.glob("*.json"))]


def facts_of(case):
    return msgspec.convert({**msgspec.to_builtins(BARE), **case.facts}, Facts)


@pytest.mark.parametrize("case", [case for _, case in cases()], ids=[name for name, _ in cases()])
def test_the_plan_is_what_it_was(case):
    found = plan(facts_of(case), case.wanted)
    assert json.loads(msgspec.json.encode(found)) == json.loads(msgspec.json.encode(case.steps)), case.about


@pytest.mark.parametrize("case", [case for _, case in cases()], ids=[name for name, _ in cases()])
def test_a_device_that_has_taken_all_steps_needs_none(case):
    wanted, before = case.wanted, facts_of(case)
    running = Service("active", is_enabled=True, restarts=0)
    after = msgspec.structs.replace(
        before,
        current=wanted.release,
        previous=before.current if before.current != wanted.release else before.previous,
        releases=frozenset(filter(None, {wanted.release, before.current, before.previous})) - {""},
        venvs=frozenset(filter(None, {wanted.environment})),
        changed=(),
        next="",
        files=dict(wanted.files),
        mosquitto=before.mosquitto or "/usr/sbin/mosquitto",
        services={"fogguard-agent": running} if wanted.release else {},
    )
    if wanted.has_broker:
        after.services["fogguard-broker"] = running
    after.services.update(dict.fromkeys(wanted.sensors, running))
    left = [step for step in plan(after, wanted) if step.name != "tidy"]
    assert left == []


def test_everything_is_staged_before_anything_is_switched():
    for _, case in cases():
        names = [step.name in STAGED for step in plan(facts_of(case), case.wanted)]
        assert names == sorted(names, reverse=True)


def test_a_device_that_carries_sensors_alone_follows_and_starts_nobody_else_anew():
    case = dict(cases())["other-weights-alone"]
    goes_on = plan(facts_of(case), case.wanted)
    leaf = msgspec.structs.replace(case.wanted, base="", is_leaf=True)
    follows = plan(facts_of(case), leaf)
    assert [step.name for step in follows] == ["release", "self-test", "follow", "tidy"]
    assert follows[2].why == "from new1, its sensors are started anew"
    assert alike({"f1": goes_on, "shed": follows}) == {"f1": goes_on, "shed": follows}


def test_either_all_agents_go_on_or_all_are_started_anew():
    case = dict(cases())["other-weights-alone"]
    goes_on = plan(facts_of(case), case.wanted)
    assert [step.name for step in goes_on] == ["release", "self-test", "prepare", "commit", "tidy"]
    settled = ()
    assert alike({"f1": goes_on, "f2": goes_on, "e1": settled}) == {"f1": goes_on, "f2": goes_on, "e1": settled}
    stopped = (Step(name="switch", why="it is inactive", names=("new2",)),)
    together = alike({"f1": goes_on, "f2": stopped, "e1": settled})
    assert [step.name for step in together["f1"]] == ["release", "self-test", "switch", "tidy"]
    assert together["f1"][2].why == "from new1, the agent is started anew: so it is on f2"
    assert (together["f2"], together["e1"]) == (stopped, settled)
