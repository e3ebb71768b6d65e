"""What the devices told of themselves while they were measured, as figures of a result. Pure."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from edge_agent.host import Host


class Look(NamedTuple):
    """How a device was at a moment of its own clock."""

    at_ns: int
    host: Host


def summarised(looks: Sequence[Look], steps: int, plug_w: Sequence[float] = ()) -> dict[str, Any]:
    """Return the figures of one device; what it does not tell is not there.

    Shares are over the whole time, heat and memory the most, clocks the least of it, power the mean. What its smart
    plug has told meanwhile is its rail `plug`.
    """
    first, last = looks[0], looks[-1]
    seconds = (last.at_ns - first.at_ns) / 1e9
    found: dict[str, Any] = {}
    if seconds > 0:
        found["agent_cpu_percent"] = 100 * (last.host.agent_cpu_s - first.host.agent_cpu_s) / seconds
        found["busy_percent"] = _busy_percent(first.host, last.host)
    for name in ("agent_mb", "temperature_c", "memory_mb", "most_mhz"):
        found[name] = max(_told(looks, name), default=None)
    for name in ("available_mb", "clock_mhz"):
        found[name] = min(_told(looks, name), default=None)
    throttled = [look.host.throttled for look in looks if look.host.throttled is not None]
    if throttled:
        found["throttled"] = [f"{bits:#x}" for bits in dict.fromkeys(throttled)]
    rails: dict[str, list[float]] = {"plug": [*plug_w]} if plug_w else {}
    for look in looks:
        for name, watts in look.host.power_w.items():
            rails.setdefault(name, []).append(watts)
    if rails and steps and seconds > 0:
        found["power_w"] = {name: statistics.mean(told) for name, told in rails.items()}
        found["power_readings"] = {name: len(told) for name, told in rails.items()}
        found["joules_per_step"] = {name: watts * seconds / steps for name, watts in found["power_w"].items()}
    return {name: value for name, value in found.items() if value is not None}


def _told(looks: Sequence[Look], name: str) -> list[float]:
    return [value for look in looks if (value := getattr(look.host, name)) is not None]


def _busy_percent(first: Host, last: Host) -> float | None:
    if None in (first.busy_s, last.busy_s, first.idle_s, last.idle_s):
        return None
    busy = (last.busy_s or 0) - (first.busy_s or 0)
    whole = busy + (last.idle_s or 0) - (first.idle_s or 0)
    return 100 * busy / whole if whole > 0 else None
