"""How a device is wired, seeded and booted: the commands, as plain data.

A device's disk is mounted in a mount namespace that only the device itself is in. So nothing is mounted on this
machine, and when the device's last process is gone, however it went, so are its mounts. Its root is an overlay: below,
a Debian base that all devices share and none can write; above, the device's own ext4 in a file.
"""

import shlex
from pathlib import Path
from typing import NamedTuple

from provisioning.lab.layout import BRIDGE, GATEWAY, USER, Device, Lab

DISK_SIZE = "4G"
REBOOT_STATUS = 133  # with this systemd-nspawn --keep-unit says that the device wants to boot again
Command = tuple[str, ...]


class Places(NamedTuple):
    """Where the things of one device are."""

    base: Path
    folder: Path
    cgroups: tuple[Path, ...]

    @property
    def image(self) -> Path:
        """The device's disk, a file with an ext4 in it."""
        return self.folder / "disk.img"

    @property
    def disk(self) -> Path:
        """Where the device has its disk mounted, in its own mount namespace."""
        return self.folder / "disk"

    @property
    def root(self) -> Path:
        """Where the device has its root, in its own mount namespace."""
        return self.folder / "root"

    @property
    def console(self) -> Path:
        """What the device prints while it boots."""
        return self.folder / "console.log"


def bridge_commands(lab: Lab) -> list[Command]:
    """Return what makes the lab's network."""
    inside = ("ip", "-n", lab.namespace)
    return [
        ("ip", "netns", "add", lab.namespace),
        (*inside, "link", "set", "lo", "up"),
        # an address of its own: else it takes the lowest of its ports', and changes when one is unplugged
        (*inside, "link", "add", BRIDGE, "address", "02:66:6f:67:00:00", "type", "bridge"),
        (*inside, "addr", "add", f"{GATEWAY}/24", "dev", BRIDGE),
        (*inside, "link", "set", BRIDGE, "up"),
    ]


def cable_commands(lab: Lab, device: Device) -> list[Command]:
    """Return what gives a device its network, and a cable to the bridge."""
    space = lab.namespace_of(device)
    bridge, inside = ("ip", "-n", lab.namespace, "link"), ("ip", "-n", space)
    ends = (
        *("add", device.port, "address", f"02:66:6f:67:01:{device.position:02x}", "type", "veth"),
        *("peer", "name", "eth0", "address", device.mac, "netns", space),
    )
    return [
        ("ip", "netns", "add", space),
        (*bridge, *ends),
        (*bridge, "set", device.port, "master", BRIDGE, "up"),
        (*inside, "link", "set", "lo", "up"),
        (*inside, "addr", "add", f"{device.address}/24", "dev", "eth0"),
        (*inside, "link", "set", "eth0", "up"),
    ]


def boot_command(lab: Lab, device: Device, places: Places, emulated: bool) -> Command:
    """Return what runs a device from its boot to its end, in cgroups and mounts of its own.

    The mounts are slaves: what is unmounted on this machine, such as another device's namespace, is unmounted here too.
    """
    nspawn = [
        *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--link-journal=no"),
        *("--resolv-conf=off", "--timezone=off", f"--machine={lab.name}-{device.name}", f"--hostname={device.name}"),
        *(f"--directory={places.root}", f"--network-namespace-path=/run/netns/{lab.namespace_of(device)}"),
    ]
    if emulated:  # its signal numbers are two lower inside
        nspawn.append("--kill-signal=SIGRTMIN+5")
    overlay = f"lowerdir={places.base},upperdir={places.disk}/upper,workdir={places.disk}/work"
    script = "\n".join(
        [
            *(f"echo $$ > {shlex.quote(str(cgroup / 'cgroup.procs'))}" for cgroup in places.cgroups),
            # the device's systemd wants pure cgroup2, also where this machine has the older kind
            "if [ $(stat -fc %T /sys/fs/cgroup) != cgroup2fs ]; then",
            "  umount -R -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            "fi",
            "mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd",  # where nspawn leaves locks and folders behind
            shlex.join(["mount", "-o", "loop,noatime", str(places.image), str(places.disk)]),
            shlex.join(["mount", "-t", "overlay", "overlay", "-o", overlay, str(places.root)]),
            "while :; do",
            f"  status=0; {shlex.join(nspawn)} || status=$?",
            f"  [ $status = {REBOOT_STATUS} ] || exit $status",
            f"  sync -f {shlex.quote(str(places.disk))}",  # systemd leaves that to us in a container
            "done",
        ]
    )
    return ("unshare", "--mount", "--propagation", "slave", "sh", "-euc", script)


class Seed(NamedTuple):
    """One file of a new disk: its path from the device's root, who owns it, and what it holds."""

    path: str
    owner: int
    mode: int
    content: str


def seeds(lab: Lab, device: Device, machine_id: str, host_key: tuple[str, str], login: str) -> list[Seed]:
    """Return the files that make a device itself: its names, its host key (private, public), who may log in."""
    hosts = ["127.0.0.1 localhost", *(f"{each.address} {each.name}" for each in lab.devices)]
    return [
        Seed("etc/hostname", 0, 0o644, f"{device.name}\n"),
        Seed("etc/hosts", 0, 0o644, "\n".join(hosts) + "\n"),
        Seed("etc/machine-id", 0, 0o444, f"{machine_id}\n"),
        Seed("etc/ssh/ssh_host_ed25519_key", 0, 0o600, host_key[0]),
        Seed("etc/ssh/ssh_host_ed25519_key.pub", 0, 0o644, host_key[1]),
        Seed(f"home/{USER}/.ssh/authorized_keys", 1000, 0o600, login),
    ]
