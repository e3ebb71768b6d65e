"""The inventory, `fleet.toml`: which devices there are, how to reach them, and what each carries.

fleet = "house"
known_hosts = "known_hosts"      # filled by `fogguard provision enrol`; paths are relative to this file
pki = "pki"                      # by `fogguard pki init`: TLS, access rules and signed bundles; without, none

[broker]                         # or [[broker]] for each of several: docs/brokers.md
device = "cloud"                 # carries mosquitto
port = 8883

[devices.f1]
address = "192.168.1.21"
user = "pi"
key = "~/.ssh/id_ed25519"
node = "f1"
jump = "pi@192.168.1.1:22"       # if it answers only behind another machine
arch = "aarch64"                 # if known: anything else that answers there is refused
plug = "mqtt://192.168.1.2/cmnd/plug1/POWER"  # its smart plug, for drills and benchmarks: docs/drills.md
wheel = "onnxruntime_gpu-….whl"  # an onnxruntime of your own for this device, instead of the locked one
provider = "cuda"                # what computes, if not the processor: docs/devices.md, "A GPU"
groups = ["video"]               # whose devices the agent may open for that

[sources.iot]                    # where the samples of this sensor come from: docs/devices.md, "Data sources"
device = "e1"                    # which runs an agent for it, beside that of its node
kind = "csv"                     # or replay, folder, mqtt, or what a package offers as an entry point
rate = 10                        # steps a second; 0: one with each sample as it comes
options = { file = "/srv/iot" }  # of that kind, on the device; a file to replay is here, and is brought along
wheels = ["shed-1.0-py3-none-any.whl"]  # packages for it, brought along
groups = ["i2c", "video"]        # whose devices it may open

A source of kind "replay" without a file is none on a device: `fogguard run --external` feeds the data set's test rows.
Paths of this machine are relative to the file.
"""

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from broker.errors import FogError
from broker.topics import require_name
from broker.url import BrokerUrl
from edge_agent.bundle import Manifest
from edge_agent.config import require_provider
from edge_agent.provider import CPU, Provider, provider_of
from provisioning.carriers import BrokerPlace, Carriers, named, require_brokers, resolved
from provisioning.hosts import KnownHosts, Login, Port, place_of, require_host
from provisioning.places import Place, brought, require_groups, require_sources
from provisioning.plug import Plug, parse_plug

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Name = Annotated[str, msgspec.Meta(min_length=1)]
KNOWN_HOSTS: Final = "known_hosts"


