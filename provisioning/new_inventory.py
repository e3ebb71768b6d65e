"""A first inventory, as `fogguard provision init` writes it: a device for each node of a bundle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import tomli_w

from edge_agent.bundle import Manifest
from provisioning.carriers import BrokerPlace
from provisioning.hosts import Login
from provisioning.inventory import Device, File, InventoryError, require_sound
from provisioning.pki import write_whole
from provisioning.places import Place

_PLAIN_PORT: Final = 1883
_TLS_PORT: Final = 8883


def new_file(
    fleet: str, devices: Mapping[str, Login], carriers: Sequence[str], key: str, pki: str, manifest: Manifest
) -> File:
    """Return an inventory in which each node of the bundle has a device of its own name, and `carriers` a broker."""
    brokers = tuple(BrokerPlace(device=each, port=_TLS_PORT if pki else _PLAIN_PORT) for each in carriers)
    sensors = {name: next(n for n, sources in manifest.inputs.items() if name in sources) for name in manifest.sensors}
    places = {
        name: Device(address=login.host, port=login.port, user=login.user, key=key, node=_node(name, manifest))
        for name, login in devices.items()
    }
    return File(
        fleet=fleet,
        broker=brokers[0] if len(brokers) == 1 else brokers,
        devices=places,
        pki=pki,
        sources={name: Place(device=node, kind="replay") for name, node in sensors.items() if node in places},
    )


def _node(name: str, manifest: Manifest) -> str:
    return name if name in manifest.nodes else ""


def write_inventory(path: Path, file: File) -> None:
    """Check and write an inventory that is not there yet; raises InventoryError."""
    require_sound(path, file)
    if path.exists():
        raise InventoryError(f"{path} is there already: change it by hand, or choose another name")
    found: dict[str, Any] = msgspec.to_builtins(file)
    try:
        write_whole(path, tomli_w.dumps(found).encode(), 0o644)
    except OSError as error:
        raise InventoryError(f"{path}: cannot be written ({error.strerror})") from error
