"""Where a fleet under measurement runs, and what can be done to its nodes from here."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.fleet import Trial, running_trial
from benchmarks.hands import Hands, LocalHands, NoHands
from benchmarks.scenario import LAB_VERBS, LOCAL_VERBS, Verb
from broker.errors import FogError
from broker.tls import Tls, files_of

if TYPE_CHECKING:
    from provisioning.lab.layout import Lab


class Place(NamedTuple):
    """Where the fleet is: agents of this machine, or others that run already.

    `verbs` are the things that can be done to its nodes from here, the first by default.
    """

    broker: str | None
    fleet: str | None
    tls: Tls | None
    local: bool
    lab: "Lab | None"
    verbs: tuple[Verb, ...]


def place_of(
    *,
    broker: str | None = None,
    fleet: str | None = None,
    tls: Path | None = None,
    external: bool = False,
    lab: str | None = None,
) -> Place:
    """Return where the fleet is; raises FogError if the options do not go together."""
    if lab is not None:
        from provisioning.inventory import load_inventory  # what follows needs more than local fleets do
        from provisioning.lab import programs, store

        programs.require_root()
        there = store.find(lab)
        if there is None:
            raise FogError(f"there is no lab {lab}: `fogguard lab up` makes one")
        inventory = load_inventory(Path(there.fleet))
        folder = tls or inventory.pki
        told = files_of(folder, "feeder") if folder else None
        return Place(broker or inventory.broker_url, fleet or inventory.fleet, told, False, there, LAB_VERBS)
    if external and not broker:
        raise FogError("--external: name the broker where the agents are with --broker mqtt://HOST:PORT")
    if tls and not external:
        raise FogError("--tls is for agents that run elsewhere: add --external")
    told = files_of(tls, "feeder") if tls else None
    return Place(broker, fleet, told, not external, None, () if external else LOCAL_VERBS)


@contextlib.contextmanager
def trial_at(place: Place, path: Path, **options: Any) -> Iterator[tuple[Trial, Hands]]:
    """Yield the fleet at `place` under measurement (`running_trial`), and what pulls its plugs.

    With a lab's, this thread is in the lab's network from then on.
    """
    hands: Hands = NoHands()
    if place.lab is not None:
        from benchmarks.lab_hands import LabHands
        from provisioning.lab import network

        hands = LabHands(place.lab.name)  # its thread stays in the network where it begins
        network.enter(place.lab.namespace)
    where: dict[str, Any] = {"broker": place.broker, "local": place.local, "fleet": place.fleet, "tls": place.tls}
    with running_trial(path, **where, **options) as trial:
        if trial.agents is not None:
            hands = LocalHands(trial.agents)
        try:
            yield trial, hands
        finally:
            hands.finish()


def emulated_at(place: Place) -> str:
    """Return what of a measurement there is emulated, for the head of its result."""
    if place.local:
        return "every node is a process on this machine, killed, stopped or frozen by signals; the network is loopback"
    if place.lab is not None:
        return f"every node is a virtual device of lab {place.lab.name} on this machine"
    return ""


def able(place: Place, by: str, among: Collection[Verb] = LAB_VERBS + LOCAL_VERBS) -> Verb:
    """Return how nodes are to fail; raises FogError if that cannot be done to them, or is not `among` what is meant."""
    verbs = [verb for verb in place.verbs if verb in among]
    for verb in verbs:
        if verb == by:
            return verb
    raise FogError(f"--by {by} cannot be done to this fleet: {', '.join(verbs) or 'nothing'} can")
