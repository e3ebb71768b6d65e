"""Where a fleet under measurement runs, and what can be done to its nodes from here."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.fleet import Trial, kind_of_broker, running_trial
from benchmarks.hands import Hands, LocalHands, NoHands, OperatorHands
from benchmarks.letters import large
from benchmarks.plugs import plug_of
from benchmarks.scenario import AGENT_VERBS, LAB_VERBS, LOCAL_VERBS, Verb
from benchmarks.terminal import notes, say
from broker.embedded import LocalBroker
from broker.errors import FogError
from broker.tls import Tls, files_of
from broker.topics import require_name
from edge_agent.bundle import Manifest
from provisioning.plug import Plug

if TYPE_CHECKING:
    from provisioning.lab.layout import Lab


_PATIENCE_S: Final = 120.0
_OPERATOR_S: Final = 600.0
_CARRIED: Final = "{} is on a device with a broker, without which the fleet is gone or goes elsewhere"


class Place(NamedTuple):
    """Where the fleet is: agents of this machine, or others that run already.

    `verbs` are the things that can be done to its nodes from here, the first by default, `broker_verbs` those that can
    be done to its broker; `plugs` are the smart plugs of its devices, by their nodes. `carriers` are the nodes on
    devices that carry a broker, as far as is known.
    """

    broker: str | None
    fleet: str | None
    tls: Tls | None
    local: bool
    lab: "Lab | None"
    verbs: tuple[Verb, ...]
    broker_verbs: tuple[Verb, ...] = ()
    plugs: Mapping[str, Plug] = {}
    carriers: frozenset[str] = frozenset()

    @property
    def has_one_clock(self) -> bool:
        """Whether its agents' clock is ours."""
        return self.local or self.lab is not None

    def fleet_of(self, manifest: Manifest) -> str:
        """Return the fleet's name, that of what it runs where no other was given; raises FogError."""
        return require_name(self.fleet or manifest.name, "fleet")


def place_of(
    *,
    broker: str | None = None,
    fleet: str | None = None,
    tls: Path | None = None,
    external: bool = False,
    inventory: Path | None = None,
    lab: str | None = None,
    plugs: Sequence[str] | None = None,
    role: str = "feeder",
) -> Place:
    """Return where the fleet is; raises FogError if the options do not go together.

    What an inventory says, that of the fleet or of the lab, holds where no other option says something else. `role` is
    whose certificate is shown.
    """
    is_there = external or inventory is not None
    if lab is not None and is_there:
        raise FogError("--lab: its devices are one fleet, --external and --inventory are of another: leave one out")
    is_here = lab is None and not is_there
    if is_here and tls:
        raise FogError("--tls is for agents that run elsewhere: add --external")
    if is_here and plugs:
        raise FogError("--plug is for devices: agents of this machine have none")
    switched = dict(map(plug_of, plugs or ()))
    devices, carriers = None if lab is None else _lab(lab), frozenset[str]()
    if (file := Path(devices.fleet) if devices else inventory) is not None:
        from provisioning.inventory import load_inventory  # what follows needs more than local fleets do

        known = load_inventory(file)
        broker, fleet, tls = broker or ",".join(known.broker_urls), fleet or known.fleet, tls or known.pki
        switched = {**known.plugs, **switched}
        carriers = frozenset(known.devices[each.device].node for each in known.brokers)
    if external and not broker:
        raise FogError("name the broker where the agents are with --broker mqtt://HOST:PORT, or --inventory fleet.toml")
    told = files_of(tls, role) if tls else None
    by_plug: tuple[Verb, ...] = ("power",) if switched else ()
    if devices is not None:
        at_broker: tuple[Verb, ...] = ("kill",) if "," in (broker or "") else ("kill", "unplug")
        return Place(broker, fleet, told, False, devices, by_plug + LAB_VERBS, at_broker, switched, carriers)
    if is_there:
        return Place(broker, fleet, told, False, None, by_plug, (), switched, carriers)
    ours: tuple[Verb, ...] = () if broker and broker.startswith("mqtt") else ("kill",)
    return Place(broker, fleet, told, True, None, LOCAL_VERBS, ours)


def _lab(name: str) -> "Lab":
    from provisioning.lab import programs, store

    programs.require_root()
    found = store.find(name)
    if found is None:
        raise FogError(f"there is no lab {name}: `fogguard lab up` makes one")
    return found


