"""Pin the host keys of a fleet's devices, each shown to a person first."""

from collections.abc import Callable

from broker.errors import FailureFound
from provisioning.connection import HostKey, fetch_host_key, jump_of
from provisioning.hosts import KnownHosts
from provisioning.inventory import Device, InventoryError
from provisioning.pki import write_whole


def jumps_of(devices: dict[str, Device]) -> dict[str, Device]:
    """Return the machines that devices are reached through: their keys are pinned first."""
    return {device.jump: jump_of(device) for device in devices.values() if device.jump}


def enrol(device: Device, known_hosts: KnownHosts, accept: Callable[[HostKey], bool]) -> HostKey:
    """Add a device's host key to `known_hosts` if it is new and `accept` says so.

    Raises RemoteError if it does not answer, FailureFound if its key is refused or another than the one pinned,
    InventoryError if `known_hosts` cannot be read or written.
    """
    key, file = fetch_host_key(device, known_hosts), known_hosts.file
    if key.state == "changed":
        raise FailureFound(
            f"{device.address} shows {key.fingerprint}, another key than the one enrolled: "
            f"if it was set up anew, remove its line from {file} first"
        )
    if key.state == "new":
        if not accept(key):
            raise FailureFound(f"{device.address}: its key {key.fingerprint} was not accepted")
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if before and not before.endswith("\n"):  # as some editors leave it
            before += "\n"
        try:
            write_whole(file, (before + key.line).encode(), 0o644)
        except OSError as error:
            raise InventoryError(f"{file}: cannot be written ({error.strerror})") from error
    return key
