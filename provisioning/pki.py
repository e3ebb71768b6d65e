"""A fleet's own certificates: a folder of plain PEM files, kept by whoever owns the fleet.

    ca.crt, ca.key            the fleet's certificate authority; its key never leaves this folder
    broker.crt, broker.key    the broker's, for its host names and addresses
    <name>.crt, <name>.key    one for each node and each sensor, and for those of ROLES
    signing.pub, signing.key  Ed25519, for bundles; devices get the public half

A certificate's common name is who its owner is to the broker. Nothing that is there is written again: what is
missing is made, so that removing `<name>.crt` and running again renews it, with its old key.
"""

import datetime
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from broker.topics import require_name
from provisioning.certificates import (
    Alternatives,
    Certificate,
    Key,
    PkiError,
    alternatives,
    fleet_of,
    is_issued_by,
    lacking,
    load_certificate,
    load_key,
    new_authority,
    new_certificate,
    new_key,
    new_signing_key,
    now,
    public_pem,
)

OPERATOR: Final = "operator"
FEEDER: Final = "feeder"
WATCHER: Final = "watcher"
WITNESS: Final = "witness"
OBSERVER: Final = "observer"
ROLES: Final = (OPERATOR, FEEDER, WATCHER, WITNESS, OBSERVER)
"""Commands nodes; stands for all sensors and hears the answers; hears everything, for eyes and for measurements."""
BROKER: Final = "broker"
CA: Final = "ca"
_SIGNING = "signing"
_RESERVED: Final = frozenset({*ROLES, BROKER, _SIGNING, CA})
_ALWAYS_NAMED: Final = ("localhost", "127.0.0.1", "::1")
SOON: Final = datetime.timedelta(days=60)


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the folder: files made now and kept, when each certificate ends, and which ones within SOON."""

    fleet: str
    made: list[str]
    kept: list[str]
    expires: dict[str, str]
    expiring: list[str]


def renewal(name: str) -> str:
    """Return what to do about a certificate that ends."""
    if name == CA:  # all others are worth nothing without it
        return "make a new folder with `fogguard pki init`, name it in fleet.toml, and sign the bundle with its key"
    return "remove it, and run `fogguard pki init` again"


def init(folder: Path, fleet: str, names: Sequence[str], hosts: Iterable[str] = ()) -> Inventory:
    """Make what is missing in `folder` for the nodes and sensors `names`; raises PkiError, and changes nothing then.

    Args:
        folder: Made if it is not there, for nobody but its owner.
        fleet: The fleet's name, in every certificate.
        names: Nodes and sensors.
        hosts: More names and addresses of the broker than those of the loopback.
    """
    for name in names:
        require_name(name, "node")
        if name.lower() in _RESERVED:
            raise PkiError(f"node {name!r} cannot have a certificate of that name, another has it: rename the node")
    if len({name.lower() for name in names}) < len(names):
        raise PkiError(f"two of the names {', '.join(names)} are one: each needs files of its own")
    served = alternatives([*_ALWAYS_NAMED, *hosts])
    try:
        return _Folder(folder, require_name(fleet, "fleet")).fill([*names, *ROLES], served)
    except OSError as error:
        raise PkiError(f"{folder}: cannot be written ({error.strerror})") from error


class _Folder:
    """A folder while it is being filled."""

    def __init__(self, path: Path, fleet: str) -> None:
        self._path = path
        self._fleet = fleet
        self._made: list[str] = []
        self._kept: list[str] = []

    def fill(self, clients: Sequence[str], served: Alternatives) -> Inventory:
        names = [CA, BROKER, *clients]
        self._require_sound(names, served)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority_key = self._key(CA)
        if self._is_missing("ca.crt"):
            self._write("ca.crt", new_authority(self._fleet, authority_key))
        authority = load_certificate(self._path / "ca.crt")
        for name in names[1:]:
            key = self._key(name)
            if self._is_missing(f"{name}.crt"):
                hosts = served if name == BROKER else None
                made = new_certificate(self._fleet, name, key, authority, authority_key, hosts)
                self._write(f"{name}.crt", made)
        if self._is_missing("signing.key"):
            self._write("signing.key", new_signing_key())
        if self._is_missing("signing.pub"):
            self._write("signing.pub", public_pem(load_key(self._path / "signing.key")))
        ends = {name: load_certificate(self._path / f"{name}.crt").not_valid_after_utc for name in names}
        return Inventory(
            fleet=self._fleet,
            made=self._made,
            kept=self._kept,
            expires={name: end.date().isoformat() for name, end in ends.items()},
            expiring=[name for name, end in ends.items() if end - now() < SOON],
        )

    def _require_sound(self, names: Sequence[str], served: Alternatives) -> None:
        """Refuse before the first file is written: what is there must be this fleet's, and whole."""
        there = {name: load_certificate(file) for name in names if (file := self._path / f"{name}.crt").exists()}
        for name in [*there, *([_SIGNING] if (self._path / "signing.pub").exists() else [])]:
            if not (self._path / f"{name}.key").exists():
                rest = f"{name}.pub" if name == _SIGNING else f"{name}.crt"
                raise PkiError(f"{self._path}: {name}.key is missing, but {rest} is there: put the key back")
        authority = there.get(CA)
        if authority is None and there:
            raise PkiError(f"{self._path}: ca.crt is missing, but {min(there)}.crt is there: put it back")
        for name, certificate in there.items():
            self._require_ours(name, certificate, authority or certificate)
        if BROKER in there and (hosts := lacking(there[BROKER], served)):
            raise PkiError(
                f"{self._path}: broker.crt is not for {', '.join(hosts)}: remove it, and run this with every --host"
            )

    def _require_ours(self, name: str, certificate: Certificate, authority: Certificate) -> None:
        file, key = self._path / f"{name}.crt", self._path / f"{name}.key"
        if fleet_of(certificate) != self._fleet:
            raise PkiError(f"{file} is of the fleet {fleet_of(certificate)!r}, not {self._fleet!r}")
        if not is_issued_by(certificate, authority):
            raise PkiError(f"{file} is not of this folder's ca.crt: remove it, and run this again")
        if public_pem(load_key(key)) != public_pem(certificate):
            raise PkiError(f"{key} is not the key of {file.name}: put the right one back, or remove both")

    def _key(self, name: str) -> Key:
        if self._is_missing(f"{name}.key"):
            self._write(f"{name}.key", new_key())
        return load_key(self._path / f"{name}.key")

    def _is_missing(self, name: str) -> bool:
        if (self._path / name).exists():
            self._kept.append(name)
            return False
        return True

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self._path / name, data, 0o600 if name.endswith(".key") else 0o644)
        self._made.append(name)


def write_whole(file: Path, data: bytes, mode: int) -> None:
    """Write a file that is whole or as it was, and never readable to more than `mode` says."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)  # left by a run that was killed
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as output:
            output.write(data)
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
