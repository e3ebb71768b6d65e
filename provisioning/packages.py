"""Debian packages for a device without internet: its own apt, run here.

What apt decides by is the list of installed packages, the sources and the keys of these: all three are taken from the
device, so that what comes is what `apt-get install` would have fetched there.
"""

import base64
import contextlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broker.errors import FailureFound
from broker.scratch import scratch
from provisioning.release import pack

_DEBIAN_ARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class PackagesError(FailureFound):
    """Packages for a device cannot be had."""


def download(state: str, machine: str, packages: tuple[str, ...]) -> bytes:
    """Return a tar of the .deb files that a device lacks for `packages`; raises PackagesError.

    `state` is what `scripts/package-state.sh` printed there.
    """
    by_hand = f"install them there by hand: sudo apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise PackagesError(f"this machine has no apt to fetch {', '.join(packages)} with: {by_hand}")
    with _root(state) as root:
        options = _options(root, _DEBIAN_ARCH[machine])
        for step in (["update"], ["install", "--yes", "--download-only", "--no-install-recommends", *packages]):
            command = ["apt-get", "-qq", *options, *step]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
            )
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["E: no reason given"]
                raise PackagesError(f"apt-get {step[0]} for the device failed ({lines[0][3:]}): {by_hand}")
        return pack({file.name: file.read_bytes() for file in sorted((root / "cache/archives").glob("*.deb"))}, {})


@contextlib.contextmanager
def _root(state: str) -> Iterator[Path]:
    """Yield a folder with the state of the device's apt, its keys included."""
    with scratch("apt") as root:
        root.chmod(0o755)  # apt becomes another user to download
        try:
            with tarfile.open(fileobj=io.BytesIO(base64.b64decode(state))) as tar:
                tar.extractall(root, filter="data")
        except (ValueError, tarfile.TarError) as error:
            raise PackagesError(f"the device's list of packages cannot be read ({error}): is it a Debian?") from error
        for folder in ("cache/archives/partial", "state/lists/partial", "etc/apt/preferences.d"):
            (root / folder).mkdir(parents=True)
        for file in [root / "etc/apt/sources.list", *(root / "etc/apt/sources.list.d").glob("*")]:
            if file.is_file():
                text = file.read_text(encoding="utf-8")
                for keys in ("/usr/share/keyrings", "/etc/apt/keyrings"):
                    text = text.replace(keys, f"{root}{keys}")
                file.write_text(text, encoding="utf-8")
        yield root


def _options(root: Path, arch: str) -> list[str]:
    values = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "Dir::State": root / "state",
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Cache": root / "cache",
        "Dir::Etc": root / "etc/apt",
        "Dir::Etc::sourcelist": root / "etc/apt/sources.list",
        "Dir::Etc::sourceparts": root / "etc/apt/sources.list.d",
        "Dir::Etc::trustedparts": root / "etc/apt/trusted.gpg.d",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    return [word for key, value in values.items() for word in ("-o", f"{key}={value}")]
