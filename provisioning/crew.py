"""Devices that are worked on at once, each by a thread of its own; who fails is out, and the others go on."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from broker.errors import FogError
from provisioning.connection import require_readable
from provisioning.deployment import Deployment
from provisioning.errand import Errand, StepReport
from provisioning.inventory import Inventory
from provisioning.wheels import wheelhouse

T = TypeVar("T")
Say = Callable[[str, str], None]
"""Takes a device's name and what is being done there."""


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one device; `reason` says what is wrong if it is not ok, and else how it is."""

    ok: bool
    steps: list[StepReport]
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all."""

    devices: dict[str, DeviceReport]
    seconds: float

    @property
    def failed(self) -> list[str]:
        """The devices that are not as they should be."""
        return [name for name, device in self.devices.items() if not device.ok]


class Crew:
    """An errand for each device, their connections open until the block ends.

    The block begins with a look at `known_hosts`: raises InventoryError if it cannot be read.

    Args:
        inventory: The fleet.
        names: Its devices that take part.
        password: For sudo, or "".
        say: Is told what is being done, from several threads.
    """

    def __init__(self, inventory: Inventory, names: Iterable[str], password: str, say: Say) -> None:
        self._began_s = time.monotonic()
        self._making = threading.Lock()
        self._say = say
        self._errands = {name: self._errand(name, inventory, password) for name in names}
        self.inventory = inventory
        self.failed: dict[str, FogError] = {}

    def __enter__(self) -> "Crew":
        require_readable(self.inventory.known_hosts.file)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def each(self, work: Callable[[Errand], T], names: Iterable[str] | None = None) -> dict[str, T]:
        """Do `work` on those of `names` (all) that have not failed, at once; return what came of who succeeds."""
        chosen = [name for name in (self._errands if names is None else names) if name not in self.failed]
        results: dict[str, T] = {}

        def guarded(name: str) -> None:
            try:
                results[name] = work(self._errands[name])
            except FogError as error:
                self.fail(name, error)

        with ThreadPoolExecutor(max(1, len(chosen)), thread_name_prefix="device") as pool:
            try:
                for done in [pool.submit(guarded, name) for name in chosen]:
                    done.result()
            except BaseException:
                self._close()  # Ctrl-C: a thread that waits for its device would go on waiting
                raise
        return {name: results[name] for name in chosen if name in results}

    def fail(self, name: str, error: FogError) -> None:
        """Take a device out."""
        self.failed[name] = error
        self._say(name, f"failed: {error}")

    def report(self, reasons: dict[str, str]) -> Report:
        """Return what came of all; `reasons` says how the ones that did not fail are."""
        devices = {
            name: DeviceReport(
                ok=name not in self.failed,
                steps=errand.reports,
                reason=str(self.failed.get(name, "; ".join(filter(None, (reasons.get(name), errand.told))))),
            )
            for name, errand in self._errands.items()
        }
        return Report(devices=devices, seconds=time.monotonic() - self._began_s)

    def _errand(self, name: str, inventory: Inventory, password: str) -> Errand:
        return Errand(name, inventory, password, self._wheelhouse, lambda what: self._say(name, what))

    def _wheelhouse(self, deployment: Deployment) -> Path:
        with self._making:  # devices of one kind share it
            return wheelhouse(deployment.target, lambda what: self._say("here", what))

    def _close(self) -> None:
        for errand in self._errands.values():
            errand.close()
