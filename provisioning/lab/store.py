"""A lab on disk: what there is to take down again, written before the first of it is made."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import tomli_w

from provisioning.lab.base import lab_folder, locked
from provisioning.lab.layout import USER, Device, Lab, LabError, to_type
from provisioning.pki import write_whole

_STATE = "lab.json"
KEY, KNOWN_HOSTS = "id_ed25519", "known_hosts"
_BESIDE = (KNOWN_HOSTS, KEY, f"{KEY}.pub")
_ARCH = {"amd64": "x86_64", "arm64": "aarch64"}
PORT = 1883


def folder_of(name: str) -> Path:
    """Return where the lab of that name keeps its disks."""
    return lab_folder() / "labs" / name


def find(name: str) -> Lab | None:
    """Return the lab of that name, whole or not, or nothing; raises LabError if its state cannot be read."""
    file = folder_of(name) / _STATE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Lab)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise LabError(f"{file}: is not what `fogguard lab up` wrote ({error})") from error


def names() -> list[str]:
    """Return the names of all labs."""
    return sorted(file.parent.name for file in (lab_folder() / "labs").glob(f"*/{_STATE}"))


@contextlib.contextmanager
def opened(name: str) -> Iterator[Lab]:
    """Yield the lab of that name, nobody else being at work on it; raises LabError if there is none."""
    if find(name) is None:
        others = f"; there is {', '.join(names())}" if names() else ""
        raise LabError(f"there is no lab {name}: {to_type(name, 'up')} makes one{others}")
    with locked(folder_of(name)):
        lab = find(name)
        if lab is None:
            raise LabError(f"lab {name} has just been taken down")
        yield lab


def keep(lab: Lab) -> None:
    """Write the lab's state."""
    write_whole(folder_of(lab.name) / _STATE, msgspec.json.format(msgspec.json.encode(lab)), 0o600)


def forget(lab: Lab) -> None:
    """Remove all that was written for a lab; its folders too, when nothing else is in them."""
    fleet = Path(lab.fleet)
    for file in _written(fleet):
        file.unlink(missing_ok=True)
    shutil.rmtree(folder_of(lab.name))
    for folder in (fleet.parent, folder_of(lab.name).parent):
        with contextlib.suppress(OSError):
            folder.rmdir()


def require_vacant(lab: Lab) -> None:
    """Raise LabError if a file that the lab would write is there already."""
    for file in _written(Path(lab.fleet)):
        if file.exists():
            raise LabError(f"{file} is there already: choose another place with --fleet, or remove it")


def _written(fleet: Path) -> list[Path]:
    """Return the files that a lab writes beside its inventory, and that first of all."""
    return [fleet, *map(fleet.with_name, _BESIDE)]


def write_fleet(lab: Lab, host_keys: dict[str, str]) -> None:
    """Write the inventory that `fogguard provision` reads, and the host keys that the devices are known by."""
    devices = {
        device.name: {
            "address": device.address,
            "port": 22,
            "user": USER,
            "key": KEY,
            **({"node": device.node} if device.node else {}),
            **({"tier": device.tier} if device.tier else {}),
            "arch": _ARCH[device.arch],
        }
        for device in lab.devices
    }
    carriers = [{"device": each, "port": PORT} for each in lab.brokers]
    inventory = {
        "fleet": lab.name,
        "known_hosts": KNOWN_HOSTS,
        "broker": carriers[0] if len(carriers) == 1 else carriers,
        "devices": devices,
        "sources": {sensor: {"device": device, "kind": "replay"} for sensor, device in lab.sources.items()},
    }
    reached = to_type(lab.name, "run", "COMMAND…")
    text = f"# Made by `fogguard lab up`. Reach the devices with {reached}\n{tomli_w.dumps(inventory)}"
    known = "".join(f"{device.address} {' '.join(host_keys[device.name].split()[:2])}\n" for device in lab.devices)
    write_whole(Path(lab.fleet).with_name(KNOWN_HOSTS), known.encode(), 0o644)
    write_whole(Path(lab.fleet), text.encode(), 0o644)


def ssh_command(lab: Lab, device: Device) -> list[str]:
    """Return what logs in to a device, from within the lab's network."""
    fleet = Path(lab.fleet)
    return [
        *("ssh", "-F", "none", "-i", str(fleet.with_name(KEY)), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
        *("-o", f"UserKnownHostsFile={fleet.with_name(KNOWN_HOSTS)}", "-o", "StrictHostKeyChecking=yes"),
        *("-o", "ConnectTimeout=10", f"{USER}@{device.address}"),
    ]