class InventoryError(FogError):
    """The inventory is missing, or cannot be as it says."""


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A machine that answers on SSH, and the node it carries; one without carries a broker alone, or sensors."""

    address: Name
    user: Name
    port: Port = 22
    key: str = ""
    jump: str = ""
    node: str = ""
    tier: Literal["", "edge", "fog", "cloud"] = ""
    arch: Literal["", "x86_64", "aarch64"] = ""
    wheel: str = ""
    provider: str | Provider = "cpu"
    groups: tuple[str, ...] = ()
    plug: str = ""

    @property
    def place(self) -> str:
        """Where it is, by the name in a `known_hosts`."""
        return place_of(self.address, self.port)

    @property
    def jump_place(self) -> str:
        """Where the machine is that leads there, or nothing."""
        return Login.parse(self.jump, "jump").place if self.jump else ""


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """What stands in `fleet.toml`."""

    fleet: str
    broker: Carriers
    devices: dict[str, Device]
    known_hosts: str = KNOWN_HOSTS
    pki: str = ""
    sources: dict[str, Place] = {}


@dataclass(frozen=True)
class Inventory:
    """A fleet's inventory that has been checked, its paths and the addresses of its brokers resolved."""

    fleet: str
    devices: Mapping[str, Device]
    brokers: tuple[BrokerPlace, ...]
    sources: Mapping[str, Place]
    known_hosts: KnownHosts
    pki: Path | None

    def broker_on(self, device: str) -> BrokerPlace | None:
        """Return the broker that a device carries, if it does."""
        return next((each for each in self.brokers if each.device == device), None)

    @property
    def broker_hosts(self) -> tuple[str, ...]:
        """Where the devices find the brokers."""
        return tuple(each.address for each in self.brokers)

    @property
    def broker_urls(self) -> tuple[str, ...]:
        """The brokers' URLs in every agent's configuration, in the order of choice."""
        return tuple(str(BrokerUrl(each.address, each.port, self.pki is not None)) for each in self.brokers)

    def sensors_on(self, device: str) -> dict[str, Place]:
        """Return the sensors that this device has samples of."""
        return {name: each for name, each in self.sources.items() if each.device == device and each.is_live}

    def members(self, device: str) -> list[str]:
        """Return what runs on a device: its node first, then its sensors."""
        return [*filter(None, [self.devices[device].node]), *self.sensors_on(device)]

    def provider_of(self, member: str) -> Provider:
        """Return what computes a node's graph; a sensor's is next to nothing."""
        return next((provider_of(each.provider) for each in self.devices.values() if each.node == member), CPU)

    @property
    def plugs(self) -> dict[str, Plug]:
        """The smart plugs of the devices that have one, by their nodes."""
        return {
            each.node: parse_plug(each.plug, f"devices.{name}.plug")
            for name, each in self.devices.items()
            if each.node and each.plug
        }

    @property
    def heard(self) -> dict[str, str]:
        """The topics outside the fleet's own that sensors listen to."""
        return {name: each.topic for name, each in self.sources.items() if each.topic}

    def only(self, without: Iterable[str]) -> dict[str, Device]:
        """Return the devices but those `without`; raises InventoryError if one of these is not there."""
        left_out = frozenset(without)
        if unknown := left_out - self.devices.keys():
            raise InventoryError(f"--without {min(unknown)}: the inventory has {', '.join(self.devices)}")
        return {name: device for name, device in self.devices.items() if name not in left_out}

    def require_fits(self, manifest: Manifest) -> None:
        """Raise InventoryError unless each node of the bundle is on one device, and each source is a sensor."""
        carried = {device.node for device in self.devices.values() if device.node}
        if missing := [node for node in manifest.nodes if node not in carried]:
            what = f"no device carries {', '.join(missing)}: write `node = …` below one of [devices.…]"
            unknown = ", ".join(sorted(carried - manifest.nodes.keys()))
            raise InventoryError(f"{what}; the bundle has no node {unknown}" if unknown else what)
        if extra := sorted(carried - manifest.nodes.keys()):
            raise InventoryError(f"the bundle has no node {', '.join(extra)}: it has {', '.join(manifest.nodes)}")
        first, *others = self.brokers
        if others and self.devices[first.device].node == manifest.sink:
            raise InventoryError(
                f"the first of several brokers is on {first.device}, the sink's device: after a power cut it would "
                "be alone there: put it last"
            )
        if extra := sorted(self.sources.keys() - manifest.sensors.keys()):
            raise InventoryError(f"the bundle has no sensor {', '.join(extra)}: it has {', '.join(manifest.sensors)}")


def load_inventory(path: Path) -> Inventory:
    """Read and check an inventory; raises InventoryError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InventoryError(f"{path}: cannot be read ({reason}): `fogguard provision init` writes one") from error
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InventoryError(f"{path}: {error}") from error
    try:
        file = msgspec.convert(said, File)
    except msgspec.ValidationError as error:
        raise InventoryError(f"{path}: {_located(str(error), said)}") from error
    require_sound(path, file)
    known_hosts = Path(_resolved(path, file.known_hosts))
    if known_hosts.is_dir():
        raise InventoryError(f"{path}: known_hosts {file.known_hosts!r} is a folder: name a file, new or not")
    devices = {
        name: msgspec.structs.replace(each, key=_resolved(path, each.key), wheel=_resolved(path, each.wheel))
        for name, each in file.devices.items()
    }
    return Inventory(
        fleet=file.fleet,
        devices=devices,
        brokers=resolved(file.broker, _addresses(devices)),
        sources={name: _source_resolved(path, each) for name, each in file.sources.items()},
        known_hosts=KnownHosts(known_hosts, _shared(devices.values())),
        pki=Path(_resolved(path, file.pki)) if file.pki else None,
    )


def _located(error: str, said: Mapping[str, Any]) -> str:
    """Return what msgspec says of a table, with the table's name, which it leaves out."""
    for kind, tables in ((Device, "devices"), (Place, "sources")):
        if f"`$.{tables}[...]" in error:
            wrong = next(name for name, table in said[tables].items() if not _is_a(kind, table))
            return error.replace("[...]", f".{wrong}", 1)
    return error


