"""How this device is right now: memory, load, heat, clock frequency, throttling, power; silent where nothing tells.

Read only when the operator asks: some of these files take a bus that is slow.

    /proc, /sys, vcgencmd ── their texts ──► `parse_host`, pure ──► Host
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from edge_agent.firmware import ask_firmware, pmic_w
from edge_agent.host import Host

_FILES: Final = (
    "proc/meminfo",
    "proc/stat",
    "proc/self/status",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpu*/cpufreq/cpuinfo_max_freq",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/class/hwmon/hwmon*/name",
    "sys/class/hwmon/hwmon*/in*_label",
    "sys/class/hwmon/hwmon*/in*_input",
    "sys/class/hwmon/hwmon*/curr*_input",
    "sys/class/hwmon/hwmon*/power*_label",
    "sys/class/hwmon/hwmon*/power*_input",
)
_USER_TICKS, _IDLE, _IO_WAIT = slice(1, 9), 4, 5
_THROTTLED: Final = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)")
_RAIL: Final = re.compile(r"(sys/class/hwmon/hwmon\d+)/(in|power)(\d+)_input")
Texts = Mapping[str, str]


def read_host(root: Path = Path("/")) -> Host:
    """Return how this device is."""
    return parse_host({**dict(_texts(root)), **ask_firmware()}, time.process_time(), os.sysconf("SC_CLK_TCK"))


def _texts(root: Path) -> Iterator[tuple[str, str]]:
    for pattern in _FILES:
        for file in sorted(root.glob(pattern)):
            with contextlib.suppress(OSError, UnicodeDecodeError):  # a sensor that is not ready, or not ours to read
                yield str(file.relative_to(root)), file.read_text().strip()


def parse_host(texts: Texts, agent_cpu_s: float, ticks_per_s: int) -> Host:
    """Return what these texts tell: files by their paths without the first slash, and what the firmware said."""
    memory, status = (_kilobytes(texts.get(f"proc/{name}", "")) for name in ("meminfo", "self/status"))
    ticks = [int(each) for each in texts.get("proc/stat", "").split("\n")[0].split()[_USER_TICKS]]
    idle = sum(ticks[_IDLE - 1 : _IO_WAIT])
    said = texts.get("vcgencmd get_throttled", "")  # a Pi 5 has no such file
    throttled = texts.get("sys/devices/platform/soc/soc:firmware/get_throttled", said)
    return Host(
        agent_cpu_s=agent_cpu_s,
        agent_mb=status.get("VmRSS"),
        available_mb=memory.get("MemAvailable"),
        memory_mb=memory.get("MemTotal"),
        busy_s=(sum(ticks) - idle) / ticks_per_s if ticks else None,
        idle_s=idle / ticks_per_s if ticks else None,
        temperature_c=_largest(texts, "/temp", 1e3),
        clock_mhz=_largest(texts, "/scaling_cur_freq", 1e3),
        most_mhz=_largest(texts, "/cpuinfo_max_freq", 1e3),
        throttled=int(found[1], 16) if (found := _THROTTLED.fullmatch(throttled)) else None,
        power_w=dict(_rails(texts)),
    )


def _kilobytes(text: str) -> dict[str, float]:
    """Return the MB of each `Name: 123 kB`."""
    words = (line.split() for line in text.splitlines())
    return {each[0].rstrip(":"): int(each[1]) / 1024 for each in words if len(each) == 3 and each[2] == "kB"}


def _largest(texts: Texts, ending: str, divisor: float) -> float | None:
    found = [int(text) / divisor for path, text in texts.items() if path.endswith(ending) and text.isdecimal()]
    return max(found, default=None)


def _rails(texts: Texts) -> Iterator[tuple[str, float]]:
    """Yield the power of each rail: as a sensor tells it in µW, or as mV times mA (the INA3221 of a Jetson).

    `PMIC` is the sum of a Raspberry Pi 5's, for none of them stands for the board.
    """
    if (board_w := pmic_w(texts.get("vcgencmd pmic_read_adc", ""))) is not None:
        yield "PMIC", board_w
    for path, text in texts.items():
        found = _RAIL.fullmatch(path)
        if found is None or not text.isdecimal():
            continue
        sensor, kind, number = found.groups()
        label = texts.get(f"{sensor}/{kind}{number}_label", f"{sensor.rpartition('/')[2]} {kind}{number}")
        current = texts.get(f"{sensor}/curr{number}_input", "")
        if kind == "power":
            yield label, int(text) / 1e6
        elif current.isdecimal() and texts.get(f"{sensor}/name", "").startswith("ina"):  # others count them apart
            yield label, int(text) * int(current) / 1e6
