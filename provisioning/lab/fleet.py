"""What can be done with a lab: make it, pull plugs, put them in, take it down."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from broker.errors import FailureFound
from provisioning.lab import cgroups, disk, emulation, network, shaping, store
from provisioning.lab.base import base_folder, locked, make_base
from provisioning.lab.layout import Device, Lab, LabError, to_type
from provisioning.lab.machine import Places, boot_command, seeds
from provisioning.lab.programs import ALWAYS, launch, require, require_root, run

Progress = Callable[[str], None]
_START_S = 10.0  # until then, a device that has no process may not have begun
_REBOOT = 5  # systemd reboots on SIGRTMIN plus this
_SHIFT = 2  # and qemu keeps two signals for itself


def up(lab: Lab, progress: Progress) -> None:
    """Make a lab and boot it; whatever ends this before it is done takes down what there is so far."""
    require_root()
    require(ALWAYS)
    for arch in {device.arch for device in lab.devices}:
        if emulation.is_emulated(arch):
            require(["qemu-aarch64-static"])
    store.require_vacant(lab)
    if network.exists(lab.namespace):
        raise LabError(f"a network namespace {lab.namespace} is there already: choose another --name")
    with locked(store.folder_of(lab.name)), contextlib.ExitStack() as undo:
        if store.find(lab.name):
            raise LabError(f"lab {lab.name} has just been made by somebody else")
        undo.callback(_take_down, lab)  # before anything is there: Ctrl-C may come in between
        store.keep(lab)
        _make(lab, progress)
        boot(lab, lab.devices, progress)
        store.keep(msgspec.structs.replace(lab, whole=True))
        undo.pop_all()


def _make(lab: Lab, progress: Progress) -> None:
    """Make all that stays while devices come and go."""
    if any(emulation.is_emulated(device.arch) for device in lab.devices):
        emulation.register(lab)
    for arch in sorted({device.arch for device in lab.devices}):
        make_base(lab.suite, arch, emulation.is_emulated(arch), progress)
    network.make_bridge(lab)
    fleet = Path(lab.fleet)
    fleet.parent.mkdir(parents=True, exist_ok=True)
    login = _make_key(fleet.with_name(store.KEY), f"fogguard lab {lab.name}")[1]
    host_keys: dict[str, str] = {}
    for device in lab.devices:
        places = places_of(lab, device)
        places.folder.mkdir(parents=True)
        host_key = _make_key(places.folder / "host_key", device.name)
        host_keys[device.name] = host_key[1]
        disk.make(places, seeds(lab, device, uuid.uuid4().hex, host_key, login))
    store.write_fleet(lab, host_keys)


def _make_key(file: Path, comment: str) -> tuple[str, str]:
    """Make a key for SSH, and return its private and its public part."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(file)])
    return file.read_text(), file.with_name(f"{file.name}.pub").read_text()


def places_of(lab: Lab, device: Device) -> Places:
    """Return where the things of a device are."""
    base = base_folder(lab.suite, device.arch, emulation.is_emulated(device.arch))
    return Places(base, store.folder_of(lab.name) / device.name, cgroups.groups_of(lab, device))


def boot(lab: Lab, devices: Sequence[Device], progress: Progress = lambda _: None) -> None:
    """Give devices their power, and wait until they answer on SSH; raises FailureFound."""
    start, running = time.monotonic(), set[str]()
    for device in devices:
        _start(lab, device)

    def check() -> None:
        for device in devices:
            if cgroups.processes(lab, device):
                running.add(device.name)
            elif device.name in running or time.monotonic() > start + _START_S:
                raise FailureFound(f"{device.name}: did not boot: {_last_words(lab, device)}")

    emulated = any(emulation.is_emulated(device.arch) for device in devices)
    try:
        for device in network.wait_for_ssh(lab, devices, 240 if emulated else 60, check):
            progress(f"{device.name} answers at {device.address} after {time.monotonic() - start:.1f} s")
    except network.NoAnswer as silent:
        raise FailureFound(f"{silent}: {_last_words(lab, silent.device)}") from silent


def _start(lab: Lab, device: Device) -> None:
    places = places_of(lab, device)
    _off(lab, device)  # what is left of one that switched itself off
    cgroups.make(lab, device)
    network.make_cable(lab, device)
    launch(boot_command(lab, device, places, emulation.is_emulated(device.arch)), places.console)


def _last_words(lab: Lab, device: Device) -> str:
    """Return the end of a device's console: when a lab cannot be made, that goes with the rest of it."""
    lines = places_of(lab, device).console.read_text(errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines if line.strip())[-400:] or "it printed nothing"


def plug(lab: Lab, device: Device) -> None:
    """Boot a device that is off, with what is on its disk."""
    if cgroups.processes(lab, device):
        raise LabError(f"{device.name} is on already")
    boot(lab, [device])


