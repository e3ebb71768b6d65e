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
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text() if file.exists() else "0"
        epoch = max(int(text), above) + 1
        fresh = file.with_suffix(".new")
        with fresh.open("w") as output:
            output.write(str(epoch))
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(file)
    except OSError as error:
        raise EpochError(f"{file}: cannot keep the epoch there ({error.strerror}): choose another `state`") from error
    except ValueError as error:
        raise EpochError(
            f"{file}: {text[:20]!r} is no epoch: remove the file, the broker remembers the last one"
        ) from error
    return epoch
