"""Which kind of result a JSON file holds: told by its keys, as every command writes its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from broker.errors import FogError

Kind = Literal["phases", "drill", "accuracy", "failover", "latency", "stages", "soak", "switch", "evaluation"]
_KEYS: Final[dict[Kind, frozenset[str]]] = {
    "phases": frozenset(("phases",)),
    "drill": frozenset(("course", "masks", "plan")),
    "accuracy": frozenset(("masks", "average", "rows")),
    "failover": frozenset(("classes",)),
    "latency": frozenset(("floor", "each_round")),
    "stages": frozenset(("stages_ms", "wires_ms", "waterfall")),
    "soak": frozenset(("steps", "memory", "violations")),
    "switch": frozenset(("switches",)),
    "evaluation": frozenset(("variants", "settings", "chance")),
}


class NoResult(FogError):
    """A file holds no result that is known here."""


def read_result(file: Path) -> dict[str, Any]:
    """Read a result; raises NoResult."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise NoResult(f"{file}: cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoResult(f"{file}: no JSON object ({error})") from error


def kind_of(result: Mapping[str, Any], where: str) -> Kind:
    """Return what kind of result it is; raises NoResult."""
    for kind, keys in _KEYS.items():
        if keys <= result.keys():
            return kind
    raise NoResult(
        f"{where}: no result that is known here: those are what demo, run, drill, evaluate and bench accuracy, "
        "failover, latency, soak and switch write with --json"
    )
