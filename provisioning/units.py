"""What systemd runs on a device: the agent, and on some a broker, each with as few rights as it can live with.

Certificates and keys lie in folders named by their content, and the unit names that folder: so one rename of the unit
changes them all. systemd hands them to the service as credentials; no other process but root's can read them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from broker.mosquitto import ACL, CA, CERTIFICATE, CONFIG, EVERYWHERE, KEY, render_acl, render_open, render_secure
from edge_agent.bundle import Manifest
from provisioning.access import access_of
from provisioning.certificates import PkiError
from provisioning.inventory import Inventory

ETC: Final = "/etc/fogguard"
SIGNING_KEY: Final = f"{ETC}/signing.pub"
AGENT, BROKER, SENSOR = "fogguard-agent", "fogguard-broker", "fogguard-sensor-"
_BROKER_CREDENTIALS: Final = Path(f"/run/credentials/{BROKER}.service")

_HARDENING: Final = """\
DynamicUser=yes
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
PrivateDevices=yes
PrivateTmp=yes
PrivateUsers=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
RemoveIPC=yes
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""

_AGENT_UNIT: Final = """\
[Unit]
Description=fogguard agent{of}
Wants=network-online.target
After=network-online.target {broker}.service
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=/opt/fogguard/current/agent{arguments}
# It looks again which bundles it is to have.
ExecReload=/bin/sh -c 'kill -HUP ${{MAINPID}}'
# The watchdog has ended it: its last will cannot know that it hung. What stops a service is given no credentials, so
# root (+) reads them where they lie.
ExecStopPost=+/bin/sh -c '[ "$SERVICE_RESULT" != watchdog ] || exec /opt/fogguard/current/agent{arguments} --hung{keys}'
Restart=always
RestartSec=1
WatchdogSec=5
# It waits for its broker as long as it takes.
TimeoutStartSec=infinity
TimeoutStopSec=10
StateDirectory={state}
StateDirectoryMode=0700
{credentials}{hardening}{devices}
[Install]
WantedBy=multi-user.target
"""

# Groups mean nothing among users of its own; which devices there are, and who opens them, is the device's own rule.
# Until 252.7 systemd's ProtectClock allows the clock's device, and by that no other (systemd#18142); without it the
# clock stays out of reach all the same: no capability, and no @clock, which is @privileged.
_DEVICES: Final = """\
PrivateDevices=no
ProtectClock=no
PrivateUsers=no
SupplementaryGroups={groups}
"""

# The one node of a Raspberry Pi 5's firmware that takes vcgencmd's words and nothing else, if its kernel has it.
_POWER_CHIP: Final = """\
SupplementaryGroups=video
DeviceAllow=/dev/vcio_gencmd rw
BindPaths=-/dev/vcio_gencmd
"""

# What compiles for a processor of its own writes code and runs it, and places its threads and memory as it likes.
_COMPILING: Final = """\
MemoryDenyWriteExecute=no
SystemCallFilter=@resources
"""

_BROKER_UNIT: Final = """\
[Unit]
Description=fogguard's MQTT broker
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={mosquitto} -c {config}
Restart=always
RestartSec=1
{credentials}{hardening}
[Install]
WantedBy=multi-user.target
"""

Files = dict[str, bytes]


def service_of(member: str, sensors: Sequence[str]) -> str:
    """Return the service that runs a device's node, or one of the sensors beside it."""
    return f"{SENSOR}{member}" if member in sensors else AGENT


def state_of(service: str) -> str:
    """Return the folder below /var/lib of an agent's service; no two share one, for each is a user of its own."""
    return "fogguard" if service == AGENT else service


def agent_files(inventory: Inventory, node: str, sensors: Sequence[str] = (), *, has_power_chip: bool = False) -> Files:
    """Return what lies in /etc for a node, or sensor, and those beside it, the unit of each last; raises PkiError.

    The first may ask what the device draws, if that `has_power_chip`.
    """
    found = _files_of(inventory, node, AGENT, has_power_chip=has_power_chip)
    for sensor in sensors:
        found |= _files_of(inventory, sensor, service_of(sensor, sensors))
    return found


def _files_of(inventory: Inventory, node: str, service: str, *, has_power_chip: bool = False) -> Files:
    secrets: Files = {}
    anchor: Files = {}
    if inventory.pki:
        secrets = {name: _read(inventory.pki, name) for name in (CA, f"{node}.crt", f"{node}.key")}
        anchor = {SIGNING_KEY: _read(inventory.pki, "signing.pub")}
    folder = _folder(service.removeprefix("fogguard-"), secrets)
    place = inventory.sources.get(node) or next(each for each in inventory.devices.values() if each.node == node)
    devices = _POWER_CHIP if has_power_chip else ""
    if place.groups:
        devices = _DEVICES.format(groups=" ".join(place.groups))
    unit = _AGENT_UNIT.format(
        of="" if service == AGENT else f" of sensor {node}",
        arguments="" if service == AGENT else f" --config sensor-{node}.json",
        broker=BROKER,
        state=state_of(service),
        credentials=_credentials(folder, secrets),
        keys=f" --keys {folder}" if secrets else "",
        hardening=_HARDENING,
        devices=devices + ("" if inventory.provider_of(node).is_cpu else _COMPILING),
    )
    return {**anchor, **_in(folder, secrets), unit_file(service): unit.encode()}


def broker_files(inventory: Inventory, manifest: Manifest, mosquitto: str, port: int) -> Files:
    """Return what lies in /etc for a broker, its unit last; raises PkiError if a certificate is not there."""
    secrets: Files = {}
    config = render_open(EVERYWHERE, port)
    if inventory.pki:
        secrets = {name: _read(inventory.pki, name) for name in (CA, CERTIFICATE, KEY)}
        secrets[ACL] = render_acl(access_of(manifest, inventory.fleet, inventory.heard)).encode()
        config = render_secure(EVERYWHERE, port, manifest.message_bytes, _BROKER_CREDENTIALS)
    folder = _folder("broker", {**secrets, CONFIG: config.encode()})
    unit = _BROKER_UNIT.format(
        mosquitto=mosquitto,
        config=f"{folder}/{CONFIG}",
        credentials=_credentials(folder, secrets),
        hardening=_HARDENING,
    )
    return {**_in(folder, {**secrets, CONFIG: config.encode()}), unit_file(BROKER): unit.encode()}


def unit_file(service: str) -> str:
    """Return where the unit of a service lies."""
    return f"/etc/systemd/system/{service}.service"


def mode_of(path: str) -> int:
    """Return how a file in /etc is protected: keys and rules are root's alone."""
    return 0o600 if path.endswith((".key", f"/{ACL}")) else 0o644


def _folder(what: str, files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)} ".encode() + data)
    return f"{ETC}/{what}-{digest.hexdigest()[:16]}"


def _in(folder: str, files: Mapping[str, bytes]) -> Files:
    return {f"{folder}/{name}": data for name, data in files.items()}


def _credentials(folder: str, secrets: Mapping[str, bytes]) -> str:
    return "".join(f"LoadCredential={name}:{folder}/{name}\n" for name in secrets)


def _read(pki: Path, name: str) -> bytes:
    try:
        return (pki / name).read_bytes()
    except OSError as error:
        raise PkiError(f"{pki} holds no {name}: make it with `fogguard pki init {pki} --bundle …`") from error
