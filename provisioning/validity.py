"""Until when the certificates of a device are valid, as the fleet's owner keeps them."""

import datetime
from pathlib import Path

from provisioning.certificates import PkiError, load_certificate
from provisioning.doctor import Finding
from provisioning.inventory import Inventory
from provisioning.pki import BROKER, SOON

_REMEDY = "remove it, and run `fogguard pki init` again"


def examine_certificates(inventory: Inventory, device: str, now: datetime.datetime) -> list[Finding]:
    """Return what is to be said of each certificate that `device` has or is to get; nothing without certificates."""
    if inventory.pki is None:
        return []
    node = inventory.devices[device].node
    names = ["ca", *([BROKER] if inventory.broker.device == device else []), *([node] if node else [])]
    return [_examine(inventory.pki / f"{name}.crt", now) for name in names]


def _examine(file: Path, now: datetime.datetime) -> Finding:
    try:
        end = load_certificate(file).not_valid_after_utc
    except PkiError as error:
        return Finding("certificate", "unfit", str(error), "`fogguard pki init` makes it")
    if end <= now:
        return Finding("certificate", "unfit", f"{file} expired on {end.date()}", _REMEDY)
    return Finding("certificate", "note" if end - now < SOON else "fits", f"{file.name} until {end.date()}", _REMEDY)
