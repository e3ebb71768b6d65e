"""What the firmware of a Raspberry Pi tells its program vcgencmd; nothing on a machine that has none.

A Pi 5 tells its throttling and its power nowhere else. To read its power chip takes the firmware 23 ms (measured by
github.com/ml-energy/zeus, issue 273): no agent's own thread asks it (host_reader.py).
"""

import contextlib
import re
import shutil
import subprocess
from typing import Final

_PROGRAM: Final = "vcgencmd"
_COMMANDS: Final = ("get_throttled", "pmic_read_adc")
_PATIENCE_S: Final = 0.5
_CHANNEL: Final = re.compile(r"(\w+)_([AV]) (?:current|volt)\(\d+\)=(\d+\.\d+)\2")


def ask_firmware() -> dict[str, str]:
    """Return what it says to each command, by `vcgencmd COMMAND`."""
    if shutil.which(_PROGRAM) is None:
        return {}
    return {f"{_PROGRAM} {command}": _said(command) for command in _COMMANDS}


def _said(command: str) -> str:
    """Return what the firmware says, nothing if it does not say so in time."""
    try:
        asking = subprocess.Popen([_PROGRAM, command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError:
        return ""
    try:
        return asking.communicate(timeout=_PATIENCE_S)[0].strip()
    except subprocess.TimeoutExpired:
        asking.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # what hangs in the kernel does not even die
            asking.communicate(timeout=_PATIENCE_S)
        return ""


def pmic_w(text: str) -> float | None:
    """Return the power of all rails whose current and voltage `vcgencmd pmic_read_adc` tells, if there are any.

    VDD_CORE_A current(7)=6.22421000A
    VDD_CORE_V volt(15)=0.86173300V
    """
    channels = {(rail, unit): float(value) for rail, unit, value in _CHANNEL.findall(text)}
    rails = {rail for rail, unit in channels if unit == "A" and (rail, "V") in channels}
    return sum(channels[rail, "A"] * channels[rail, "V"] for rail in rails) if rails else None
