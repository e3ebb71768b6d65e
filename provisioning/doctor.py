"""What fits on a device, what does not, and what to do about it. Pure: facts in, findings out."""

from typing import Final, Literal, NamedTuple

from provisioning.facts import Facts, Python
from provisioning.inventory import Device
from provisioning.units import BROKER

Level = Literal["fits", "note", "unfit"]
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 14)
_GLIBC: Final = (2, 28)  # manylinux_2_28, as onnxruntime's and numpy's wheels are
_SYSTEMD: Final = 247  # LoadCredential
_NEEDED_FLAGS: Final = {"x86_64": frozenset({"sse4_2", "popcnt", "ssse3"}), "aarch64": frozenset({"asimd"})}
_MEMORY_MB: Final = 200
_HOT_C: Final = 80.0
_UNDERVOLTED, _THROTTLED = 0b1, 0b110
_DAY_S: Final = 86_400


class Finding(NamedTuple):
    """One thing that was looked at: whether it fits, what it is, and what to do if it does not."""

    what: str
    level: Level
    detail: str
    remedy: str = ""


def chosen_python(facts: Facts) -> Python | None:
    """Return the newest interpreter that there are wheels for."""
    usable = [each for each in facts.pythons if each.is_whole and _is_supported(each)]
    return max(usable, key=lambda each: _number(each.version), default=None)


def examine(facts: Facts, device: Device, *, carries_broker: bool, now_s: float) -> list[Finding]:
    """Return all findings for a device but the room on its disk, which is a plan's affair: room.py."""
    return [
        _arch(facts, device),
        _system(facts),
        _python(facts),
        _cpu(facts),
        _root(facts, device),
        *_card(facts),
        _memory(facts),
        _clock(facts, now_s),
        *_heat(facts),
        *([_broker(facts)] if carries_broker else []),
        *_reach(facts),
    ]


def unfit(findings: list[Finding]) -> str:
    """Return in one sentence why nothing can be put on a device, or nothing."""
    return "; ".join(f"{each.detail}: {each.remedy}" for each in findings if each.level == "unfit")


def _arch(facts: Facts, device: Device) -> Finding:
    what = facts.model or facts.machine
    if facts.machine in _NEEDED_FLAGS and facts.bits == 32:
        return Finding("arch", "unfit", f"{what}: 32-bit system on a 64-bit processor", "flash the 64-bit image")
    if facts.machine not in _NEEDED_FLAGS:
        return Finding("arch", "unfit", f"{what}: no onnxruntime for {facts.machine}", "use a 64-bit ARM or x86 device")
    if device.arch and device.arch != facts.machine:
        return Finding(
            "arch", "unfit", f"{what} is {facts.machine}, the inventory says {device.arch}", "is it the right device?"
        )
    model = f"{facts.model}, " if facts.model else ""
    return Finding("arch", "fits", f"{model}{facts.machine}, {facts.cores} cores")


def _system(facts: Facts) -> Finding:
    name = f"{facts.os_name}{', Jetson Linux ' + facts.jetpack if facts.jetpack else ''}"
    if facts.glibc is None or facts.glibc < _GLIBC:
        found = "no glibc" if facts.glibc is None else "glibc {}.{}".format(*facts.glibc)
        return Finding("system", "unfit", f"{name}: {found}", "onnxruntime needs glibc 2.28")
    if facts.systemd is None or facts.systemd < _SYSTEMD:
        return Finding("system", "unfit", f"{name}: systemd {facts.systemd or 'missing'}", "install Debian 11 or later")
    return Finding("system", "fits", f"{name}, glibc {facts.glibc[0]}.{facts.glibc[1]}, systemd {facts.systemd}")


def _python(facts: Facts) -> Finding:
    if python := chosen_python(facts):
        return Finding("python", "fits", f"{python.version}, {python.path}")
    if halves := [each for each in facts.pythons if _is_supported(each)]:
        package = f"python{halves[0].version}"
        return Finding("python", "unfit", f"{halves[0].path} lacks half its library", f"sudo apt-get install {package}")
    if facts.pythons:
        found = ", ".join(each.version for each in facts.pythons)
        return Finding("python", "unfit", f"Python {found}", "it takes 3.10 to 3.14: Debian 12, Ubuntu 22.04 or later")
    return Finding("python", "unfit", "no Python 3", "sudo apt-get install python3")


