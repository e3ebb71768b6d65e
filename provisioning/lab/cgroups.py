"""A device's processes as one: counted, frozen, slowed and killed through a cgroup of its own.

Everything but the share of the processor is in cgroup2 itself, on whatever machine. That share is a controller, which
older machines have in a hierarchy of the first version.
"""

import contextlib
import math
import os
import time
from functools import cache
from pathlib import Path

from broker.errors import FailureFound
from provisioning.lab.layout import Device, Lab, LabError

_PERIOD_US, _LEAST_US = 20_000, 1_000
_QUOTA, _PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


@cache
def _mounted() -> tuple[Path, Path | None]:
    """Return where cgroup2 is mounted, and the first version's processor controller if that is there."""
    second, first = None, None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            second = second or Path(where)
        elif kind == "cgroup" and "cpu" in options.split(","):
            first = Path(where)
    if second is None:
        raise LabError("this machine has no cgroup2 mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)")
    return second, first


def groups_of(lab: Lab, device: Device | None = None) -> tuple[Path, ...]:
    """Return the cgroups of a device, or those of the lab around them: cgroup2's first."""
    below = lab.namespace if device is None else f"{lab.namespace}/{device.name}"
    return tuple(root / below for root in _mounted() if root)


def make(lab: Lab, device: Device) -> tuple[Path, ...]:
    """Make the cgroups of a device."""
    second, first = _mounted()
    for group in groups_of(lab, device):
        group.mkdir(parents=True, exist_ok=True)
    if first is None:
        for group in (second, second / lab.namespace):
            with contextlib.suppress(OSError):  # no such controller: `slow` will say so
                (group / "cgroup.subtree_control").write_text("+cpu")
    return groups_of(lab, device)


def processes(lab: Lab, device: Device | None = None) -> list[int]:
    """Return every process of a device or a lab, those that run it included."""
    found: list[int] = []
    for folder, _, _ in os.walk(groups_of(lab, device)[0]):
        with contextlib.suppress(OSError):  # a cgroup that has just gone
            found += map(int, (Path(folder) / "cgroup.procs").read_text().split())
    return found


def runner(lab: Lab, device: Device) -> int | None:
    """Return the process that a device was started with: the one whose mounts are the device's."""
    with contextlib.suppress(OSError):
        first = (groups_of(lab, device)[0] / "cgroup.procs").read_text().split()
        return int(first[0]) if first else None
    return None


def init_of(lab: Lab, device: Device) -> int | None:
    """Return the process that is number 1 inside the device."""
    for pid in processes(lab, device):
        with contextlib.suppress(OSError):
            status = (Path("/proc") / str(pid) / "status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(numbers) == 2 and numbers[1] == "1":
                return pid
    return None


def end(lab: Lab, device: Device | None = None, timeout_s: float = 10.0) -> None:
    """Kill all processes of a device or a lab at once, frozen ones too, and remove its cgroups when they are gone."""
    until = time.monotonic() + timeout_s
    while any(group.exists() for group in groups_of(lab, device)):
        with contextlib.suppress(FileNotFoundError):
            (groups_of(lab, device)[0] / "cgroup.kill").write_text("1")
        with contextlib.suppress(OSError):  # not empty yet
            for group in groups_of(lab, device):
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()
        if time.monotonic() > until:
            raise FailureFound(f"{lab.name}: processes {processes(lab, device)} cannot be killed")
        time.sleep(0.005)


def freeze(lab: Lab, device: Device, frozen: bool) -> None:
    """Stop all processes of a device where they are, or let them go on."""
    group = groups_of(lab, device)[0]
    (group / "cgroup.freeze").write_text("1" if frozen else "0")
    until = time.monotonic() + 10
    while is_frozen(lab, device) != frozen:
        if time.monotonic() > until:
            raise FailureFound(f"{device.name}: does not {'freeze' if frozen else 'thaw'}")
        time.sleep(0.002)


def is_frozen(lab: Lab, device: Device) -> bool:
    """Return whether a device is frozen."""
    return "frozen 1" in (groups_of(lab, device)[0] / "cgroup.events").read_text()


def limit_processor(lab: Lab, device: Device, percent: float | None) -> None:
    """Let a device have so many percent of one core, or all again."""
    period_us = _period_us(percent)
    quota_us = round(period_us * percent / 100) if percent else None
    second, *first = groups_of(lab, device)
    try:
        if first:
            (first[0] / _QUOTA).write_text("-1")  # a quota above the new period would be refused
            (first[0] / _PERIOD).write_text(str(period_us))
            (first[0] / _QUOTA).write_text(str(quota_us or -1))
        else:
            (second / "cpu.max").write_text(f"{quota_us or 'max'} {period_us}")
    except OSError as error:
        raise LabError(
            f"{device.name}: this machine's cgroups do not limit the processor ({error.strerror})"
        ) from error


def processor_limit(lab: Lab, device: Device) -> float | None:
    """Return how many percent of a core a device may have, if that is limited."""
    second, *first = groups_of(lab, device)
    with contextlib.suppress(OSError):
        files = [first[0] / _QUOTA, first[0] / _PERIOD] if first else [second / "cpu.max"]
        quota, period = " ".join(file.read_text() for file in files).split()
        return None if quota in ("max", "-1") else round(100 * int(quota) / int(period), 2)
    return None


def _period_us(percent: float | None) -> int:
    """Return over how long a share of the processor is reckoned: the kernel gives no less than a millisecond of it."""
    return _PERIOD_US if percent is None else max(_PERIOD_US, math.ceil(_LEAST_US * 100 / percent))


def memory_mb(lab: Lab, device: Device) -> float:
    """Return the memory of a device's processes, what they share counted once."""
    return sum(_proportional_kb(pid) for pid in processes(lab, device)) / 1024


def _proportional_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
