"""Which devices a lab has, and how everything of theirs is called: decided here, made elsewhere.

fogguard-lab            the network namespace of the lab: a bridge, 10.77.0.1, and the controller
  ├─ veth1 ── eth0      10.77.0.10, in fogguard-lab.e1, the network namespace of the first device
  ├─ veth2 ── eth0      10.77.0.11, in fogguard-lab.f2
  └─ …
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast, get_args

import msgspec

from broker.errors import FogError
from export.spec import Spec

Arch = Literal["amd64", "arm64"]
Suite = Literal["bookworm", "trixie"]
MAX_DEVICES = 200
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
USER = "fog"
GATEWAY = "10.77.0.1"
BRIDGE = "bridge"


class LabError(FogError):
    """What was asked for cannot be, or this machine lacks something for it."""


def to_type(lab: str, verb: str, what: str = "") -> str:
    """Return the command for a lab as a person types it; without its name, it would be another lab's."""
    named = "" if lab == "lab" else f" --name {lab}"
    return f"`fogguard lab {verb}{named}{what and ' '}{what}`"


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One virtual device; its `position` counts from 1."""

    name: str
    position: int
    arch: Arch
    node: str = ""
    tier: str = ""

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return f"10.77.0.{9 + self.position}"

    @property
    def mac(self) -> str:
        """Its hardware address: always the same, so that nobody has a stale one after it was unplugged."""
        return f"02:66:6f:67:00:{self.position:02x}"

    @property
    def port(self) -> str:
        """The bridge's end of its cable."""
        return f"veth{self.position}"


class Lab(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A lab, as it is kept on disk from before the first thing of it is made until the last is gone.

    `fleet` is the inventory that it writes, `brokers` which devices carry one, in the order of choice, `sources` which
    device each sensor is on; `whole` says that `up` was done.
    """

    name: str
    suite: Suite
    fleet: str
    devices: tuple[Device, ...]
    brokers: tuple[str, ...]
    sources: dict[str, str]
    whole: bool = False

    @property
    def namespace(self) -> str:
        """The network namespace with the bridge."""
        return f"fogguard-{self.name}"

    def namespace_of(self, device: Device) -> str:
        """The network namespace of a device."""
        return f"{self.namespace}.{device.name}"

    def device(self, name: str) -> Device:
        """Return the device of that name, or that carries the node of that name; raises LabError."""
        found = [device for device in self.devices if name in (device.name, device.node)]
        if not found:
            raise LabError(f"lab {self.name} has no device {name}: it has {', '.join(d.name for d in self.devices)}")
        return found[0]


def new_lab(
    what: int | Spec, name: str, suite: Suite, arch: Sequence[str], fleet: str, brokers: Sequence[str] = ()
) -> Lab:
    """Return a lab of so many devices without a node, or of one for each node of a specification.

    `brokers` are the devices that carry one; those that are none of these are devices more.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", name):
        raise LabError(f"--name {name}: use up to 20 small letters, digits and hyphens")
    if isinstance(what, int):
        names, tiers, sources = [f"d{position}" for position in range(1, what + 1)], dict[str, str](), dict[str, str]()
        first = "d1"
    else:
        names, tiers, sources = list(what.nodes), _tiers(what), _sources(what)
        first = what.sink
    names = list(dict.fromkeys([*names, *brokers]))
    if not 1 <= len(names) <= MAX_DEVICES:
        raise LabError(f"a lab has 1 to {MAX_DEVICES} devices, not {len(names)}")
    if bad := next((each for each in names if not _HOST.fullmatch(each)), ""):
        raise LabError(f"{bad}: cannot be the name of a device: use up to 32 letters, digits and hyphens")
    arches = _arches(names, arch)
    devices = tuple(
        Device(
            name=each,
            position=position,
            arch=arches[each],
            node=each if each in tiers else "",
            tier=tiers.get(each, ""),
        )
        for position, each in enumerate(names, 1)
    )
    return Lab(
        name=name,
        suite=suite,
        fleet=fleet,
        devices=devices,
        brokers=tuple(dict.fromkeys(brokers)) or (first,),
        sources=sources,
    )


def _tiers(spec: Spec) -> dict[str, str]:
    edge = {name for name, node in spec.nodes.items() if spec.sensors.keys() & set(node.simple)}
    return {name: "cloud" if name == spec.sink else "edge" if name in edge else "fog" for name in spec.nodes}


def _sources(spec: Spec) -> dict[str, str]:
    """Return for each sensor the first node that hears it by a simple hyperconnection: it sits on that device."""
    return {
        sensor: next(name for name, node in spec.nodes.items() if sensor in node.simple + node.skip)
        for sensor in spec.sensors
    }


def _arches(names: Iterable[str], choices: Sequence[str]) -> Mapping[str, Arch]:
    """Return each device's architecture: `ARCH` is for all, `DEVICE=ARCH` for one."""
    chosen: dict[str, Arch] = dict.fromkeys(names, "amd64")
    for choice in sorted(choices, key=lambda text: "=" in text):
        device, _, arch = choice.rpartition("=")
        if arch not in get_args(Arch) or (device and device not in chosen):
            raise LabError(
                f"--arch {choice}: write amd64, arm64 or DEVICE=arm64, and the devices are {', '.join(chosen)}"
            )
        chosen.update(dict.fromkeys([device] if device else chosen, cast(Arch, arch)))
    return chosen
