"""How much room a plan takes on a device, and whether it is there. Pure but for the sizes of wheelhouses.

An archive lies below the login's home until it has been unpacked below /opt, one at a time. Often both are on one file
system, which has to hold both then.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from provisioning.deployment import Deployment
from provisioning.doctor import Finding
from provisioning.facts import Facts
from provisioning.plan import Step
from provisioning.wheels import Target, sizes

_MB: Final = 1 << 20
_SPARE_BYTES: Final = 20 * _MB
"""For links, byte code, the journal: no device works with a disk that is full to the last byte."""
_BLOCK_BYTES: Final = 4096
_MOSQUITTO: Final = (2 * _MB, 10 * _MB)
_A_RELEASE: Final = (10 * _MB, 10 * _MB)
_LOW_MB: Final = 60


class Room(NamedTuple):
    """The bytes that a plan takes below /opt, and below the login's home if that is another file system."""

    opt: int
    home: int | None = None

    @classmethod
    def of(cls, parts: Iterable[tuple[int, int]], facts: Facts) -> "Room":
        """Return what archives of so many bytes take that unpack to so many, one after the other."""
        archives, unpacked = zip(*parts, strict=True) if (parts := tuple(parts)) else ((0,), (0,))
        brought, kept = max(archives), sum(unpacked) + _SPARE_BYTES
        return cls(brought + kept) if facts.home_free_mb is None else cls(kept, brought)


NONE: Final = Room(0)


def room_of(steps: Iterable[Step], deployment: Deployment, facts: Facts) -> Room:
    """Return what the steps of a plan take."""
    names = [step.name for step in steps]
    return Room.of(_parts(names, deployment), facts) if names else NONE


def _parts(names: Iterable[str], deployment: Deployment) -> Iterator[tuple[int, int]]:
    for name in names:
        if name == "packages":
            yield _MOSQUITTO
        elif name == "environment":
            yield sizes(deployment.target)
        elif name == "release" and deployment.release:
            files = deployment.release.files.values()
            yield len(deployment.release.pack()), sum(len(data) + _BLOCK_BYTES for data in files)


def room_of_any(target: Target, facts: Facts) -> Room:
    """Return what a fleet's first bundle takes, or another one, as far as that can be told without seeing it."""
    environment = [] if target.environment in facts.venvs else [sizes(target)]
    return Room.of([*environment, _A_RELEASE, _MOSQUITTO], facts)


def examine_room(facts: Facts, room: Room) -> list[Finding]:
    """Return whether there is room, on each file system that takes a part."""
    found = [_finding("of disk free", facts.disk_free_mb, room.opt)]
    if facts.home_free_mb is not None:
        found.append(_finding("free in the login's home", facts.home_free_mb, room.home or 0))
    return found


def _finding(what: str, free_mb: int, needed: int) -> Finding:
    detail = f"{free_mb} MB {what}"
    if free_mb * _MB < needed:
        return Finding("disk", "unfit", detail, f"make room: {megabytes(needed)} MB are needed")
    return Finding("disk", "fits" if free_mb >= _LOW_MB else "note", detail, "another bundle may not find room")


def megabytes(size: int) -> int:
    """Return whole megabytes, no fewer than it takes."""
    return -(-size // _MB)
