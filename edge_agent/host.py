"""How a device is at one moment, as its agent tells the operator; proc.py reads it."""

import msgspec


class Host(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A device at one moment; None is what it does not tell.

    `agent_cpu_s` is the agent's processor time since its start, `busy_s` and `idle_s` that of all cores since boot.
    `throttled` are the bits of a Raspberry Pi's firmware (1 under-voltage, 2 frequency capped, 4 throttled, 8 too warm;
    16 bits higher: since boot). `power_w` is by the name of the rail.
    """

    agent_cpu_s: float = 0.0
    agent_mb: float | None = None
    available_mb: float | None = None
    memory_mb: float | None = None
    busy_s: float | None = None
    idle_s: float | None = None
    temperature_c: float | None = None
    clock_mhz: float | None = None
    most_mhz: float | None = None
    throttled: int | None = None
    power_w: dict[str, float] = {}
