"""Which devices carry a broker, in the order in which a fleet goes from one to the next.

[broker]                         # one
device = "cloud"
port = 8883

[[broker]]                       # or several, each on a device of its own
device = "hub"
port = 8883
[[broker]]
device = "cloud"
port = 8883
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from broker.errors import FogError
from provisioning.hosts import Port, require_host


class CarriersError(FogError):
    """The brokers of an inventory cannot be as it says."""


class BrokerPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Which device carries a broker, and how the others reach it if not by that device's address."""

    device: str
    port: Port
    address: str = ""


Carriers = BrokerPlace | tuple[BrokerPlace, ...]


def named(said: Carriers) -> dict[str, BrokerPlace]:
    """Return the brokers by what the inventory calls them: `broker`, or `broker[0]` and so on of several."""
    if isinstance(said, BrokerPlace):
        return {"broker": said}
    return {f"broker[{position}]": each for position, each in enumerate(said)}


def resolved(said: Carriers, addresses: Mapping[str, str]) -> tuple[BrokerPlace, ...]:
    """Return the brokers with the address of each, by default that of its device."""
    places = named(said).values()
    return tuple(msgspec.structs.replace(each, address=each.address or addresses[each.device]) for each in places)


def require_brokers(path: Path, said: Carriers, addresses: Mapping[str, str]) -> None:
    """Raise FogError unless there is a broker, and each is on a device and at a place of its own.

    Args:
        path: The inventory's.
        said: What stands there.
        addresses: Those of the devices, all that carry a broker among them.
    """
    for where, each in named(said).items():
        if each.address:
            require_host(each.address, f"{path}: {where}.address")
    brokers = resolved(said, addresses)
    if not brokers:
        raise CarriersError(f"{path}: broker is empty: write [broker] with device = … and port = …")
    devices = [each.device for each in brokers]
    if twice := [name for name in devices if devices.count(name) > 1]:
        raise CarriersError(f"{path}: {twice[0]} carries two brokers: give each a device of its own")
    places = [(each.address, each.port) for each in brokers]
    if taken := [each for each in places if places.count(each) > 1]:
        raise CarriersError(f"{path}: two brokers have the address {taken[0][0]} port {taken[0][1]}: change one")
