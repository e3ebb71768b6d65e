"""What pulls the plugs of a lab's devices, and kills what runs on them."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.hands import BROKER
from benchmarks.scenario import Harm, Verb
from broker.errors import FogError
from provisioning.inventory import load_inventory
from provisioning.lab import fleet, services, store
from provisioning.lab.layout import Device, Lab
from provisioning.units import AGENT
from provisioning.units import BROKER as BROKER_SERVICE

_Action = Callable[[Lab, Device, Harm], None]


def _start(lab: Lab, device: Device, _: Harm) -> None:
    services.systemctl(lab, device, "start", "--no-block", AGENT)


def _plain(action: Callable[[Lab, Device], None]) -> _Action:
    return lambda lab, device, _: action(lab, device)


def _nothing(_lab: Lab, _device: Device, _harm: Harm) -> None:
    """It comes back by itself."""


_DO: Final[dict[Verb, _Action]] = {
    "unplug": _plain(fleet.unplug),
    "stop": lambda lab, device, _: services.systemctl(lab, device, "stop", AGENT),
    "freeze": _plain(fleet.freeze),
    "cut": _plain(fleet.cut),
    "slow": lambda lab, device, harm: fleet.slow(lab, device, harm.percent, None, None),
    "lossy": lambda lab, device, harm: fleet.lossy(lab, device, harm.percent or 0.0),
    "restart": lambda lab, device, _: services.systemctl(lab, device, "restart", "--no-block", AGENT),
    "reboot": _plain(fleet.reboot),
}
_UNDO: Final[dict[Verb, _Action]] = {
    "unplug": _plain(fleet.plug),
    "kill": _start,
    "stop": _start,
    "freeze": _plain(fleet.thaw),
    "restart": _nothing,
    "reboot": _nothing,
}
_heal: Final = _plain(fleet.heal)


class LabActor:
    """Acts on the devices of a lab, and on its first broker: `kill` is of that service, `unplug` of its device."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: set[str] = set()

    def do(self, harm: Harm, node: str) -> int:
        """Let something go wrong with a device, or with the broker."""
        with store.opened(self._name) as lab:
            device = self._device(lab, node)
            if harm.verb == "kill":
                return self._kill(lab, device, BROKER_SERVICE if node == BROKER else AGENT)
            if harm.verb in ("unplug", "reboot"):
                self._held.discard(device.name)  # a device that boots has forgotten it
            began_ns = time.monotonic_ns()
            _DO[harm.verb](lab, device, harm)
        return began_ns

    def _kill(self, lab: Lab, device: Device, service: str) -> int:
        if service == AGENT and device.name not in self._held:
            services.hold(lab, device, AGENT)
            self._held.add(device.name)
        pids = services.processes(lab, device, service)
        began_ns = time.monotonic_ns()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return began_ns

    def undo(self, harm: Harm, node: str) -> int:
        """Plug a device in, thaw or heal it, or start its agent."""
        with store.opened(self._name) as lab:
            began_ns = time.monotonic_ns()
            if node != BROKER or harm.verb != "kill":  # systemd starts that anew
                _UNDO.get(harm.verb, _heal)(lab, self._device(lab, node), harm)
        return began_ns

    def finish(self) -> None:
        """Let systemd start agents anew again when they end."""
        with store.opened(self._name) as lab:
            for name in self._held:
                with contextlib.suppress(FogError):  # somebody else switched it off
                    services.release(lab, lab.device(name), AGENT)

    def _device(self, lab: Lab, node: str) -> Device:
        return lab.device(load_inventory(Path(lab.fleet)).brokers[0].device if node == BROKER else node)