def unplug(lab: Lab, device: Device) -> None:
    """Cut a device's power: no farewell reaches anybody, and what it had not synced to its disk is lost."""
    runner = _require_on(lab, device)
    network.set_link(lab, device, up=False)
    disk.cut_power(runner, places_of(lab, device))
    _off(lab, device)


def kill(lab: Lab, device: Device) -> None:
    """Kill all of a device's processes: its connections are closed, and its disk is kept."""
    _require_on(lab, device)
    _off(lab, device)


def _off(lab: Lab, device: Device) -> None:
    cgroups.end(lab, device)
    network.remove_cable(lab, device)
    disk.wait_until_free(places_of(lab, device))


def freeze(lab: Lab, device: Device) -> None:
    """Stop a device's processes where they are; its kernel goes on answering pings and taking connections."""
    _require_on(lab, device)
    cgroups.freeze(lab, device, frozen=True)


def thaw(lab: Lab, device: Device) -> None:
    """Let a frozen device go on."""
    _require_on(lab, device)
    cgroups.freeze(lab, device, frozen=False)


def reboot(lab: Lab, device: Device) -> None:
    """Let a device shut down in good order and boot again; waits until it answers, unless its cable is cut."""
    _require_on(lab, device)
    before = cgroups.init_of(lab, device)
    if before is None or cgroups.is_frozen(lab, device):
        raise LabError(f"{device.name} is {'frozen' if before else 'booting'}: it cannot shut down now")
    shift = _SHIFT if emulation.is_emulated(device.arch) else 0
    os.kill(before, signal.SIGRTMIN + _REBOOT + shift)
    until = time.monotonic() + 120
    while cgroups.init_of(lab, device) in (before, None):
        if time.monotonic() > until or not cgroups.processes(lab, device):
            raise FailureFound(f"{device.name}: did not boot again: {_last_words(lab, device)}")
        time.sleep(0.02)
    if network.is_link_up(lab, device):
        for _ in network.wait_for_ssh(lab, [device], 120, lambda: None):
            pass


def cut(lab: Lab, device: Device) -> None:
    """Pull a device's network cable."""
    _require_on(lab, device)
    network.set_link(lab, device, up=False)


def slow(lab: Lab, device: Device, cpu: float | None, rate_kbit: int | None, delay_ms: float | None) -> None:
    """Slow a device's processor to so many percent of one core, or its cable."""
    _require_on(lab, device)
    if cpu is not None:
        cgroups.limit_processor(lab, device, cpu)
    if rate_kbit is not None or delay_ms is not None:
        shaping.slow_down(lab, device, rate_kbit, delay_ms)


def lossy(lab: Lab, device: Device, percent: float) -> None:
    """Lose so many percent of the packets from and to a device."""
    _require_on(lab, device)
    shaping.lose(lab, device, percent)


def heal(lab: Lab, device: Device) -> None:
    """Undo `cut`, `slow` and `lossy`."""
    _require_on(lab, device)
    shaping.straighten(lab, device)
    if cgroups.processor_limit(lab, device) is not None:
        cgroups.limit_processor(lab, device, None)
    network.set_link(lab, device, up=True)


def _require_on(lab: Lab, device: Device) -> int:
    """Return the process that runs a device; raises LabError if it is off."""
    if (runner := cgroups.runner(lab, device)) is None:
        raise LabError(f"{device.name} is off: {to_type(lab.name, 'plug', device.name)} boots it")
    return runner


def down(lab: Lab) -> None:
    """Take a lab down, whole or half made; nothing of it is left but the base."""
    require_root()
    _take_down(lab)


def _take_down(lab: Lab) -> None:
    cgroups.end(lab)
    for device in lab.devices:
        network.remove_cable(lab, device)
        disk.wait_until_free(places_of(lab, device))
    network.remove_bridge(lab)
    if any(emulation.is_emulated(device.arch) for device in lab.devices):
        emulation.unregister(lab)
    store.forget(lab)


class Status(NamedTuple):
    """How a device is."""

    name: str
    node: str
    arch: str
    address: str
    state: str
    answers: bool
    processes: int
    memory_mb: float


def status(lab: Lab, device: Device) -> Status:
    """Look at a device."""
    pids = cgroups.processes(lab, device)
    state = _state(lab, device) if pids else "off"
    reachable = bool(pids) and network.answers(lab, device)
    memory = round(cgroups.memory_mb(lab, device), 1)
    return Status(device.name, device.node, device.arch, device.address, state, reachable, len(pids), memory)


def _state(lab: Lab, device: Device) -> str:
    """Return in words what was done to a device that is on."""
    limit = cgroups.processor_limit(lab, device)
    words = [
        "frozen" if cgroups.is_frozen(lab, device) else "",
        "" if network.is_link_up(lab, device) else "cut off",
        f"processor {limit:g} %" if limit else "",
        shaping.shape_of(lab, device),
    ]
    return ", ".join(filter(None, words)) or "on"
