"""The whole fleet at once: look, stage everywhere, and only then switch.

    look ─► stage on each device ─┬─ all are ready ──────────────────► switch on each ─┬─ all serve ─► done
            (old bundle runs on)  └─ one is not, and an old bundle     (one rename)    └─ one does not:
                                     runs: it stays everywhere                            all go back

So the partitions of two bundles never answer together (a frame carries its bundle's id besides), and what was staged
is there for the next run. A device that fails does not keep the others from being staged.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import msgspec

from broker.errors import FogError
from edge_agent.bundle import Bundle
from provisioning.deployment import Deployment, deployment_of
from provisioning.errand import Errand, StepReport
from provisioning.facts import Facts
from provisioning.inventory import Inventory
from provisioning.plan import STAGED, Step, plan
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


class Seen(NamedTuple):
    """What a device is, what it is to get, and how it gets there."""

    facts: Facts
    deployment: Deployment
    steps: tuple[Step, ...]


class Rollout:
    """The devices of a fleet, each with a thread and a connection of its own, for as long as the block lasts."""

    def __init__(self, inventory: Inventory, names: Iterable[str], password: str, say: Say) -> None:
        self._began_s = time.monotonic()
        self._inventory = inventory
        self._errands = {name: self._errand(name, password, say) for name in names}
        self._reasons: dict[str, str] = {}
        self._failed: set[str] = set()
        self._making = threading.Lock()
        self._say = say

    def __enter__(self) -> "Rollout":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for errand in self._errands.values():
            errand.close()

    def _errand(self, name: str, password: str, say: Say) -> Errand:
        return Errand(name, self._inventory, password, self._wheelhouse, lambda what: say(name, what))

    def look(self, bundle: Bundle) -> dict[str, Seen]:
        """Return what each device that answers and is fit is to get."""

        def look(errand: Errand) -> Seen:
            facts = errand.look()
            errand.require_fit(facts, time.time())
            deployment = deployment_of(bundle, self._inventory, errand.name, facts)
            return Seen(facts, deployment, plan(facts, deployment.wanted))

        return self.each(look)

    def stage(self, seen: dict[str, Seen]) -> None:
        """Bring everything to the devices, beside what runs there."""

        def stage(errand: Errand) -> None:
            found = seen[errand.name]
            for step in found.steps:
                if step.name in STAGED:
                    errand.take(step, found.deployment)

        self.each(stage, seen)

    def switch(self, bundle: Bundle, seen: dict[str, Seen]) -> None:
        """Let what was staged run.

        If a device has failed and an old bundle runs, nobody switches; if one does not serve then, all go back.
        """
        staged = {name: found for name, found in seen.items() if name not in self._failed}
        others = [name for name, found in staged.items() if found.facts.current_bundle not in ("", bundle.id.hex())]
        if self._failed and others:
            self._hold_back(staged)
            return

        def switch(errand: Errand) -> None:
            found = staged[errand.name]
            for step in found.steps:
                if step.name not in STAGED | {"tidy"}:
                    errand.take(step, found.deployment)

        self.each(switch, staged)
        if self._failed and others:
            self._go_back(others, staged)
            return
        self._tidy(staged)

    def _hold_back(self, staged: dict[str, Seen]) -> None:
        reason = f"staged, and kept on its old bundle: {', '.join(sorted(self._failed))} failed"
        for name, found in staged.items():
            if any(step.name == "switch" for step in found.steps):
                self._fail(name, reason)

    def _go_back(self, others: list[str], staged: dict[str, Seen]) -> None:
        culprits = ", ".join(sorted(self._failed))
        switched = [name for name in others if any(step.name == "switch" for step in staged[name].steps)]
        why = dict(self._reasons)
        self._failed -= set(switched)

        def go_back(errand: Errand) -> None:
            errand.go_back(staged[errand.name].facts.current)

        self.each(go_back, switched)
        for name in switched:
            if name not in self._failed:
                self._fail(name, f"{why.get(name) or culprits + ' failed'}: it is back on its old bundle")

    def _tidy(self, staged: dict[str, Seen]) -> None:
        def tidy(errand: Errand) -> None:
            found = staged[errand.name]
            for step in found.steps:
                if step.name == "tidy":
                    errand.take(step, found.deployment)

        self.each(tidy, staged)

    def each(self, work: Callable[[Errand], T], names: Iterable[str] | None = None) -> dict[str, T]:
        """Do `work` on those of `names` (all) that have not failed, at once; return what came of who succeeds."""
        chosen = [name for name in (self._errands if names is None else names) if name not in self._failed]
        results: dict[str, T] = {}

        def guarded(name: str) -> None:
            try:
                results[name] = work(self._errands[name])
            except FogError as error:
                self._fail(name, str(error))

        with ThreadPoolExecutor(max(1, len(chosen)), thread_name_prefix="device") as pool:
            try:
                for done in [pool.submit(guarded, name) for name in chosen]:
                    done.result()
            except BaseException:
                self._close()  # Ctrl-C: a thread that waits for its device would go on waiting
                raise
        return {name: results[name] for name in chosen if name in results}

    def _fail(self, name: str, reason: str) -> None:
        self._failed.add(name)
        self._reasons[name] = reason
        self._say(name, f"failed: {reason}")

    def _wheelhouse(self, deployment: Deployment) -> Path:
        with self._making:  # devices of one kind share it
            return wheelhouse(deployment.target, lambda what: self._say("here", what))

    def report(self, reasons: dict[str, str]) -> Report:
        """Return what came of all; `reasons` says how the ones that did not fail are."""
        devices = {
            name: DeviceReport(
                ok=name not in self._failed,
                steps=errand.reports,
                reason=self._reasons.get(name) or reasons.get(name, ""),
            )
            for name, errand in self._errands.items()
        }
        return Report(devices=devices, seconds=time.monotonic() - self._began_s)
