"""What is to happen to a fleet and when: a scenario file, chance, or an operator's hands. Pure: time comes in.

# scenario.toml
seconds = 40                    # then it begins again, if `--for` lasts longer [default: 10 after the last event]
events = [
  { at = 10, do = "kill", node = "f1" },
  { at = 20, do = "back", node = "f1" },      # undoes whatever was done to it
  { at = 25, do = "slow", node = "e1", percent = 5 },
]
"""

import random
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from broker.errors import FogError
from edge_agent.bundle import Manifest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Verb = Literal["kill", "stop", "freeze", "unplug", "cut", "slow", "lossy", "restart", "reboot", "power", "hand"]
Mode = Literal["scenario", "random", "by-hand"]
AGENT_VERBS: Final[tuple[Verb, ...]] = ("kill", "stop", "restart")
"""What happens to an agent, and leaves its device as it is."""
LOCAL_VERBS: Final[tuple[Verb, ...]] = ("kill", "stop", "freeze", "restart")
LAB_VERBS: Final[tuple[Verb, ...]] = ("unplug", "kill", "stop", "freeze", "cut", "slow", "lossy", "restart", "reboot")
USUAL: Final[dict[Verb, float]] = {"slow": 5.0, "lossy": 10.0}
"""What has an amount: the percent of one core that a slow device keeps, and of its packets that a lossy cable loses."""
_REST_S: Final = 10.0
Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]


class Harm(msgspec.Struct, frozen=True):
    """What is done to a node, and how much of it, where there is more and less."""

    verb: Verb
    percent: float | None = None

    def __str__(self) -> str:
        return self.verb if self.percent is None else f"{self.verb} {self.percent:g} %"


def harm(verb: Verb, percent: float | None = None) -> Harm:
    """Return what is to be done, with the usual amount where none is named; raises ScenarioError if it has none."""
    if percent is not None and verb not in USUAL:
        raise ScenarioError(f"{verb}: there is no more and no less of that; {', '.join(USUAL)} can have a percentage")
    return Harm(verb, USUAL.get(verb) if percent is None else percent)


class ScenarioError(FogError):
    """A scenario that cannot be read, or that this fleet cannot play."""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to a node `at` so many seconds; `back` undoes whatever was done to it."""

    at: Annotated[float, msgspec.Meta(ge=0)]
    do: Verb | Literal["back"]
    node: str
    percent: Percent | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    events: Annotated[tuple[Event, ...], msgspec.Meta(min_length=1)]
    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what happens: a drill goes on only as the same plan.

    Attributes:
        mode: Which of the following is used.
        events: Of a scenario, in the order of time, over and over every `seconds`.
        seconds: How long one round of them takes.
        setting: Its reliabilities are those that chance draws from; a name for people.
        reliability: r_i of each node. Every `every_s` seconds each node is dead with probability 1 - r_i.
        by: How chance lets nodes fail.
        percent: How much of it.
        seed: Of chance, and of the order in which an operator is asked.
        hold_s: How long a node that was unplugged by hand stays so.
        patience_s: How long an operator is waited for.
    """

    mode: Mode
    events: tuple[Event, ...] = ()
    seconds: float = 0.0
    setting: str = ""
    reliability: dict[str, float] = {}
    every_s: float = 0.0
    by: Verb = "kill"
    percent: float | None = None
    seed: int = 0
    hold_s: float = 0.0
    patience_s: float = 0.0


def load_scenario(file: Path, manifest: Manifest, verbs: tuple[Verb, ...]) -> Plan:
    """Read a scenario for a bundle's fleet on which `verbs` can be done; raises ScenarioError."""
    try:
        found = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _File)
    except OSError as error:
        raise ScenarioError(f"{file}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ScenarioError(f"{file}: {error}") from error
    for event in found.events:
        if event.node not in manifest.order:
            raise ScenarioError(f"{file}: {event.node} is no node that can fail: those are {', '.join(manifest.order)}")
        if event.do != "back" and event.do not in verbs:
            raise ScenarioError(f"{file}: {event.do} cannot be done to this fleet: {', '.join(verbs)} can")
        if event.percent is not None and event.do not in USUAL:
            raise ScenarioError(f"{file}: {event.do} has no percent: {', '.join(USUAL)} have")
    events = tuple(sorted(found.events, key=lambda event: event.at))
    seconds = events[-1].at + _REST_S if found.seconds is None else found.seconds
    if seconds <= events[-1].at:
        raise ScenarioError(f"{file}: seconds = {seconds:g} is over before the last event, at {events[-1].at:g}")
    return Plan(mode="scenario", events=events, seconds=seconds)


def by_chance(manifest: Manifest, setting: str | None, every_s: float, by: Harm, seed: int) -> Plan:
    """Return the plan that draws from a reliability setting, the last one by default; raises ScenarioError."""
    setting = setting or next(reversed(manifest.settings), "")
    if setting not in manifest.settings:
        known = ", ".join(manifest.settings) or "none"
        raise ScenarioError(f"--setting {setting!r}: the bundle's settings are {known}")
    reliability = {node: manifest.settings[setting][node] for node in manifest.order}
    draw = Plan(mode="random", setting=setting, reliability=reliability, every_s=every_s, seed=seed)
    return msgspec.structs.replace(draw, by=by.verb, percent=by.percent)


def wanted(plan: Plan, at_s: float) -> dict[str, Harm]:
    """Return what is to be wrong at that time, with whom."""
    if plan.mode == "random":
        chance = random.Random(f"{plan.seed} {int(at_s // plan.every_s)}")
        by = Harm(plan.by, plan.percent)
        return {node: by for node, r in plan.reliability.items() if chance.random() >= r}
    wrong: dict[str, Harm] = {}
    for event in plan.events:
        if event.at > at_s % plan.seconds:
            break
        if event.do == "back":
            wrong.pop(event.node, None)
        else:
            wrong[event.node] = harm(event.do, event.percent)
    return wrong


def next_change_s(plan: Plan, at_s: float) -> float:
    """Return when something else may be wanted next."""
    if plan.mode == "random":
        return plan.every_s * (at_s // plan.every_s + 1)
    if plan.mode == "by-hand":
        return float("inf")
    begun_s = plan.seconds * (at_s // plan.seconds)
    return next((begun_s + event.at for event in plan.events if begun_s + event.at > at_s), begun_s + plan.seconds)
