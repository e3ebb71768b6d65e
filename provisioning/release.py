"""A release: everything that a device needs for one bundle, in a folder named by its content.

    /opt/fogguard/
      venvs/<environment>/             numpy, onnxruntime, paho, msgspec: see wheels.py
      releases/<id>/                   id: the first 16 digits of SHA256SUMS' own hash
        SHA256SUMS
        agent                          starts it, and with --self-test only compares golden outputs
        agent.json                     its configuration
        wiring                         what the bundle must have in common with one that it is exchanged for
        sensor-<name>.json             that of each sensor's agent beside it
        brought/<name>/                what a sensor replays
        lib/                           fogguard's own code for devices, and packages for sensors
        bundle/                        manifest, signature, this node's graph, golden outputs of it and its sources
        venv -> ../../venvs/<environment>
      current -> releases/<id>         what runs, changed by one rename
      next -> releases/<id>            whose bundle the agent holds beside that, only while the fleet switches
      previous -> releases/<id>        what `fogguard provision rollback` goes back to

The same bundle, inventory and Python give the same bytes, so the same id.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from broker.tls import Tls
from edge_agent.bundle import MANIFEST, Bundle, Manifest
from edge_agent.config import Config, Source
from edge_agent.signature import SIGNATURE
from provisioning.inventory import Inventory
from provisioning.places import Place, SourcesError, brought, wheel_files
from provisioning.units import SIGNING_KEY, service_of, state_of

OPT: Final = "/opt/fogguard"
SUMS: Final = "SHA256SUMS"
_ID_DIGITS: Final = 16
_AGENT: Final = """\
#!/bin/sh
# Run this release's agent, wherever it is called from; the folder stays the same though `current` may move on.
cd "$(dirname "$(readlink -f "$0")")" || exit 1
export PYTHONPATH=lib PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
exec venv/bin/python -m edge_agent.command --config agent.json "$@"
"""


class Release(NamedTuple):
    """The files of a release, by their names in its folder, and the environment that it needs."""

    files: Mapping[str, bytes]
    environment: str

    @property
    def sums(self) -> bytes:
        """What `sha256sum -c` takes on the device."""
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(self.files.items())]
        return "".join(lines).encode()

    @property
    def id(self) -> str:
        """The name of its folder."""
        return hashlib.sha256(self.sums).hexdigest()[:_ID_DIGITS]

    @property
    def base(self) -> str:
        """The name of all but its bundle: releases that have it in common are exchanged while the agent runs."""
        rest = [line for line in self.sums.splitlines(keepends=True) if b"  bundle/" not in line]
        return hashlib.sha256(b"".join(rest)).hexdigest()[:_ID_DIGITS]

    def pack(self) -> bytes:
        """Return a tar of all files, the same bytes for the same release."""
        return pack({**self.files, SUMS: self.sums}, {"agent": 0o755})


def release_of(
    bundle: Bundle, inventory: Inventory, node: str, environment: str, sensors: Sequence[str] = (), arch: str = ""
) -> Release:
    """Return the release of one node, or sensor, and the `sensors` beside it, for a processor.

    Raises BundleDamaged if a file of the bundle is not what its manifest says, SourcesError if one that a sensor needs
    cannot be had.
    """
    share = sorted({name for member in (node, *sensors) for name in _share(bundle.manifest, member)})
    bundle.verify(share)
    signature = [SIGNATURE] if bundle.file(SIGNATURE).exists() else []
    files = {f"bundle/{name}": bundle.file(name).read_bytes() for name in [MANIFEST, *signature, *share]}
    for package in ("broker", "edge_agent"):
        files |= {f"lib/{package}/{name}": data for name, data in _code(package).items()}
    files["agent"] = _AGENT.encode()
    for member in (node, *sensors):
        if place := inventory.sources.get(member):
            files |= _brought(member, place, arch)
        config = msgspec.json.encode(_config(inventory, member, service_of(member, sensors)))
        name = f"sensor-{member}.json" if member in sensors else "agent.json"
        files[name] = msgspec.json.format(config, indent=1) + b"\n"
    files["environment"] = environment.encode() + b"\n"
    files["wiring"] = bundle.manifest.wiring.encode() + b"\n"
    return Release(files, environment)


def _share(manifest: Manifest, member: str) -> list[str]:
    """Return a node's graph and the golden outputs of it and its sources; a sensor's sources have none."""
    entry = manifest.entry(member)
    sources = [] if member in manifest.sensors else entry.inputs
    return [entry.file, entry.golden, *(manifest.entry(source).golden for source in sources)]


def _brought(sensor: str, place: Place, arch: str) -> dict[str, bytes]:
    """Return what a sensor needs beside its graph: what it replays, and its packages, unpacked."""
    files = {f"lib/{name}": data for wheel in place.wheels for name, data in wheel_files(Path(wheel), arch).items()}
    for option in brought(place):
        file = Path(str(place.options[option]))
        try:
            files[f"brought/{sensor}/{file.name}"] = file.read_bytes()
        except OSError as error:
            raise SourcesError(f"sources.{sensor}: {file}: cannot be read ({error.strerror})") from error
    return files


def _source(sensor: str, place: Place | None) -> Source | None:
    """Return what a sensor's agent is told: what was brought along is in its release, where it is started."""
    if place is None:
        return None
    there = {option: f"brought/{sensor}/{Path(str(place.options[option])).name}" for option in brought(place)}
    return Source(kind=place.kind, rate=place.rate, options={**place.options, **there})


def _config(inventory: Inventory, node: str, service: str) -> Config:
    credentials = {"ca": "ca.crt", "certificate": f"{node}.crt", "key": f"{node}.key"}
    tls = Tls(**{what: f"/run/credentials/{service}.service/{name}" for what, name in credentials.items()})
    return Config(
        node=node,
        bundle=f"{OPT}/current/bundle",
        next="" if node in inventory.sources else f"{OPT}/next/bundle",
        broker=inventory.broker_urls,
        fleet=inventory.fleet,
        state=f"/var/lib/{state_of(service)}",
        tls=tls if inventory.pki else None,
        verify_key=SIGNING_KEY if inventory.pki else "",
        source=_source(node, inventory.sources.get(node)),
        provider=inventory.provider_of(node),
    )


def _code(package: str) -> dict[str, bytes]:
    folder = Path(str(resources.files(package)))
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.py"))}


def pack(files: Mapping[str, bytes], modes: Mapping[str, int]) -> bytes:
    """Return a tar of `files` in their order, owned by root and of no particular time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), modes.get(name, 0o644), 1
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()
