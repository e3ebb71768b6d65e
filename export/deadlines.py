"""Deadlines that a fleet has measured, in place of those that a specification allows for."""

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec

from broker.errors import FogError


class DeadlinesError(FogError):
    """A file that does not tell a deadline for each node."""


class _Measured(msgspec.Struct):
    deadlines_ms: dict[str, float]


def load_deadlines(file: Path, nodes: Iterable[str]) -> dict[str, float]:
    """Return each node's deadline as `fogguard deadlines --json` wrote it; raises DeadlinesError."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_Measured).deadlines_ms
    except OSError as error:
        raise DeadlinesError(f"{file}: cannot be read ({error.strerror}): `fogguard deadlines` makes it") from error
    except msgspec.DecodeError as error:
        raise DeadlinesError(f"{file}: {error}: `fogguard deadlines` makes such a file") from error
    if set(found) != set(nodes):
        raise DeadlinesError(f"{file}: is for {', '.join(found) or 'no node'}, not for {', '.join(nodes)}")
    for node, deadline_ms in found.items():
        if not (math.isfinite(deadline_ms) and deadline_ms > 0):
            raise DeadlinesError(f"{file}: {node}: a deadline of {deadline_ms} ms is not positive")
    return {node: found[node] for node in nodes}
