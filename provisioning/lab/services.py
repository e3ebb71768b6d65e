"""What runs on a device as a service, seen and handled from outside.

A service that is killed is started anew by systemd a second later, unless it is on `hold`.
"""

import os
from pathlib import Path
from typing import Final

from broker.errors import FailureFound
from provisioning.lab import cgroups
from provisioning.lab.layout import Device, Lab, LabError, to_type
from provisioning.lab.programs import run

_HOLD: Final = "/run/systemd/system/{service}.service.d/hold.conf"


def processes(lab: Lab, device: Device, service: str) -> list[int]:
    """Return the processes of a service; raises LabError if none run."""
    for folder, _, _ in os.walk(cgroups.groups_of(lab, device)[0]):
        if folder.endswith(f"/{service}.service"):
            found = [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
            if found:
                return found
    raise LabError(f"{device.name}: {service} does not run")


def hold(lab: Lab, device: Device, service: str) -> None:
    """Let systemd not start a service anew when it ends, until `release` or the next boot."""
    file = _HOLD.format(service=service)
    _shell(lab, device, f"mkdir -p {Path(file).parent} && printf '[Service]\\nRestart=no\\n' > {file}")
    systemctl(lab, device, "daemon-reload")


def release(lab: Lab, device: Device, service: str) -> None:
    """Undo `hold`."""
    _shell(lab, device, f"rm -f {_HOLD.format(service=service)}")
    systemctl(lab, device, "daemon-reload")


def systemctl(lab: Lab, device: Device, *words: str) -> None:
    """Tell a device's systemd what to do."""
    _shell(lab, device, f"systemctl {' '.join(words)}")


def _shell(lab: Lab, device: Device, script: str) -> None:
    init = cgroups.init_of(lab, device)
    if init is None:
        raise LabError(f"{device.name} is off: {to_type(lab.name, 'plug', device.name)} boots it")
    inside = ("nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
    try:
        run([*inside, "sh", "-c", script])
    except FailureFound as error:
        raise FailureFound(f"{device.name}: {error}") from error
