"""What a device is: `scripts/facts.sh` says it in one round trip, and what it says is taken apart here.

Pure: the recorded words of real devices are its tests.
"""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Final

import msgspec

from broker.errors import FailureFound

Lines = list[str]


class FactsError(FailureFound):
    """A device says something else than was asked for."""


class Python(msgspec.Struct, frozen=True):
    """An interpreter: its file, its version, and whether its standard library is whole."""

    path: str
    version: str
    is_whole: bool = True


class Service(msgspec.Struct, frozen=True, omit_defaults=True):
    """How systemd sees a unit of ours, and at which broker its agent was last; a unit that is not there is inactive."""

    state: str
    is_enabled: bool
    restarts: int
    at: str = ""


class Listener(msgspec.Struct, frozen=True):
    """A process that listens on the broker's port, and the unit that it belongs to, if to any."""

    process: str
    unit: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A device at one moment; None is what it did not say.

    `unreachable` are the brokers, each `HOST port PORT`, that do not answer it;
    `home_free_mb` is None where the login's home is on the file system of /opt, whose is `disk_free_mb`;
    `sink` is that of the current bundle, `next` the release whose bundle the agent holds beside the one that it runs,
    while the fleet switches; `…_base` names all of a release but its bundle.
    """

    is_root: bool
    is_read_only: bool = False
    machine: str
    kernel: str
    bits: int
    os_id: str
    os_version: str
    os_name: str
    glibc: tuple[int, int] | None
    model: str
    jetpack: str
    cpu_flags: frozenset[str]
    cores: int
    memory_mb: int
    available_mb: int
    disk_free_mb: int
    home_free_mb: int | None = None
    clock_s: int
    is_ntp_synchronised: bool | None
    temperature_c: float | None
    throttled: int | None
    systemd: int | None
    pythons: tuple[Python, ...]
    mosquitto: str
    unreachable: tuple[str, ...] = ()
    listening: tuple[Listener, ...] = ()
    current: str
    previous: str
    current_bundle: str
    previous_bundle: str
    sink: str = ""
    next: str = ""
    current_base: str = ""
    previous_base: str = ""
    releases: frozenset[str]
    venvs: frozenset[str]
    changed: tuple[str, ...]
    files: dict[str, str]
    services: dict[str, Service]

    @property
    def has_power_chip(self) -> bool:
        """Whether it can tell what it draws, by way of its firmware: a Raspberry Pi 5, 500 or Compute Module 5."""
        return re.match(r"Raspberry Pi (Compute Module )?5", self.model) is not None


SCRIPT: Final = (resources.files("provisioning") / "scripts" / "facts.sh").read_text(encoding="utf-8")


def parse_facts(text: str) -> Facts:
    """Return the facts in what the script printed; raises FactsError."""
    sections = _sections(text)
    try:
        return _facts(sections)
    except (KeyError, ValueError, IndexError) as error:
        raise FactsError(f"said something unexpected ({error!r}): is it Linux, with a POSIX shell?") from error


def _sections(text: str) -> dict[str, Lines]:
    found: dict[str, Lines] = {}
    for line in text.splitlines():
        if line.startswith("@@ "):
            found[line[3:].strip()] = []
        elif found and line.strip():
            found[next(reversed(found))].append(line.strip())
    return found


def _facts(said: Mapping[str, Lines]) -> Facts:
    release = dict(line.split("=", 1) for line in said["os"] if "=" in line)
    os_of = {key: value.strip("\"'") for key, value in release.items()}
    memory = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in said["memory"]}
    return Facts(
        is_root=_first(said["uid"]) == "0",
        is_read_only=_is_read_only(said.get("root", [])),
        machine=_first(said["machine"]),
        kernel=_first(said["kernel"]),
        bits=int(_first(said["bits"]) or 0),
        os_id=os_of.get("ID", ""),
        os_version=os_of.get("VERSION_ID", ""),
        os_name=os_of.get("PRETTY_NAME", ""),
        glibc=_glibc(_first(said["libc"])),
        model=_first(said["model"]),
        jetpack=_jetpack(_first(said["jetpack"])),
        cpu_flags=frozenset(_first(said["cpu"]).partition(":")[2].split()),
        cores=int(_first(said["cores"]) or 0),
        memory_mb=memory["MemTotal"],
        available_mb=memory.get("MemAvailable", memory["MemTotal"]),
        disk_free_mb=_free_mb(_first(said["disk"])),
        home_free_mb=_apart(_first(said.get("home", [])), _first(said["disk"])),
        clock_s=int(_first(said["clock"])),
        is_ntp_synchronised={"yes": True, "no": False}.get(_first(said["ntp"])),
        temperature_c=max((_celsius(line) for line in said["temperature"]), default=None),
        throttled=_throttled(_first(said["throttled"])),
        systemd=int(found[1]) if (found := re.match(r"systemd (\d+)", _first(said["systemd"]))) else None,
        pythons=tuple(map(_python, said["pythons"])),
        mosquitto=_first(said["mosquitto"]),
        unreachable=tuple(said.get("unreachable", [])),
        listening=tuple(map(_listener, said.get("listening", []))),
        current=_first(said["current"]).rpartition("/")[2],
        previous=_first(said["previous"]).rpartition("/")[2],
        current_bundle=_first(said["current_bundle"]),
        previous_bundle=_first(said["previous_bundle"]),
        sink=_first(said.get("sink", [])),
        next=_first(said.get("next", [])).rpartition("/")[2],
        current_base=_first(said.get("current_base", [])),
        previous_base=_first(said.get("previous_base", [])),
        releases=frozenset(said["releases"]),
        venvs=frozenset(said["venvs"]),
        changed=tuple(line.rsplit(": ", 1)[0] for line in said["changed"]),
        files={path: sha256 for sha256, path in (line.split(maxsplit=1) for line in said["files"])},
        services=dict(filter(None, map(_service, said["services"]))),
    )


def _first(lines: Lines) -> str:
    return lines[0] if lines else ""


def _is_read_only(mounts: Lines) -> bool:
    """Return what the last line of /proc/mounts for the root says: `DEVICE / TYPE ro,…`; what is below it is hidden."""
    return bool(mounts) and "ro" in mounts[-1].split()[3].split(",")


def _free_mb(line: str) -> int:
    """Return what a line of `df -Pk` says is available."""
    return int(line.split()[3]) // 1024


def _apart(line: str, other: str) -> int | None:
    """Return what is available on one file system if it is not the other: another name, or another size."""
    is_apart = bool(line) and line.split()[:2] != other.split()[:2]
    return _free_mb(line) if is_apart else None


def _glibc(line: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"glibc (\d+)\.(\d+).*", line)
    return (int(found[1]), int(found[2])) if found else None


def _jetpack(line: str) -> str:
    """Return the release of Jetson Linux in the first line of /etc/nv_tegra_release; R36 is JetPack 6."""
    found = re.match(r"# (R\d+) \(release\), REVISION: ([\d.]+)", line)
    return f"{found[1]}.{found[2]}" if found else ""


def _celsius(line: str) -> float:
    return int(line) / 1000


def _throttled(line: str) -> int | None:
    """Return the firmware's bits: `throttled=0x50005`, or the number alone."""
    digits = line.rpartition("=")[2]
    return int(digits, 16) if digits else None


def _python(line: str) -> Python:
    path, version, abi = line.split()
    if version == "incomplete":
        return Python(path, path.rpartition("python")[2], is_whole=False)
    return Python(path, version, is_whole=not abi.split("-")[1].endswith("t"))  # no wheels for free-threaded ones


def _listener(line: str) -> Listener:
    process, _, unit = line.rpartition(" ") if line.endswith(".service") else (line, "", "")
    return Listener(process, unit)


def _service(line: str) -> tuple[str, Service] | None:
    values = dict(each.split("=", 1) for each in line.split() if "=" in each)
    if "Id" not in values:
        return None
    at = re.search(r"StatusText=.*, at (mqtts?://[^\s,]+)", line)
    is_enabled = values["UnitFileState"] == "enabled"
    service = Service(values["ActiveState"], is_enabled, int(values["NRestarts"]), at[1] if at else "")
    return values["Id"].removesuffix(".service"), service
