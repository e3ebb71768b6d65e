"""Until when the certificates of a device are valid, as the fleet's owner keeps them."""

import datetime
from pathlib import Path

from provisioning.certificates import PkiError, load_certificate
from provisioning.doctor import Finding, Level
from provisioning.inventory import Inventory
from provisioning.pki import BROKER, CA, SOON, renewal


def examine_certificates(inventory: Inventory, device: str, now: datetime.datetime) -> list[Finding]:
    """Return what is to be said of each certificate that `device` has or is to get; nothing without certificates."""
    if inventory.pki is None:
        return []
    names = [CA, *([BROKER] if inventory.broker_on(device) else []), *inventory.members(device)]
    return [_examine(inventory.pki / f"{name}.crt", now) for name in names]


def _examine(file: Path, now: datetime.datetime) -> Finding:
    try:
        end = load_certificate(file).not_valid_after_utc
    except PkiError as error:
        return Finding("certificate", "unfit", str(error), "`fogguard pki init` makes it")
    if end <= now:
        return Finding("certificate", "unfit", f"{file} expired on {end.date()}", renewal(file.stem))
    level: Level = "note" if end - now < SOON else "fits"
    return Finding("certificate", level, f"{file.name} until {end.date()}", renewal(file.stem))
