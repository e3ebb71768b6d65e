"""Where the samples of each sensor come from, as `fleet.toml` says it, and what of that is brought to the device.

A sensor is an agent of its own, beside that of the node on its device: when the node's dies, what the sensor says still
goes past it. Its service has the rights of every agent of ours, so it sees no home folder and no device that its
`groups` do not open.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from broker.errors import FogError
from broker.topics import require_name
from edge_agent.config import Source, require_source
from edge_agent.kinds import STDIN
from edge_agent.sample import Leaf
from edge_agent.sources import BUILT_IN, find, rate_of

_UNSEEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
_GROUP: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_TAKEN: Final = ((), ("broker",), ("edge_agent",))  # the first is that of "."
_MAX_WHEEL_BYTES: Final = 256 << 20


class SourcesError(FogError):
    """A source in the inventory cannot be as it says."""


class Place(Source, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Where a sensor's samples come from, and what that takes: `wheels` of packages, and `groups` to open devices."""

    device: str
    wheels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether the device has samples; else the workstation feeds them."""
        return self.kind != "replay" or bool(self.options)


def brought(place: Place) -> tuple[str, ...]:
    """Return the options that name a file of this machine, which is brought along."""
    return ("file",) if place.kind == "replay" and "file" in place.options else ()


def require_sources(path: Path, sources: Mapping[str, Place]) -> None:
    """Raise SourcesError if the sources of an inventory cannot serve, or not together."""
    for name, place in sources.items():
        where = f"{path}: sources.{name}"
        require_name(name, f"{path}: sources")
        require_source(place, where)
        if place.kind in BUILT_IN and place.is_live:
            find(place.kind, place.options, Leaf(name, (1,)))
        files = {"file": STDIN, **place.options} if place.kind == "csv" else place.options
        for option in {"file", "path"} & files.keys() - {*brought(place)}:
            _require_visible(str(files[option]), f"{where}: {option}")
        require_groups(place.groups, where)
    rates = {name: rate_of(each.kind, each.rate) for name, each in sources.items() if each.is_live}
    if len(set(rates.values()) - {0.0}) > 1 or (len(rates) > 1 and 0.0 in rates.values()):
        told = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
        raise SourcesError(
            f"{path}: sensors put their samples into the same steps: give all sources the same rate, over 0 ({told})"
        )


def require_groups(groups: Iterable[str], where: str) -> None:
    """Raise SourcesError unless these can be groups of a device's users."""
    if bad := [group for group in groups if not _GROUP.fullmatch(group)]:
        raise SourcesError(f"{where}: {bad[0]!r} is not the name of a group")


def _require_visible(file: str, where: str) -> None:
    if file == STDIN:
        raise SourcesError(f"{where}: a service has no stdin: name a FIFO on the device, such as /srv/fogguard/iot")
    path = PurePosixPath(file)
    if not path.is_absolute() or ".." in path.parts:
        raise SourcesError(f"{where} {file!r}: write the whole path on the device")
    if any(path.is_relative_to(unseen) for unseen in _UNSEEN):
        raise SourcesError(
            f"{where} {file!r}: the agent's service sees nothing below {', '.join(_UNSEEN)}: put it below /srv"
        )


def wheel_files(wheel: Path, arch: str) -> dict[str, bytes]:
    """Return what is in a wheel, by its path below site-packages; raises SourcesError."""
    platform = wheel.stem.rpartition("-")[2]
    if wheel.suffix != ".whl" or not (platform == "any" or platform.endswith(f"_{arch}")):
        raise SourcesError(f"{wheel}: neither a wheel for every device nor for {arch}: `pip wheel` makes one")
    try:
        data = wheel.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(each.file_size for each in archive.infolist()) > _MAX_WHEEL_BYTES:
                raise SourcesError(f"{wheel}: over {_MAX_WHEEL_BYTES >> 20} MB when it is unpacked")
            files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except OSError as error:
        raise SourcesError(f"{wheel}: cannot be read ({error.strerror})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:  # by where it is damaged
        raise SourcesError(f"{wheel}: is not a whole wheel ({str(error) or 'it is cut'}): copy it again") from error
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\n" in name or path.parts[:1] in _TAKEN:
            raise SourcesError(f"{wheel}: {name!r} does not belong into a wheel")
    return files
