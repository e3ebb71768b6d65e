"""A yardstick of somebody else's that takes its turn beside our own measurements, on the same broker."""

import shlex
import subprocess
from typing import Final

import msgspec

from broker.errors import FogError
from broker.url import BrokerUrl

_LONGEST_S: Final = 600.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of a step that is alone under way, and steps a second of many at once."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    steps_per_s: float


_decode = msgspec.json.Decoder(Figures).decode


def measure_beside(command: str, url: BrokerUrl) -> Figures:
    """Run a command that measures a relay of its own and prints `Figures` as JSON; raises FogError if it does not.

    Args:
        command: As a shell would take it, without a shell; {host} and {port} stand for the broker's.
        url: Where the broker is.
    """

    def wrong(what: object) -> FogError:
        return FogError(f"--beside {command!r}: {what}")

    try:
        words = shlex.split(command.replace("{host}", url.host).replace("{port}", str(url.port)))
        done = subprocess.run(words, capture_output=True, timeout=_LONGEST_S, check=False)
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        raise wrong(error) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise wrong(f"ends with {done.returncode} and says: {said[-1]}")
    try:
        return _decode(done.stdout)
    except msgspec.DecodeError as error:
        raise wrong(f"does not print the figures as one JSON object: {error}") from error