def _is_a(kind: type[msgspec.Struct], table: object) -> bool:
    try:
        msgspec.convert(table, kind)
    except msgspec.ValidationError:
        return False
    return True


def with_wheels(inventory: Inventory, wheels: Mapping[str, Path]) -> Inventory:
    """Return the inventory with an onnxruntime of one's own for some devices; raises InventoryError."""
    if unknown := wheels.keys() - inventory.devices.keys():
        raise InventoryError(f"--wheel {min(unknown)}=…: the inventory has {', '.join(inventory.devices)}")
    own = {name: msgspec.structs.replace(inventory.devices[name], wheel=str(file)) for name, file in wheels.items()}
    return replace(inventory, devices={**inventory.devices, **own})


def _resolved(path: Path, file: str) -> str:
    """Return where a file is that the inventory at `path` names; raises InventoryError."""
    try:
        return str(path.resolve().parent / Path(file).expanduser()) if file else ""
    except RuntimeError as error:
        raise InventoryError(f"{path}: {file!r}: there is no such user here: write the whole path") from error


def require_sound(path: Path, file: File) -> None:
    """Raise FogError if what stands in an inventory at `path` cannot be."""
    require_name(file.fleet, f"{path}: fleet")
    carrier: dict[str, str] = {}
    for name, device in file.devices.items():
        require_name(name, f"{path}: device")
        require_host(device.address, f"{path}: devices.{name}.address")
        if device.jump:
            Login.parse(device.jump, f"{path}: devices.{name}.jump")
        require_provider(device.provider, f"{path}: devices.{name}.provider")
        require_groups(device.groups, f"{path}: devices.{name}")
        if device.plug:
            parse_plug(device.plug, f"{path}: devices.{name}.plug")
        if not device.node:
            continue
        require_name(device.node, f"{path}: devices.{name}.node")
        if device.node in carrier:
            raise InventoryError(f"{path}: {carrier[device.node]} and {name} both carry node {device.node}")
        carrier[device.node] = name
    wanted = {where: each.device for where, each in named(file.broker).items()}
    wanted |= {f"sources.{name}": each.device for name, each in file.sources.items()}
    for where, name in wanted.items():
        if name not in file.devices:
            raise InventoryError(f"{path}: {where}.device is {name!r}, and there is no [devices.{name}]")
    require_brokers(path, file.broker, _addresses(file.devices))
    require_sources(path, file.sources)
    places = [(device.place, device.jump_place) for device in file.devices.values()]
    if twice := [each for each in file.devices.values() if places.count((each.place, each.jump_place)) > 1]:
        raise InventoryError(f"{path}: two devices have the address {twice[0].address} port {twice[0].port}")


def _addresses(devices: Mapping[str, Device]) -> dict[str, str]:
    return {name: each.address for name, each in devices.items()}


def _shared(devices: Collection[Device]) -> frozenset[str]:
    """Return the places of more machines than one."""
    machines = {(each.place, each.jump_place) for each in devices} | {(each.jump_place, "") for each in devices}
    places = [place for place, _ in machines]
    return frozenset(place for place in places if places.count(place) > 1)


def _source_resolved(path: Path, place: Place) -> Place:
    """Return a source with the paths of this machine made whole: what is brought along is read here."""
    here = {name: _resolved(path, str(place.options[name])) for name in brought(place)}
    wheels = tuple(_resolved(path, wheel) for wheel in place.wheels)
    return msgspec.structs.replace(place, options={**place.options, **here}, wheels=wheels)
