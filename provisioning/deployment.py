"""What one device is to get: bundle, inventory and certificates, for the Python and processor that it has."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge_agent.bundle import Bundle, load
from edge_agent.signature import load_public_key
from provisioning.certificates import PkiError, alternatives, fleet_of, lacking, load_certificate, now
from provisioning.doctor import chosen_python
from provisioning.facts import Facts, Python
from provisioning.inventory import Inventory
from provisioning.own_wheel import OwnWheel, read_wheel
from provisioning.pki import BROKER, CA, renewal
from provisioning.plan import Wanted
from provisioning.release import Release, release_of
from provisioning.units import Files, agent_files, broker_files, service_of
from provisioning.wheels import Target

_MOSQUITTO = "/usr/sbin/mosquitto"


@dataclass(frozen=True)
class Deployment:
    """The content behind what is wanted."""

    wanted: Wanted
    release: Release | None
    files: Files
    python: Python
    target: Target


def load_for(inventory: Inventory, path: Path) -> Bundle:
    """Return the bundle if this fleet may run it; raises FogError.

    With certificates it must be signed by the fleet's key, they must be the fleet's, for its brokers, and not expired.
    """
    if inventory.pki is None:
        found = load(path)
    else:
        if not inventory.pki.is_dir():
            raise PkiError(f"{inventory.pki} is not there: make it with {_making(inventory, path)}")
        found = load(path, load_public_key(inventory.pki / "signing.pub"))
        _require_certificates(inventory.pki, inventory, found)
    inventory.require_fits(found.manifest)
    return found


def deployment_of(bundle: Bundle, inventory: Inventory, device: str, facts: Facts) -> Deployment:
    """Return what goes to `device`, which must be fit; raises FogError."""
    broker = inventory.broker_on(device)
    python, target = target_of(inventory, device, facts)
    release: Release | None = None
    files, services = Files(), tuple[str, ...]()
    if members := inventory.members(device):
        first, *sensors = members
        release = release_of(bundle, inventory, first, target.environment, sensors, target.arch)
        files = agent_files(inventory, first, sensors, has_power_chip=facts.has_power_chip)
        services = tuple(service_of(sensor, sensors) for sensor in sensors)
    if broker:
        files |= broker_files(inventory, bundle.manifest, facts.mosquitto or _MOSQUITTO, broker.port)
    wanted = Wanted(
        release=release.id if release else "",
        environment=release.environment if release else "",
        base=release.base if release and inventory.devices[device].node else "",
        files={path: hashlib.sha256(data).hexdigest() for path, data in files.items()},
        has_broker=broker is not None,
        sensors=services,
        is_leaf=bool(release) and not inventory.devices[device].node,
    )
    return Deployment(wanted, release, files, python, target)


def target_of(inventory: Inventory, device: str, facts: Facts) -> tuple[Python, Target]:
    """Return the interpreter that a device, which must be fit, is served by, and what is installed for it."""
    python = chosen_python(facts)
    if python is None:
        raise AssertionError(f"{device} is not fit, and should have been refused")
    return python, Target(python.version, facts.machine, _own_wheel(inventory, device, python, facts))


def _own_wheel(inventory: Inventory, device: str, python: Python, facts: Facts) -> OwnWheel | None:
    file = inventory.devices[device].wheel
    if not file:
        return None
    own = read_wheel(Path(file))
    own.require_fits(python.version, facts.machine)
    return own


def _require_certificates(pki: Path, inventory: Inventory, bundle: Bundle) -> None:
    if (fleet := fleet_of(load_certificate(pki / "ca.crt"))) != inventory.fleet:
        raise PkiError(f"{pki} is of the fleet {fleet!r}, the inventory's is {inventory.fleet!r}")
    live = [name for name, place in inventory.sources.items() if place.is_live]
    for name in (CA, BROKER, *bundle.manifest.nodes, *live):
        end = load_certificate(pki / f"{name}.crt").not_valid_after_utc
        if end <= now():
            raise PkiError(f"{pki / name}.crt expired on {end.date()}: {renewal(name)}")
    if hosts := lacking(load_certificate(pki / "broker.crt"), alternatives(inventory.broker_hosts)):
        made = _making(inventory, bundle.path)
        raise PkiError(f"{pki}/broker.crt is not for {', '.join(hosts)}: remove it, and run {made}")


def _making(inventory: Inventory, bundle: Path) -> str:
    """Return the command that makes the fleet's certificates."""
    hosts = " ".join(f"--host {host}" for host in dict.fromkeys(inventory.broker_hosts))
    return f"`fogguard pki init {inventory.pki} --fleet {inventory.fleet} --bundle {bundle} {hosts}`"