def _cpu(facts: Facts) -> Finding:
    lacking = _NEEDED_FLAGS.get(facts.machine, frozenset()) - facts.cpu_flags
    if lacking:
        return Finding(
            "cpu", "unfit", f"the processor lacks {', '.join(sorted(lacking))}", "numpy needs it: use another device"
        )
    return Finding("cpu", "fits", "has what numpy and onnxruntime need")


def _root(facts: Facts, device: Device) -> Finding:
    if facts.is_root:
        return Finding("root", "fits", "root" if device.user == "root" else f"{device.user} with sudo")
    return Finding(
        "root", "unfit", f"sudo does not let {device.user} in", "--ask-sudo-password, or NOPASSWD in sudoers"
    )


def _card(facts: Facts) -> list[Finding]:
    if not facts.is_read_only:
        return []
    remedy = "is the card worn out? `sudo dmesg` tells; `sudo mount -o remount,rw /` if it was set so"
    return [Finding("card", "unfit", "the disk is read-only", remedy)]


def _memory(facts: Facts) -> Finding:
    detail = f"{facts.available_mb} of {facts.memory_mb} MB of memory available"
    if facts.memory_mb < _MEMORY_MB:
        return Finding("memory", "unfit", detail, f"an agent and its system need {_MEMORY_MB} MB")
    if facts.available_mb < _MEMORY_MB // 2:
        return Finding("memory", "note", detail, "an agent takes some 80 MB: end what else runs there")
    return Finding("memory", "fits", detail)


def _clock(facts: Facts, now_s: float) -> Finding:
    off_s = facts.clock_s - now_s
    if abs(off_s) > _DAY_S:
        behind = f"the clock is {abs(off_s) / _DAY_S:.0f} days {'behind' if off_s < 0 else 'ahead'}"
        return Finding("clock", "unfit", behind, f"sudo date -s @{now_s:.0f}, or let it reach a time server")
    detail = f"{off_s:+.0f} s from here, NTP {_NTP[facts.is_ntp_synchronised]}"
    return Finding("clock", "note" if abs(off_s) > 60 else "fits", detail, "certificates and logs want the right time")


_NTP: Final = {True: "synchronised", False: "not synchronised", None: "unknown"}


def _heat(facts: Facts) -> list[Finding]:
    found = []
    if facts.temperature_c is not None:
        level: Level = "note" if facts.temperature_c >= _HOT_C else "fits"
        found.append(Finding("heat", level, f"{facts.temperature_c:.0f} °C", "it will slow down: cool it"))
    bits = facts.throttled or 0
    for mask, words, remedy in (
        (_UNDERVOLTED, "too little voltage", "use the board's own power supply"),
        (_THROTTLED, "slowed down", "cool it, or give it a better power supply"),
    ):
        if bits & mask:
            found.append(Finding("power", "note", f"{words} now", remedy))
        elif bits & (mask << 16):
            found.append(Finding("power", "note", f"{words} since it started", remedy))
    return found


def _broker(facts: Facts) -> Finding:
    if other := next((each for each in facts.listening if each.unit != f"{BROKER}.service"), None):
        name = other.unit.removesuffix(".service") or other.process
        remedy = "end it, or give the fleet's broker another port"
        if other.unit == "mosquitto.service":
            remedy = "sudo systemctl mask --now mosquitto"
        return Finding("broker", "unfit", f"{name} listens on the port of the fleet's broker", remedy)
    if facts.mosquitto:
        return Finding("broker", "fits", facts.mosquitto)
    return Finding("broker", "note", "no mosquitto yet", "apply brings its packages")


def _reach(facts: Facts) -> list[Finding]:
    """Return which brokers do not answer a device that has an agent; before, none may be there yet."""
    if not (facts.current and facts.unreachable):
        return []
    detail = f"no broker answers it at {', '.join(facts.unreachable)}"
    return [Finding("broker", "note", detail, "is the device on that carries it? `fogguard provision status` tells")]


def _is_supported(python: Python) -> bool:
    return OLDEST_PYTHON <= _number(python.version) <= NEWEST_PYTHON


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
