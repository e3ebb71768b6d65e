"""A wheel of onnxruntime that the fleet's owner has, such as NVIDIA's for a Jetson, in place of the locked one.

Its file name says what it is for, as for every wheel: NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl. It has no hash that
was locked beforehand: what it is now is pinned, in the name of the environment that it is in.
"""

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from broker.errors import FogError

_PARTS: Final = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-(?P<pythons>[^-]+)-(?P<abis>[^-]+)-(?P<platforms>[^-]+)\.whl"
)
PACKAGE: Final = "onnxruntime"


class WheelError(FogError):
    """A wheel that is none, or is not for the device that it is to go to."""


class OwnWheel(NamedTuple):
    """A wheel: its file, the package's name, and what it is for, by the tags in its name."""

    file: Path
    name: str
    pythons: frozenset[str]
    abis: frozenset[str]
    platforms: frozenset[str]
    sha256: str
    unpacked_bytes: int

    @property
    def requirement(self) -> str:
        """Return the line that pip takes it by."""
        return f"{self.name} @ {self.file.resolve().as_uri()} --hash=sha256:{self.sha256}\n"

    def require_fits(self, python: str, arch: str) -> None:
        """Raise WheelError unless it is for a device with this Python and processor."""
        if not (self._fits_python(python) and any(_fits_platform(each, arch) for each in self.platforms)):
            tags = "-".join(".".join(sorted(each)) for each in (self.pythons, self.abis, self.platforms))
            raise WheelError(f"{self.file.name} is for {tags}, the device has Python {python} on {arch}")

    def _fits_python(self, python: str) -> bool:
        major, minor = map(int, python.split("."))
        if f"cp{major}{minor}" in self.pythons or f"py{major}" in self.pythons:
            return True
        stable = [found[1] for each in self.pythons if (found := re.fullmatch(rf"cp{major}(\d+)", each))]
        return "abi3" in self.abis and any(int(oldest) <= minor for oldest in stable)


def _fits_platform(platform: str, arch: str) -> bool:
    return platform == "any" or (platform.startswith(("linux", "manylinux")) and platform.endswith(f"_{arch}"))


def read_wheel(file: Path) -> OwnWheel:
    """Return what a wheel is; raises WheelError unless it brings the module `onnxruntime`."""
    parts = _PARTS.fullmatch(file.name)
    if parts is None:
        raise WheelError(f"{file}: not named as wheels are, NAME-VERSION-PYTHON-ABI-PLATFORM.whl: rename it")
    try:
        with zipfile.ZipFile(file) as archive:
            brings_it = f"{PACKAGE}/__init__.py" in archive.namelist()
            unpacked_bytes = sum(each.file_size for each in archive.infolist())
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise WheelError(f"{file}: cannot be read ({error.strerror})") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise WheelError(f"{file}: is not a whole wheel ({error}): copy it again") from error
    if not brings_it:
        raise WheelError(f"{file}: brings no {PACKAGE}: it is the only package that a device may have of your own")
    pythons, abis, platforms = (frozenset(parts[each].split(".")) for each in ("pythons", "abis", "platforms"))
    name = parts["name"].replace("_", "-").lower()
    return OwnWheel(file, name, pythons, abis, platforms, sha256, unpacked_bytes)
