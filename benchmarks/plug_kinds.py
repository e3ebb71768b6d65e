"""What smart plugs of each kind say and understand over MQTT; the topic that switches one tells its kind. Pure.

| kind | switched at | asked at | says its Watts at |
| --- | --- | --- | --- |
| Tasmota | cmnd/NAME/POWER | cmnd/NAME/STATUS | stat/NAME/STATUS10: StatusSNS.ENERGY.Power |
| | | every 300 s | tele/NAME/SENSOR: ENERGY.Power |
| Shelly, first generation | shellies/ID/relay/0/command | shellies/ID/command | shellies/ID/relay/0/power |
| Shelly, later ones | PREFIX/command/switch:0 | PREFIX/command | PREFIX/status/switch:0: apower |
| Zigbee2MQTT | zigbee2mqtt/NAME/set | zigbee2mqtt/NAME/get | zigbee2mqtt/NAME: power |

Sources: tasmota.github.io/docs (Commands, `Status 10`), shelly-api-docs.shelly.cloud (gen1 and gen2, MQTT),
zigbee2mqtt.io (MQTT topics and messages).
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

Path = tuple[str, ...]
"""Where in a message's JSON a number stands; () is the whole message."""

_TASMOTA: Final = re.compile(r"(?P<before>|.+/)cmnd(?P<after>/|/.+/)power\d?", re.IGNORECASE)
_SHELLY_1: Final = re.compile(r"(?P<plug>shellies/.+)/relay/(?P<relay>\d)/command")
_SHELLY: Final = re.compile(r"(?P<plug>.+)/command/switch:(?P<switch>\d)")
_ZIGBEE: Final = re.compile(r"(?P<plug>zigbee2mqtt/.+)/set")


class Kind(NamedTuple):
    """What a plug understands as off and on, where it says its Watts, and what to say where to hear that at once."""

    off: bytes = b"off"
    on: bytes = b"on"
    readings: Mapping[str, Path] = {}
    question: tuple[str, bytes] | None = None


def kind_of(topic: str) -> Kind:
    """Return the kind of the plug that is switched at `topic`; one that nobody knows is switched and not read."""
    if found := _TASMOTA.fullmatch(topic):
        asked, said, told = (f"{found['before']}{prefix}{found['after']}" for prefix in ("cmnd", "stat", "tele"))
        readings: dict[str, Path] = {
            f"{told}SENSOR": ("ENERGY", "Power"),
            f"{said}STATUS10": ("StatusSNS", "ENERGY", "Power"),
        }
        return Kind(readings=readings, question=(f"{asked}STATUS", b"10"))
    if found := _SHELLY_1.fullmatch(topic):
        plug = found["plug"]
        return Kind(readings={f"{plug}/relay/{found['relay']}/power": ()}, question=(f"{plug}/command", b"update"))
    if found := _SHELLY.fullmatch(topic):
        plug, status = found["plug"], f"{found['plug']}/status/switch:{found['switch']}"
        return Kind(readings={status: ("apower",)}, question=(f"{plug}/command", b"status_update"))
    if found := _ZIGBEE.fullmatch(topic):
        plug = found["plug"]
        words = (b'{"state": "OFF"}', b'{"state": "ON"}')
        return Kind(*words, readings={plug: ("power",)}, question=(f"{plug}/get", b'{"power": ""}'))
    return Kind()


def watts(kind: Kind, topic: str, payload: bytes) -> float | None:
    """Return the Watts that a message of a plug tells, None if it tells none."""
    if topic not in kind.readings:
        return None
    try:
        found: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for name in kind.readings[topic]:
        found = found.get(name) if isinstance(found, dict) else None
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    return float(found) if is_number and math.isfinite(found) else None
