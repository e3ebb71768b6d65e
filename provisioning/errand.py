"""One device being provisioned: its connection, what was found there, and the steps that change it."""

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Final

import msgspec

from broker.errors import FailureFound
from provisioning import doctor, packages
from provisioning.claim import Claims, who
from provisioning.connection import connect
from provisioning.counting import counting
from provisioning.deployment import Deployment
from provisioning.facts import SCRIPT, Facts, parse_facts
from provisioning.inventory import Inventory
from provisioning.plan import Step
from provisioning.release import pack
from provisioning.remote import NoRoom, Outcome, Remote, RemoteError
from provisioning.room import NONE, Room, examine_room, megabytes
from provisioning.units import AGENT, mode_of

_SIGNALLED: Final = {132: "an illegal instruction (SIGILL)", 139: "a memory fault (SIGSEGV)", 137: "too little memory"}
_INSTALL_S: Final = 600.0
_FULL: Final = "No space left on device"


class StepFailed(FailureFound):
    """A step on a device did not come to its end."""


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was done: whether it changed the device, and how long it took."""

    name: str
    changed: bool
    seconds: float


class Errand:
    """A device, from the first look to the last step; `close` ends the connection.

    Args:
        name: The device's, in the inventory.
        inventory: The fleet.
        password: For sudo, or "".
        wheelhouse: Returns the archive of an environment; may take long, and is called from several threads.
        say: Takes what is being done.
    """

    def __init__(
        self,
        name: str,
        inventory: Inventory,
        password: str,
        wheelhouse: Callable[[Deployment], Path],
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self.reports: list[StepReport] = []
        self.told = ""
        """What the self-test found."""
        self._device = inventory.devices[name]
        self._inventory = inventory
        self._password = password
        self._wheelhouse = wheelhouse
        self._say = say
        self._stack = contextlib.ExitStack()
        self._remote: Remote | None = None
        self._room = NONE

    def close(self) -> None:
        """End the connection."""
        self._stack.close()

    def look(self, *, needs_root: bool = True, claims: Claims | None = None) -> Facts:
        """Connect, and return the facts; raises RemoteError or FactsError, and Claimed if it joins `claims`.

        Without `needs_root`, a device whose sudo does not let us in says what everybody may know.
        """
        began_s = time.monotonic()
        self._say("looking")
        known_hosts = self._inventory.known_hosts
        self._remote = self._stack.enter_context(connect(self._device, known_hosts, self._password))
        if claims:
            claims.add(self._remote.converse(_script("claim"), who(), timeout_s=_INSTALL_S))
        own = self._inventory.broker_on(self.name)
        brokers = [word for each in self._inventory.brokers for word in (each.address, str(each.port))]
        words = (str(own.port) if own else "0", *brokers)
        try:
            outcome = self._remote.run(SCRIPT, *words, root=True)
        except RemoteError:
            if needs_root:
                raise
            outcome = self._remote.run(SCRIPT, *words)
        facts = parse_facts(outcome.out)
        self._done("facts", began_s, changed=False)
        return facts

    def require_fit(self, facts: Facts, now_s: float) -> None:
        """Raise StepFailed if nothing can be put on this device."""
        carries = self._inventory.broker_on(self.name) is not None
        if why := doctor.unfit(doctor.examine(facts, self._device, carries_broker=carries, now_s=now_s)):
            raise StepFailed(why)

    def require_room(self, facts: Facts, room: Room) -> None:
        """Raise StepFailed unless there is room for what is to come."""
        self._room = room
        if why := doctor.unfit(examine_room(facts, room)):
            raise StepFailed(why)

    def take(self, step: Step, deployment: Deployment) -> None:
        """Do one step of a plan, but for `prepare` and `commit`, which the fleet does together: rollout.exchange.

        Raises RemoteError or StepFailed, and what was there is still there then.
        """
        began_s = time.monotonic()
        self._say(f"{step.name} ({step.why})")
        match step.name:
            case "packages":
                self._packages(deployment)
            case "environment":
                self._environment(deployment)
            case "release":
                self._release(deployment)
            case "files":
                self._files(step, deployment)
            case "self-test":
                self._self_test(deployment.wanted.release)
            case "broker":
                self._run("broker")
            case "switch" | "follow":
                self.switch(deployment.wanted.release)
            case "abandon" | "sensors" | "retire" | "tidy":
                self._run(step.name, *step.names)
        self._done(step.name, began_s, changed=step.name != "self-test")

    def go_back(self, release: str) -> None:
        """Let `release`, which is there, run again; raises StepFailed."""
        began_s = time.monotonic()
        self._say("going back")
        self.switch(release)
        self._done("rollback", began_s, changed=True)

    def start(self, services: Sequence[str]) -> None:
        """Start services anew, and wait until they serve; raises StepFailed."""
        began_s = time.monotonic()
        self._say(f"starting {', '.join(services)}")
        self._run("sensors", *services)
        self._done("sensors", began_s, changed=True)

    def prepare(self, release: str) -> None:
        """Let the agent hold the bundle of `release` beside the one that it runs; raises StepFailed if it cannot."""
        self._exchange("prepare", release)

    def commit(self, release: str) -> None:
        """Let the agent run the bundle of `release`, which it holds; raises StepFailed."""
        self._exchange("commit", release)

    def abandon(self) -> None:
        """Let the agent hold nothing but what it runs; raises StepFailed."""
        self._exchange("abandon")

    def _exchange(self, script: str, *arguments: str) -> None:
        began_s = time.monotonic()
        self._say(" ".join((script, *arguments)))
        self._run(script, *arguments)
        self._done(script, began_s, changed=True)

    def switch(self, release: str) -> None:
        """Let `release` run, and wait until it serves; raises StepFailed."""
        outcome = self._open.run(_step("switch"), release, root=True, timeout_s=90)
        if outcome.code:
            state = self._open.run(f"systemctl show -p ActiveState --value {AGENT}.service").out.strip()
            waits = state == "activating" and not outcome.error.strip()
            urls = " or ".join(self._inventory.broker_urls)
            why = f"it waits for its broker at {urls}" if waits else outcome.last_words
            raise StepFailed(f"its agent does not come up ({state}): {why}")

    def _packages(self, deployment: Deployment) -> None:
        state = self._run("package-state").out
        self._upload_and_run("packages", packages.download(state, deployment.target.arch, ("mosquitto",)))

    def _environment(self, deployment: Deployment) -> None:
        archive = self._wheelhouse(deployment)
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        with archive.open("rb") as content:
            path = self._upload(content, sha256, "its environment")
        python = deployment.python
        script, name = _step("environment"), deployment.target.environment
        outcome = self._open.run(script, path, name, python.path, python.version, root=True, timeout_s=_INSTALL_S)
        if outcome.code in _SIGNALLED:
            raise StepFailed(
                f"onnxruntime or numpy ends with {_SIGNALLED[outcome.code]} when it is imported there: "
                "this wheel was made for another processor; the device stays as it was"
            )
        self._require("environment", outcome)

    def _release(self, deployment: Deployment) -> None:
        if deployment.release is None:
            raise AssertionError("a device without a node has no release")
        self._upload_and_run("release", deployment.release.pack(), deployment.release.id, deployment.wanted.environment)

    def _files(self, step: Step, deployment: Deployment) -> None:
        files = {path.lstrip("/"): data for path, data in deployment.files.items() if path in step.names}
        self._upload_and_run("files", pack(files, {path: mode_of(path) for path in files}))

    def _self_test(self, release: str) -> None:
        node = self._device.node
        if not node or self._inventory.provider_of(node).is_cpu:
            outcome = self._run("self-test", release, root=False)
        else:
            self._run("self-test", release, "sensors", root=False)
            with counting(self._say) as hear:
                outcome = self._run("self-test-as-agent", release, hear=hear)
        self.told = outcome.out.strip().rpartition("\n")[2]

    def _upload_and_run(self, script: str, archive: bytes, *arguments: str) -> None:
        sha256 = hashlib.sha256(archive).hexdigest()
        path = self._upload(io.BytesIO(archive), sha256, f"its {script}")
        self._run(script, path, *arguments)

    def _upload(self, source: IO[bytes], sha256: str, what: str) -> str:
        try:
            return self._open.upload(source, sha256, what)
        except NoRoom as error:
            needed = self._room.opt if self._room.home is None else self._room.home
            raise StepFailed(f"{error}: make room: {megabytes(needed)} MB are needed") from error

    def _run(
        self, script: str, *arguments: str, root: bool = True, hear: Callable[[str], None] | None = None
    ) -> Outcome:
        text = _step(script) if root else _script(script)
        outcome = self._open.run(text, *arguments, root=root, timeout_s=_INSTALL_S, hear=hear)
        self._require(script, outcome)
        return outcome

    def _require(self, what: str, outcome: Outcome) -> None:
        if outcome.code and _FULL in outcome.error:  # tar's last words are others
            free_mb = self._open.free_mb("/opt")
            needed_mb = megabytes(self._room.opt)
            raise StepFailed(f"{what} failed: {_FULL}, {free_mb} MB free: make room: {needed_mb} MB are needed")
        if outcome.code:
            raise StepFailed(f"{what} failed: {outcome.last_words}")

    @property
    def _open(self) -> Remote:
        if self._remote is None:
            raise AssertionError("look first")
        return self._remote

    def _done(self, name: str, began_s: float, *, changed: bool) -> None:
        self.reports.append(StepReport(name=name, changed=changed, seconds=time.monotonic() - began_s))


def _script(name: str) -> str:
    return (resources.files("provisioning") / "scripts" / f"{name}.sh").read_text(encoding="utf-8")


def _step(name: str) -> str:
    """Return a script that changes something: no two of them run at the same time."""
    return _script("step") + _script(name)
