"""What pulls the plugs of a lab's devices."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks.scenario import Verb
from provisioning.lab import fleet, store
from provisioning.lab.layout import Device, Lab

_SLOW_PERCENT, _LOSS_PERCENT = 5.0, 10.0


class LabHands:
    """The plugs, cables and processors of a lab's devices; booting takes seconds, so a thread does it, in order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread = ThreadPoolExecutor(1, "drill-hands")
        self._thread.submit(lambda: None).result()  # it stays in the network namespace where it began
        self._under_way: list[Future[None]] = []

    def do(self, verb: Verb, node: str) -> None:
        """Let something go wrong with a device."""
        actions: dict[Verb, Callable[[Lab, Device], None]] = {
            "unplug": fleet.unplug,
            "kill": fleet.kill,
            "freeze": fleet.freeze,
            "cut": fleet.cut,
            "slow": lambda lab, device: fleet.slow(lab, device, _SLOW_PERCENT, None, None),
            "lossy": lambda lab, device: fleet.lossy(lab, device, _LOSS_PERCENT),
        }
        self._submit(actions[verb], node)

    def undo(self, verb: Verb, node: str) -> None:
        """Plug a device in, thaw or heal it."""
        actions = {"unplug": fleet.plug, "kill": fleet.plug, "freeze": fleet.thaw}
        self._submit(actions.get(verb, fleet.heal), node)

    def check(self) -> None:
        """Raise what an action raised."""
        while self._under_way and self._under_way[0].done():
            self._under_way.pop(0).result()

    def finish(self) -> None:
        """Wait until the devices are as they were asked to be; raises what an action raised."""
        self._thread.shutdown()
        self.check()

    def _submit(self, action: Callable[[Lab, Device], None], node: str) -> None:
        def act() -> None:
            with store.opened(self._name) as lab:
                action(lab, lab.device(node))

        self._under_way.append(self._thread.submit(act))
