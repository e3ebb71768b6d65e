"""The programs that a lab is made with: which there must be, and how they are run."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from broker.errors import FailureFound
from provisioning.lab.layout import LabError

PACKAGE = {
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "qemu-aarch64-static": "qemu-user-static",
}
ALWAYS = ("ip", "tc", "unshare", "setsid", "mount", "mkfs.ext4", "ssh", "ssh-keygen", "systemd-nspawn")
_NEEDED = 1 << 21 | 1 << 12  # CAP_SYS_ADMIN, CAP_NET_ADMIN
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def require_root() -> None:
    """Raise LabError unless this is root, with all that root may do."""
    if os.geteuid():
        raise LabError("the lab makes network namespaces, mounts and disks: run it as root, with sudo")
    granted = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    if int(granted.split()[1], 16) & _NEEDED != _NEEDED:
        raise LabError("the lab makes network namespaces and mounts, which a container may only with --privileged")


def require(programs: Iterable[str]) -> None:
    """Raise LabError, naming every package to install, unless all `programs` are here."""
    missing = [each for each in programs if shutil.which(each, path=_PATH) is None]
    if missing:
        packages = sorted({PACKAGE[each] for each in missing})
        raise LabError(
            f"{', '.join(missing)}: not on this machine: apt-get install --no-install-recommends {' '.join(packages)}"
        )


def run(command: Sequence[str], stdin: str | None = None) -> str:
    """Run a program to its end and return what it printed; raises FailureFound with what it complained about."""
    done = attempt(command, stdin)
    if done.returncode:
        complaint = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise FailureFound(f"{' '.join(command[:6])}: {complaint[-400:]}")
    return done.stdout


def launch(command: Sequence[str], output: Path) -> None:
    """Start a program that goes on when this one has ended, and is nobody's child; `output` takes what it prints."""
    with output.open("wb") as file:
        forked = ["setsid", "--fork", *command]
        subprocess.run(
            forked, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd="/", env=_environment(), check=True
        )


def attempt(command: Sequence[str], stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, whatever comes of it."""
    return subprocess.run(
        command,
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": _PATH, "LC_ALL": "C.UTF-8"}
