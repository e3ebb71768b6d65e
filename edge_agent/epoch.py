"""The epoch: a counter on disk that grows with every connection, because a Raspberry Pi has no clock."""

import os
from pathlib import Path

from broker.errors import FogError


class EpochError(FogError):
    """The epoch cannot be kept."""


def next_epoch(file: Path, above: int = 0) -> int:
    """Return the first number above `above` and above the one in `file`, and keep it there; raises EpochError.

    It is on the disk before it is used, so that no two lives share one, even after a power cut.
    """
    epoch = max(last_epoch(file), above) + 1
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        with fresh.open("w") as output:
            output.write(str(epoch))
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(file)
    except OSError as error:
        raise EpochError(f"{file}: cannot keep the epoch there ({error.strerror}): choose another `state`") from error
    return epoch


def last_epoch(file: Path) -> int:
    """Return the number in `file`, 0 if there is none yet; raises EpochError."""
    try:
        text = file.read_text() if file.exists() else "0"
    except OSError as error:
        raise EpochError(f"{file}: cannot be read ({error.strerror}): choose another `state`") from error
    if not text.isdecimal():
        raise EpochError(f"{file}: {text[:20]!r} is no epoch: remove the file, the broker remembers the last one")
    return int(text)
