"""The wheelhouse: what a device needs beside its own Python, installed here for there.

    <cache>/wheels/<environment>/wheels/*.whl     as pip downloaded them, each with a hash of `locks/`
    <cache>/wheels/<environment>/site.tar.gz      installed for the target: a device only unpacks it

An environment is named by what is in it: Python, architecture and locked hashes. So two releases that need the same
share it, and one that changed has another name.
"""

import gzip
import hashlib
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from broker.errors import FailureFound, FogError
from provisioning.own_wheel import PACKAGE, OwnWheel

_PLATFORMS: Final = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
_LEFT_OUT: Final = frozenset({"tests", "__pycache__", "transformers", "quantization", "tools", "datasets", "bin"})
_LAYOUT: Final = "1"
_USUAL_BYTES: Final = (45 << 20, 125 << 20)
"""Of an archive as the locked wheels make it, and of what is in it."""
PYTHONS: Final = ("3.10", "3.11", "3.12", "3.13", "3.14")
ARCHES: Final = ("x86_64", "aarch64")


class WheelsError(FailureFound):
    """The wheelhouse for a device cannot be made."""


class Target(NamedTuple):
    """A kind of device: Python's version, the processor, and its owner's own onnxruntime, if any."""

    python: str
    arch: str
    own: OwnWheel | None = None

    @property
    def environment(self) -> str:
        """The name of what a device of this kind gets."""
        kind = f"Target(python={self.python!r}, arch={self.arch!r})"
        own = self.own.sha256 if self.own else ""
        digest = hashlib.sha256(f"{_LAYOUT} {kind} {lock(self.python)}{own}".encode()).hexdigest()
        return f"python{self.python}-{self.arch}-{digest[:12]}"

    @property
    def requirements(self) -> str:
        """What is installed for it: the locked wheels, or its own in place of one of them."""
        locked = lock(self.python)
        if self.own is None:
            return locked
        others = [each for each in re.split(r"(?m)^(?=\w)", locked) if not each.startswith(f"{PACKAGE}==")]
        return "".join(others) + self.own.requirement

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Return the target in `3.11-aarch64`; raises FogError."""
        python, _, arch = text.partition("-")
        if python not in PYTHONS or arch not in ARCHES:
            raise FogError(f"--target {text!r}: write PYTHON-ARCH, of {', '.join(PYTHONS)} and {', '.join(ARCHES)}")
        return cls(python, arch)


def lock(python: str) -> str:
    """Return the requirements with the hashes that devices with this Python may get."""
    name = "python3.10.txt" if python == "3.10" else "python3.11.txt"  # numpy and onnxruntime went on without 3.10
    return (resources.files("provisioning") / "locks" / name).read_text(encoding="utf-8")


def cache_folder() -> Path:
    """Return where downloads are kept: FOGGUARD_CACHE, or below the user's own cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FOGGUARD_CACHE") or Path(base) / "fogguard")


def wheelhouse(target: Target, say: Callable[[str], None]) -> Path:
    """Return the archive of site-packages for `target`, made if it is not there; raises WheelsError.

    What was downloaded is not downloaded again: after an interruption it goes on.
    """
    archive = _archive(target)
    folder = archive.parent
    if archive.exists():
        return archive
    say(f"wheels for Python {target.python} on {target.arch}: downloading, once")
    try:
        (folder / "wheels").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as name:
            requirements = Path(name) / "requirements.txt"
            requirements.write_text(target.requirements, encoding="utf-8")
            of_target = [*_pip_options(target, requirements), "--find-links", str(folder / "wheels")]
            _pip("download", "--dest", str(folder / "wheels"), *of_target)
            say(f"wheels for Python {target.python} on {target.arch}: installing them for the device")
            _pip("install", "--target", str(Path(name) / "site"), "--no-compile", "--no-index", *of_target)
            _pack(Path(name) / "site", Path(name) / "site.tar.gz")
            (Path(name) / "site.tar.gz").replace(archive)
    except OSError as error:
        raise WheelsError(f"{folder}: cannot be written ({error.strerror}): is the disk full?") from error
    return archive


def _archive(target: Target) -> Path:
    return cache_folder() / "wheels" / target.environment / "site.tar.gz"


def sizes(target: Target) -> tuple[int, int]:
    """Return the bytes of the archive for `target`, and those that it takes unpacked; an estimate until it is made.

    Byte code and the rest of each file's last block are counted in.
    """
    archive = _archive(target)
    try:
        packed = archive.stat().st_size
        with archive.open("rb") as content:
            content.seek(-4, os.SEEK_END)  # where gzip keeps the length of what it holds
            unpacked = int.from_bytes(content.read(), "little")
    except FileNotFoundError:
        own = target.own.unpacked_bytes if target.own else 0
        packed, unpacked = _USUAL_BYTES[0] + own, _USUAL_BYTES[1] + own
    return packed, unpacked + unpacked // 8


def _pip_options(target: Target, requirements: Path) -> list[str]:
    names = [*_PLATFORMS, "linux"] if target.own else _PLATFORMS
    platforms = [word for name in names for word in ("--platform", f"{name}_{target.arch}")]
    version = ("--python-version", target.python, "--implementation", "cp", "--only-binary=:all:", "--no-deps")
    return [*version, *platforms, "--require-hashes", "--requirement", str(requirements)]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["pip said nothing"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise WheelsError(f"pip {arguments[0]} failed on {platform.node()} ({errors[-1].removeprefix('ERROR: ')})")


def _pack(site: Path, archive: Path) -> None:
    """Write the same bytes for the same files, without what no agent imports."""
    files = [file for file in sorted(site.rglob("*")) if file.is_file()]
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            name = file.relative_to(site)
            if not _LEFT_OUT.intersection(name.parts):
                with file.open("rb") as content:
                    tar.addfile(_entry(file, str(name)), content)


def _entry(file: Path, name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = file.stat().st_size
    entry.mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
    entry.mtime = 1
    return entry
