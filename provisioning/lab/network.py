"""The lab's network: a bridge, a cable to each device that can be cut, and the way in for whoever is outside."""

import contextlib
import ctypes
import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from broker.errors import FailureFound
from provisioning.lab.layout import Device, Lab, LabError
from provisioning.lab.machine import bridge_commands, cable_commands
from provisioning.lab.programs import attempt, run

NAMESPACES: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000


class NoAnswer(FailureFound):
    """A device does not answer in time."""

    def __init__(self, device: Device, timeout_s: float) -> None:
        super().__init__(f"{device.name}: no answer on SSH within {timeout_s:.0f} s")
        self.device = device


def exists(namespace: str) -> bool:
    """Return whether there is a network namespace of that name."""
    return (NAMESPACES / namespace).exists()


def make_bridge(lab: Lab) -> None:
    """Make the lab's network namespace, with its bridge."""
    for command in bridge_commands(lab):
        run(command)


def make_cable(lab: Lab, device: Device) -> None:
    """Give a device a network namespace, and connect it to the bridge."""
    for command in cable_commands(lab, device):
        run(command)


def remove_cable(lab: Lab, device: Device) -> None:
    """Remove a device's network, and with it whatever its connections would still have sent."""
    if exists(lab.namespace):
        attempt(["ip", "-n", lab.namespace, "link", "del", device.port])
    _remove(lab.namespace_of(device))


def remove_bridge(lab: Lab) -> None:
    """Remove the lab's network namespace, and the folder of namespaces if it was the last."""
    _remove(lab.namespace)
    if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        while is_mounted(NAMESPACES):  # `ip` has mounted the folder on itself
            run(["umount", str(NAMESPACES)])
        NAMESPACES.rmdir()


def is_mounted(folder: Path) -> bool:
    """Return whether something is mounted on a folder, be it the folder itself, which `Path.is_mount` does not see."""
    return any(line.split()[1] == str(folder) for line in Path("/proc/self/mounts").read_text().splitlines())


def _remove(namespace: str) -> None:
    if exists(namespace):
        run(["ip", "netns", "del", namespace])


def set_link(lab: Lab, device: Device, up: bool) -> None:
    """Pull a device's cable out of the bridge, or put it in."""
    run(["ip", "-n", lab.namespace, "link", "set", device.port, "up" if up else "down"])


def is_link_up(lab: Lab, device: Device) -> bool:
    """Return whether the bridge's end of the cable is up."""
    shown = attempt(["ip", "-n", lab.namespace, "-json", "link", "show", device.port])
    return shown.returncode == 0 and "UP" in json.loads(shown.stdout)[0]["flags"]


def enter(namespace: str) -> None:
    """Move the calling thread into a network namespace: what it opens from then on is there."""
    try:
        file = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise LabError(f"there is no network namespace {namespace}") from error
    try:
        if ctypes.CDLL(None, use_errno=True).setns(file, _CLONE_NEWNET):
            raise LabError(f"network namespace {namespace}: cannot be entered ({os.strerror(ctypes.get_errno())})")
    finally:
        os.close(file)


def wait_for_ssh(lab: Lab, devices: Iterable[Device], timeout_s: float, check: Callable[[], None]) -> Iterator[Device]:
    """Yield each of `devices` as soon as its sshd answers; calls `check` in between; raises NoAnswer."""
    waiting, until = list(devices), time.monotonic() + timeout_s
    while waiting:
        check()
        for device in [each for each in waiting if answers(lab, each)]:
            waiting.remove(device)
            yield device
        if waiting and time.monotonic() > until:
            raise NoAnswer(waiting[0], timeout_s)
        time.sleep(0.05)


def answers(lab: Lab, device: Device, timeout_s: float = 0.5) -> bool:
    """Return whether a device's sshd answers, as seen from the bridge."""
    with ThreadPoolExecutor(1, "lab-knock", initializer=enter, initargs=(lab.namespace,)) as inside:
        return inside.submit(_knock, device.address, timeout_s).result()


def _knock(address: str, timeout_s: float) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, 22), timeout_s) as connection:
        return connection.recv(4) == b"SSH-"
    return False