@contextlib.contextmanager
def trial_at(place: Place, path: Path, *, by_hand: bool = False, **options: Any) -> Iterator[tuple[Trial, Hands]]:
    """Yield the fleet at `place` under measurement (`running_trial`), and what pulls its plugs, or asks for it.

    With a lab's, this thread is in the lab's network from then on.
    """
    hands: Hands = OperatorHands(_tell) if by_hand else NoHands()
    if not by_hand and (place.lab is not None or place.plugs):
        from benchmarks.apart import HandsApart

        hands = HandsApart(place.lab.name if place.lab else "", place.plugs)  # it stays in the network where it begins
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: hands.finish())
        if place.lab is not None:
            from provisioning.lab import network

            network.enter(place.lab.namespace)
        where: dict[str, Any] = {"broker": place.broker, "local": place.local, "fleet": place.fleet, "tls": place.tls}
        broker: LocalBroker | None = None
        if place.local and place.broker_verbs:
            broker = stack.enter_context(LocalBroker(kind_of_broker(place.broker)))
            where["broker"] = str(broker.url)
        trial = stack.enter_context(running_trial(path, **where, **options))
        if trial.agents is not None:
            if by_hand:
                say(_how_to_unplug(trial.agents.pids))
            else:
                hands = LocalHands(trial.agents, broker)
        yield trial, hands


def _how_to_unplug(pids: dict[str, int]) -> str:
    listed = ", ".join(f"{node} {pid}" for node, pid in pids.items())
    return f"these agents stand for devices: {listed}; unplug with kill -STOP PID, plug in with kill -CONT PID"


def _tell(text: str) -> None:
    """Say to the operator what to do, in large letters if there is a terminal."""
    notes.print(f"\n{large(text, notes.width)}\n" if notes.is_terminal else f"{text} now")


def within_reach(place: Place, by: Verb, order: Sequence[str]) -> list[str]:
    """Return the nodes that this can be done to; raises FogError if there are none.

    A plug switches those that have one, and with the device of a carrier the fleet would be gone, or go elsewhere.
    """
    devices = [node for node in order if node not in place.carriers and (by != "power" or node in place.plugs)]
    found = list(order) if by in AGENT_VERBS else devices
    if not found and by == "power":
        raise FogError(f"--plug: name that of one of {', '.join(order)}")
    if not found:
        raise FogError(f"--by {by}: {_CARRIED.format(order[0])}")
    return found


def require_reach(place: Place, by: Verb, nodes: Collection[str], order: Sequence[str], otherwise: str) -> None:
    """Raise FogError, which tells what to do `otherwise`, unless this can be done to all of `nodes`."""
    if beyond := [node for node in nodes if node not in within_reach(place, by, order)]:
        carried = [node for node in beyond if node in place.carriers]
        why = _CARRIED.format(carried[0]) if carried else f"name the plug of {', '.join(beyond)}"
        raise FogError(f"{by}: {why}; or {otherwise}")


def say_what_is_spared(place: Place, order: Sequence[str]) -> None:
    """Say that a broker's device is let alone, if a node that can fail is on it."""
    for node in [node for node in order if node in place.carriers]:
        say(f"{_CARRIED.format(node)}: only its agent fails")


def patience_s(by: Verb) -> float:
    """Return how long a fleet may take to see that something was done to it."""
    return _OPERATOR_S if by == "hand" else _PATIENCE_S


def emulated_at(place: Place) -> str:
    """Return what of a measurement there is emulated, for the head of its result."""
    if place.local:
        return "every node is a process on this machine, killed, stopped or frozen by signals; the network is loopback"
    if place.lab is not None:
        return f"every node is a virtual device of lab {place.lab.name} on this machine"
    return ""


def able(place: Place, by: str, *, by_hand: bool = False) -> Verb:
    """Return how nodes are to fail; raises FogError if that cannot be done to them from here, or by hand."""
    verbs: tuple[Verb, ...] = (*place.verbs, "hand") if by_hand else place.verbs
    for verb in verbs:
        if verb == by:
            return verb
    raise FogError(f"--by {by} cannot be done to this fleet: {', '.join(verbs) or 'nothing'} can")
